"""Every reader: what it reads, and each fault with file:line and a mend."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fewtable.corpus import Entity, Scheme, drop_overlaps, entities_to_tags
from fewtable.data.readers import (
    columns,
    conll2012,
    csv_labels,
    csv_spans,
    fewnerd_episodes,
    hou_episodes,
    hub_rows,
    jsonl,
    nested_json,
    parallel,
    stackoverflow,
    tweetner7,
)
from fewtable.data.readers.base import RawSentence
from fewtable.errors import DataError
from fewtable.registry import modules


def read(module: ModuleType, paths: list[Path], **options: Any) -> list[RawSentence]:
    return list(module.read(paths, module.Options(**options)))


def fails(module: ModuleType, paths: list[Path], where: str, what: str, **options: Any) -> None:
    with pytest.raises(DataError) as caught:
        read(module, paths, **options)
    assert caught.value.where is not None and caught.value.where.endswith(where), caught.value
    assert what in caught.value.what
    assert caught.value.fix


@pytest.fixture
def file(tmp_path: Path) -> Any:
    def write(text: str | bytes, name: str = "raw.txt") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_all_readers_are_registered() -> None:
    assert modules("data.readers") == (
        "columns",
        "conll2012",
        "csv-labels",
        "csv-spans",
        "fewnerd-episodes",
        "hou-episodes",
        "hub-rows",
        "jsonl",
        "nested-json",
        "parallel",
        "sentences",
        "stackoverflow",
        "tweetner7",
    )


# --- columns --------------------------------------------------------------------------------------


def test_columns_keep_last_sentence_without_newline_and_say_where(file: Any) -> None:
    path = file("\n\nA\tB-PER\nb\tI-PER\n\n\n\nc\tO\nD\tI-LOC")
    assert read(columns, [path]) == [
        RawSentence(("A", "b"), (Entity(0, 2, "PER"),), f"{path}:3", 1),
        RawSentence(("c", "D"), (Entity(1, 2, "LOC"),), f"{path}:8", 1),
    ]


def test_columns_crlf_and_line_like_characters_stay_in_the_token(file: Any) -> None:
    [sentence] = read(columns, [file("a\x85b\tO\r\nc\u2028d\re\tO\r\n\r\n")])
    assert sentence.words == ("a\x85b", "c\u2028d\re")


def test_a_byte_order_mark_is_no_part_of_the_first_word(file: Any) -> None:
    assert read(columns, [file(b"\xef\xbb\xbfa\tO\n")])[0].words == ("a",)


def test_columns_docstart_ends_a_sentence_and_is_dropped(file: Any) -> None:
    path = file("-DOCSTART- O\na O\n-DOCSTART- O\n\nb O\n")
    assert [s.words for s in read(columns, [path], separator="space", docstart=True)] == [("a",), ("b",)]
    assert next(s.words[0] for s in read(columns, [path], separator="space")) == "-DOCSTART-"


def test_columns_docstart_of_ebm_nlp_has_one_column(file: Any) -> None:
    path = file("--DOCSTART-- (10070173)\n\na\tNN\tO\tB-INT\n\n\n--DOCSTART-- (1)\n\nb\tNN\tO\tO\n")
    assert [s.words for s in read(columns, [path], docstart=True)] == [("a",), ("b",)]


def test_columns_tag_first_prefix_and_files_in_order(file: Any) -> None:
    first, second = file("O\ten:x\n", "1"), file("B-A\ten:y\n", "2")
    got = read(columns, [second, first], token=1, tag=0, token_prefix="en:")
    assert [s.words for s in got] == [("y",), ("x",)]
    fails(columns, [file("O\tde:x\n")], ":1", "does not start with 'en:'", token=1, tag=0, token_prefix="en:")


@pytest.mark.parametrize(("blank", "line"), [("tab", "\t"), ("space", "  ")])
def test_columns_blank_lines_of_white_space(file: Any, blank: str, line: str) -> None:
    path = file(f"a\tO\n{line}\nb\tO\n")
    assert [s.words for s in read(columns, [path], blank=blank)] == [("a",), ("b",)]
    fails(columns, [path], ":2", "")


def test_columns_lenient_iob2_opens_at_stray_i(file: Any) -> None:
    path = file("a\tI-X\nb\tI-Y\nc\tI-Y\n")
    assert read(columns, [path])[0].entities == (Entity(0, 1, "X"), Entity(1, 3, "Y"))
    assert read(columns, [path], scheme="iob2-strict")[0].entities == ()


@pytest.mark.parametrize(
    ("text", "where", "what", "options"),
    [
        ("a\tO\nb\n", ":2", "1 columns, but the lines before have 2", {}),
        ("a\tO\nb\tx\tO\n", ":2", "3 columns", {}),
        ("a\tO\nb\tB_PER\n", ":2", "unknown tag 'B_PER'", {}),
        ("a\tO\nb\tE-PER\n", ":2", "unknown tag 'E-PER'", {}),
        ("a\tO\nb\tX-PER\n", ":2", "unknown tag 'X-PER'", {"scheme": "bioes"}),
        ("a\t\n", ":1", "unknown tag ''", {"scheme": "io"}),
        ("a O\n", ":1", "same column", {}),
        ("a\tO\n", ":1", "names column 3", {"tag": 3}),
        ("a\tO\n", ":1", "names column -3", {"token": -3}),
        (b"a\tO\n\xff\tO\n", ":2", "not UTF-8", {}),
    ],
)
def test_columns_faults(file: Any, text: str, where: str, what: str, options: dict[str, Any]) -> None:
    fails(columns, [file(text)], where, what, **options)


def test_missing_file(tmp_path: Path) -> None:
    fails(columns, [tmp_path / "none.txt"], "none.txt", "cannot read")


WORD = st.text(st.characters(codec="utf-8", exclude_characters="\n\r\t "), min_size=1, max_size=5)


@st.composite
def sentences(draw: st.DrawFn) -> tuple[tuple[str, ...], tuple[Entity, ...]]:
    words = tuple(draw(st.lists(WORD, min_size=1, max_size=8)))
    spans = draw(
        st.lists(st.tuples(st.integers(0, 7), st.integers(1, 3), st.sampled_from(["A", "B-c", "d/e-f"])), max_size=4)
    )
    entities = [Entity(s, s + n, t) for s, n, t in spans if s + n <= len(words)]
    return words, tuple(sorted(drop_overlaps(entities)))


@pytest.mark.parametrize("scheme", ["iob2", "iob2-strict", "iob1", "bioes"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(corpus=st.lists(sentences(), min_size=1, max_size=4), final=st.booleans())
def test_columns_round_trip(
    tmp_path: Path, scheme: Scheme, corpus: list[tuple[tuple[str, ...], tuple[Entity, ...]]], final: bool
) -> None:
    groups = (
        "\n".join(f"{w}\t{t}" for w, t in zip(words, entities_to_tags(es, len(words), scheme), strict=True))
        for words, es in corpus
    )
    path = tmp_path / "raw"
    path.write_bytes(("\n\n".join(groups) + ("\n" if final else "")).encode())
    assert [(s.words, s.entities) for s in read(columns, [path], scheme=scheme)] == corpus


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(corpus=st.lists(sentences(), max_size=4))
def test_jsonl_round_trip(tmp_path: Path, corpus: list[tuple[tuple[str, ...], tuple[Entity, ...]]]) -> None:
    path = tmp_path / "raw"
    path.write_text("".join(json.dumps({"words": w, "entities": e}) + "\n" for w, e in corpus), encoding="utf-8")
    assert [(s.words, s.entities) for s in read(jsonl, [path])] == corpus


# --- other formats --------------------------------------------------------------------------------


def test_parallel(file: Any) -> None:
    words, tags, labels = file("a b\nc\n", "in"), file("O B-X\nO\n", "out"), file("i\nj\n", "label")
    got = read(parallel, [words, tags, labels])
    assert [(s.words, s.entities) for s in got] == [(("a", "b"), (Entity(1, 2, "X"),)), (("c",), ())]
    assert read(parallel, [words, tags]) == got
    fails(parallel, [words, file("O B-X\n", "short")], "short:2", "ends before line 2")
    fails(parallel, [words, file("O\nO\n", "few")], "few:1", "2 words but 1 tags")
    fails(parallel, [words, file("O Q\nO\n", "bad")], "bad:1", "unknown tag 'Q'")
    fails(parallel, [words], "in", "takes 2 files")


def test_stackoverflow_drops_pseudo_sentences(file: Any) -> None:
    pseudo = ["Question_ID : 7", "Question_URL : x", "Answer_to_Question_ID : 8", "CODE_BLOCK : Q_1"]
    text = "".join("".join(f"{w}\tO\t{w}\tO\n" for w in line.split()) + "\t\n" for line in [*pseudo, "Question_ID is"])
    path = file(text)
    assert [s.words for s in read(stackoverflow, [path])] == [("Question_ID", "is")]
    assert len(read(stackoverflow, [path], pseudo=True)) == 5
    fails(stackoverflow, [file("a\tO\ta\tO\nb\tO\n")], ":2", "2 columns")


HEADER = "gold_label,gold_token,doc_idx,sent_idx\n"


def test_csv_labels(file: Any) -> None:
    path = file(HEADER + '1,Bo,0,0\n2,",",0,0\n0,x,0,1\n5,Y,1,1\n')
    got = read(csv_labels, [path])
    assert [s.words for s in got] == [("Bo", ","), ("x",), ("Y",)]
    assert [s.entities for s in got] == [(Entity(0, 2, "PER"),), (), (Entity(0, 1, "ORG"),)]
    assert got[1].where == f"{path}:4"


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        (HEADER + "0,a,0,0\n7,b,0,0\n", ":3", "unknown label '7'"),
        (HEADER + "x,b,0,0\n", ":2", "unknown label 'x'"),
        (HEADER + "0,a,0\n", ":2", "3 cells, but the header has 4"),
        ("label,token\n", ":1", "no column 'gold_label'"),
        ("", ":1", "no column 'gold_label'"),
        (HEADER + '0,a,0,0\n0,"b"c,0,0\n', ":3", "not CSV"),
    ],
)
def test_csv_labels_faults(file: Any, text: str, where: str, what: str) -> None:
    fails(csv_labels, [file(text)], where, what)


def spans_file(file: Any, text: str, spans: object) -> Path:
    cell = json.dumps(spans, ensure_ascii=False).replace('"', '""')
    path: Path = file(f'ingredients,ingredients_entities\n"{text}","{cell}"\n')
    return path


def test_csv_spans_words_begin_and_end_where_entities_do(file: Any) -> None:
    spans = [{"start": 0, "end": 3, "type": "Q", "entity": "400"}, {"start": 3, "end": 4, "type": "U"}]
    [sentence] = read(csv_spans, [spans_file(file, "400g\nrum, dry", spans)])
    assert sentence.words == ("400", "g", "rum", ",", "dry")
    assert sentence.entities == (Entity(0, 1, "Q"), Entity(1, 2, "U"))


@pytest.mark.parametrize(
    ("spans", "what"),
    [
        ([{"start": 1, "end": 3, "type": "Q"}], "does not begin and end with a word"),
        ([{"start": 0, "end": 99, "type": "Q"}], "does not begin and end with a word"),
        ([{"start": 0, "end": 3}], "does not begin and end with a word"),
        ({"start": 0}, "not a list of objects"),
    ],
)
def test_csv_spans_faults(file: Any, spans: object, what: str) -> None:
    fails(csv_spans, [spans_file(file, "rum", spans)], ":2", what)
    fails(csv_spans, [file("ingredients,ingredients_entities\nrum,[\n")], ":2", "not JSON")


def test_tweetner7(file: Any) -> None:
    labels = file('{"B-person": 0, "I-person": 1, "O": 2}', "label.json")
    rows = file('{"tokens": ["a", "b"], "tags": [0, 1]}\n', "t.json")
    assert read(tweetner7, [rows, labels])[0].entities == (Entity(0, 2, "person"),)
    fails(tweetner7, [file('{"tokens": ["a"], "tags": [9]}\n'), labels], ":1", "unknown tag id 9")
    fails(tweetner7, [file('{"tokens": ["a"]}\n'), labels], ":1", "'tags' is missing")
    fails(tweetner7, [rows], "t.json", "takes 2 files")
    fails(tweetner7, [labels, rows], "t.json", "not a label map")


def test_nested_json_keeps_nested_and_outermost(file: Any) -> None:
    mentions = [[0, 3, "P"], [0, 1, "D"], [0, 3, "Q"], [4, 5, "D"], [4, 5, "D"]]
    row = {
        "tokens": list("abcde"),
        "entity_mentions": [{"start": s, "end": e, "entity_type": t} for s, e, t in mentions],
    }
    path = file(json.dumps(row))
    every = (Entity(0, 1, "D"), Entity(0, 3, "P"), Entity(0, 3, "Q"), Entity(4, 5, "D"))
    assert read(nested_json, [path])[0].entities == every
    assert read(nested_json, [path], outermost=True)[0].entities == every[1:]


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"tokens": ["a"], "entity_mentions": [{"start": 0, "end": 2, "entity_type": "P"}]}, "lies outside"),
        ({"tokens": ["a"], "entity_mentions": [{"start": 1, "end": 1, "entity_type": "P"}]}, "lies outside"),
        ({"tokens": ["a"], "entity_mentions": [{"start": "0", "end": 1, "entity_type": "P"}]}, "not an entity"),
        ({"tokens": ["a"], "entity_mentions": [{"start": 0, "end": 1}]}, "'entity_type' is missing"),
        ({"tokens": ["a"], "entity_mentions": [3]}, "stands where an object"),
        ({"tokens": "a", "entity_mentions": []}, "'tokens' is a str"),
        ({"tokens": [1], "entity_mentions": []}, "not a string"),
        ([], "not a JSON object"),
    ],
)
def test_nested_json_faults(file: Any, row: object, what: str) -> None:
    fails(nested_json, [file("\n" + json.dumps(row) + "\n")], ":2", what)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("{", "not JSON"),
        ('{"words": ["a"]}', "'entities' is missing"),
        ('{"words": ["a"], "entities": [[0, 1]]}', "not an entity"),
        ('{"words": ["a"], "entities": [[0, 2, "X"]]}', "lies outside"),
        ('{"words": ["a"], "entities": [[true, 1, "X"]]}', "not an entity"),
    ],
)
def test_jsonl_faults(file: Any, line: str, what: str) -> None:
    fails(jsonl, [file(line)], ":1", what)


def test_hub_rows(file: Any) -> None:
    path = file('{"tokens": ["a", "b"], "fine": ["x-y", "x-y"]}\n{"tokens": [], "fine": []}\n')
    assert read(hub_rows, [path], tags="fine", scheme="io")[0].entities == (Entity(0, 2, "x-y"),)
    assert len(read(hub_rows, [path], tags="fine", scheme="io")) == 1
    fails(hub_rows, [file('{"tokens": ["a"], "ner_tags": ["O", "O"]}')], ":1", "1 words but 2 tags")
    fails(hub_rows, [file('{"tokens": ["a"], "ner_tags": [0]}')], ":1", "not a string")


def test_hub_rows_with_numbers_for_tags(file: Any) -> None:
    path = file('{"tokens": ["a", "b", "c"], "ner_tags": [1, 2, 0]}')
    names = ("O", "B-x", "I-x")
    assert read(hub_rows, [path], names=names)[0].entities == (Entity(0, 2, "x"),)
    for label in ("3", "-1", "true", '"B-x"'):
        line = f'{{"tokens": ["a"], "ner_tags": [{label}]}}'
        fails(hub_rows, [file(line)], ":1", "unknown label", names=names)


def test_hub_rows_of_one_language(file: Any) -> None:
    rows = [{"tokens": [w], "ner_tags": ["O"], "language": w} for w in ("de", "en", "en")]
    path = file("\n".join(map(json.dumps, rows)))
    assert [s.where for s in read(hub_rows, [path], only={"language": "en"})] == [f"{path}:2", f"{path}:3"]
    fails(hub_rows, [path], ":1", "'lang' is missing", only={"lang": "en"})


def test_hub_rows_are_cut_after_words_that_end_a_sentence_but_not_inside_an_entity(file: Any) -> None:
    words = ["a", ".", "b", ".", "c", "?", "d"]
    tags = ["O", "O", "B-x", "I-x", "I-x", "O", "B-y"]
    path = file(json.dumps({"tokens": words, "ner_tags": tags}))
    assert [(s.words, s.entities) for s in read(hub_rows, [path], cut_after=(".", "?"))] == [
        (("a", "."), ()),
        (("b", ".", "c", "?"), (Entity(0, 3, "x"),)),
        (("d",), (Entity(0, 1, "y"),)),
    ]
    assert len(read(hub_rows, [path])) == 1


def test_jsonl_documents_are_cut_at_their_sentences(file: Any) -> None:
    row = {
        "words": ["a", "b", "c", "d", "e"],
        "ner": [[0, 1, "x"], [1, 3, "y"], [2, 3, "x"], [4, 5, "x"]],
        "spans": [[0, 2], [2, 4], [4, 5]],
    }
    path = file(json.dumps(row))
    got = read(jsonl, [path], entities="ner", sentences="spans")
    assert [s.words for s in got] == [("a", "b", "c", "d"), ("e",)]  # no cut inside the y
    assert [s.entities for s in got] == [
        (Entity(0, 1, "x"), Entity(1, 3, "y"), Entity(2, 3, "x")),
        (Entity(0, 1, "x"),),
    ]


@pytest.mark.parametrize(("span", "what"), [([0], "not a sentence"), ([0, 3], "lies outside"), ("0", "not a sentence")])
def test_jsonl_sentence_faults(file: Any, span: Any, what: str) -> None:
    path = file(json.dumps({"words": ["a", "b"], "entities": [], "spans": [span]}))
    fails(jsonl, [path], ":1", what, sentences="spans")


def onto(*tags: str) -> str:
    rows = (f"bc/x 0 {i} w{i} NN * - - - spk {tag} * -" for i, tag in enumerate(tags))
    return "#begin document (bc/x); part 000\n" + "\n".join(rows) + "\n\n#end document\n"


def test_conll2012(file: Any) -> None:
    path = file(onto("(ORG*", "*", "*)", "*", "(DATE)", "(GPE*)") + onto("*"))
    got = read(conll2012, [path])
    assert got[0].entities == (Entity(0, 3, "ORG"), Entity(4, 5, "DATE"), Entity(5, 6, "GPE"))
    assert got[0].words[:2] == ("w0", "w1") and len(got) == 2


@pytest.mark.parametrize(
    ("tags", "where", "what"),
    [
        (("*", "*)"), ":3", "no counterpart"),
        (("(ORG*", "(ORG*"), ":3", "no counterpart"),
        (("(ORG*", "*"), ":2", "not closed"),
        (("B-ORG",), ":2", "unknown tag 'B-ORG'"),
    ],
)
def test_conll2012_faults(file: Any, tags: tuple[str, ...], where: str, what: str) -> None:
    fails(conll2012, [file(onto(*tags))], where, what)
    fails(conll2012, [file("a b c\n")], ":1", "3 columns")


# --- episodes as sentences ------------------------------------------------------------------------


def test_fewnerd_episode_faults(file: Any) -> None:
    def line(types: list[str], label: str) -> str:
        part = {"word": [["a"]], "label": [[label]]}
        return json.dumps({"types": types, "support": part, "query": part}) + "\n"

    good = line(["x-y"], "x-y")
    assert len(read(fewnerd_episodes, [file(good, "test_1_1.jsonl")])) == 1
    fails(fewnerd_episodes, [file(good + line(["x-y"], "z"))], ":2", "none of the episode's types")
    fails(fewnerd_episodes, [file(good, "test_5_1.jsonl")], ":1", "5-way")
    broken = json.dumps({"types": ["x"], "support": {"word": [["a"]], "label": []}, "query": {}})
    fails(fewnerd_episodes, [file(broken)], ":1", "1 sentences but 0 rows")
    fails(fewnerd_episodes, [file('{"types": ["x"]}')], ":1", "'support' is missing")


def test_hou_episode_faults(file: Any) -> None:
    part = {"seq_ins": [["a", "b"]], "seq_outs": [["O", "B-x"]]}
    assert len(read(hou_episodes, [file(json.dumps({"News": [{"support": part, "batch": part}]}))])) == 1
    fails(hou_episodes, [file(json.dumps({"News": [{"support": part}]}))], ":News[0]", "'batch' is missing")
    bad = {"seq_ins": [["a"]], "seq_outs": []}
    fails(hou_episodes, [file(json.dumps({"N": [{"support": part, "query": bad}]}))], ":N[0]", "1 sentences but 0")
    short = {"seq_ins": [["a"]], "seq_outs": [["O", "O"]]}
    fails(hou_episodes, [file(json.dumps({"N": [{"support": short, "query": part}]}))], ":N[0]", "1 words but 2 tags")
    fails(hou_episodes, [file("[]")], "raw.txt", "not {domain")
    fails(hou_episodes, [file("{\n]")], ":2", "not JSON")
