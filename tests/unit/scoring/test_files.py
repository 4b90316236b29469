"""Files that people have: columns in all their shapes, JSONL, and errors that say where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fewtable.corpus import Entity
from fewtable.errors import ConfigError, DataError
from fewtable.scoring.files import SCORERS, read_scored, score_files

GOLD = "SOCCER O\nJAPAN B-LOC\n\nBob B-PER\nDylan I-PER\nsings O\n"
PRED = "SOCCER O\nJAPAN I-LOC\n\nBob B-PER\nDylan B-PER\nsings O\n"


def put(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


def read(folder: Path, text: str, **options: Any) -> list[tuple[tuple[str, ...] | None, tuple[Entity, ...]]]:
    return [(r.words, r.entities) for r in read_scored(put(folder, "f.txt", text), **options)]


@pytest.mark.parametrize(
    "text",
    [
        "a B-X\nb O\n\nc O\n",
        "a B-X\nb O\n\nc O",
        "a B-X\r\nb O\r\n\r\nc O\r\n",
        "a\tB-X\nb\tO\n\t\nc\tO\n\n\n",
        "\ufeffa B-X\nb O\n \nc O\n",
        "-DOCSTART- -X- -X- O\n\na NN B-NP B-X\nb NN I-NP O\n\n-DOCSTART- -X- -X- O\nc NN B-NP O\n",
        "a B-X \nb O\n-DOCSTART- O\nc O\n",
    ],
)
def test_shapes_of_column_files(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) == [(("a", "b"), (Entity(0, 1, "X"),)), (("c",), ())]


def test_words_with_spaces_and_line_separators(tmp_path: Path) -> None:
    text = "1 1/2\tB-X\nx\u2028y\u0085z\tO\n\u00a0\tO\n"
    assert read(tmp_path, text) == [(("1 1/2", "x\u2028y\u0085z", "\u00a0"), (Entity(0, 1, "X"),))]
    assert read(tmp_path, "x\u2028y B-X\n")[0][0] == ("x\u2028y",)


def test_type_names_with_hyphens_and_other_schemes(tmp_path: Path) -> None:
    assert read(tmp_path, "a B-location-other\nb I-location-other\n")[0][1] == (Entity(0, 2, "location-other"),)
    assert read(tmp_path, "a location-other\nb O\n", scheme="io")[0][1] == (Entity(0, 1, "location-other"),)
    assert read(tmp_path, "a S-X\nb B-Y\nc E-Y\n", scheme="bioes")[0][1] == (Entity(0, 1, "X"), Entity(1, 3, "Y"))


def test_a_word_that_looks_like_json(tmp_path: Path) -> None:
    assert read(tmp_path, "{ O\n} B-X\n") == [(("{", "}"), (Entity(1, 2, "X"),))]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a B-X\nb\n", "f.txt:2: a line without a tag"),
        ("a\tB-X\nb\t\n", "f.txt:2: a line without a tag"),
        ("a B-X\n\nb E-X\n", "f.txt:3: tag 'E-X' is not of scheme iob2"),
        ("a person\n", "f.txt:1: tag 'person' is not of scheme iob2"),
        ("a B-\n", "f.txt:1: tag 'B-' is not"),
        ("", "f.txt: no sentence in the file"),
        ("\n\n", "f.txt: no sentence in the file"),
        ('{"id": "x", "words": ["a"]}\n', "f.txt:1: neither a sentence nor a prediction"),
        ('{"id": "x", "words": ["a"], "entities": []}\n{"id"\n', "f.txt:2: not JSON"),
    ],
)
def test_malformed_files(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError) as error:
        read(tmp_path, text)
    assert message in str(error.value)


def test_missing_and_undecodable_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="file not found"):
        read_scored(tmp_path / "none.txt")
    (tmp_path / "latin.txt").write_bytes(b"a O\ncaf\xe9 O\n")
    with pytest.raises(DataError) as error:
        read_scored(tmp_path / "latin.txt")
    assert "latin.txt:2: not UTF-8" in str(error.value)


def test_every_scorer_on_columns(tmp_path: Path) -> None:
    gold, pred = put(tmp_path, "gold", GOLD), put(tmp_path, "pred", PRED)
    results = {name: score_files(gold, pred, name) for name in SCORERS}
    counts = {name: (r["tp"], r["fp"], r["fn"]) for name, r in results.items()}
    assert counts == {
        "strict": (1, 2, 1),
        "span": (1, 2, 1),
        "partial": (1.5, 1.5, 0.5),
        "conlleval": (1, 2, 1),
        "seqeval-default": (1, 2, 1),
        "seqeval-strict": (0, 2, 2),
        "uniner": (1, 2, 1),
        "uniner-partial": (1.5, 1.5, 0.5),
        "instructuie": (1, 2, 1),
        "instructuie-fixed": (1, 2, 1),
        "fewnerd": (2, 0, 0),
    }
    strict = results["strict"]
    assert strict["f1"] == pytest.approx(40.0)
    assert strict["types"]["LOC"] == {"precision": 100, "recall": 100, "f1": 100, "tp": 1, "fp": 0, "fn": 0}
    assert results["partial"]["boundary"]["ber"] == 50.0
    assert results["partial"]["types"]["PER"]["tp"] == 0.5
    assert set(results["fewnerd"]["rates"]) == {"fp", "fn", "within", "outer"}
    json.dumps(results, allow_nan=False)


def test_sentence_and_prediction_jsonl(tmp_path: Path) -> None:
    rows = [
        {"id": "test-000000", "words": ["a", "b"], "entities": [[0, 1, "X"]]},
        {"id": "test-000001", "words": ["c"], "entities": [[0, 1, "X"]]},
    ]
    gold = put(tmp_path, "gold.jsonl", "\n".join(map(json.dumps, rows)))
    found = [
        {"draw": draw, "id": row["id"], "entities": row["entities"] if draw == 1 else [], "dropped": []}
        for draw in (1, 2)
        for row in reversed(rows)
    ]
    pred = put(tmp_path, "pred.jsonl", "\n".join(map(json.dumps, found)))
    result = score_files(gold, pred)
    assert (result["sentences"], result["tp"], result["fp"], result["fn"]) == (4, 2, 0, 2)
    assert score_files(gold, gold)["f1"] == 100.0
    columns = put(tmp_path, "pred.txt", "a B-X\nb O\n\nc O\n")
    assert score_files(gold, columns)["tp"] == 1
    assert score_files(gold, columns, "seqeval-strict")["tp"] == 1


@pytest.mark.parametrize(
    ("gold", "pred", "message"),
    [
        ("a O\n\nb O\n", "a O\n", "gold:3: 2 sentences in gold, 1 in prediction"),
        ("a O\n", "a O\n\nb O\n", "pred:3: 1 sentences in gold, 2 in prediction"),
        ("a O\nb O\n", "a O\nc O\n", "word 2 is 'c' where gold has 'b'"),
        ("a O\n\nb O\n", "a O\n\nb O\nc O\n", "pred:3: 2 words where gold has 1"),
        ("a O\n", '{"id": "x", "entities": []}\n', "predictions without words need gold with ids"),
        ('{"id": "x", "entities": []}\n', "a O\n", "the gold file has no words"),
        ('{"id": "x", "words": ["a"], "entities": []}\n', '{"id": "y", "entities": []}\n', "pred:1: sentence 'y'"),
        (
            '{"id": "x", "words": ["a"], "entities": []}\n{"id": "y", "words": ["a"], "entities": []}\n',
            '{"id": "y", "entities": []}\n',
            "1 gold sentences have no prediction, first 'x'",
        ),
        (
            '{"id": "x", "words": ["a"], "entities": []}\n',
            '{"id": "x", "entities": [[0, 2, "X"]]}\n',
            "pred:1: entity [0, 2, 'X'] lies outside",
        ),
        (
            '{"id": "x", "words": ["a"], "entities": []}\n',
            '{"id": "x", "entities": []}\n{"id": "x", "entities": []}\n',
            "pred:2: sentence 'x' a second time",
        ),
    ],
)
def test_files_that_do_not_belong_together(tmp_path: Path, gold: str, pred: str, message: str) -> None:
    with pytest.raises(DataError) as error:
        score_files(put(tmp_path, "gold", gold), put(tmp_path, "pred", pred))
    assert message in str(error.value)


def test_unknown_scorer(tmp_path: Path) -> None:
    path = put(tmp_path, "gold", GOLD)
    with pytest.raises(ConfigError) as error:
        score_files(path, path, "seqeval")
    assert "did you mean" in str(error.value)
