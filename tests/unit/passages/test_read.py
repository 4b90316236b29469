"""Documents from every kind of source, and what is said of broken ones."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pyarrow as arrow
import pytest
import zstandard
from pyarrow import parquet
from pydantic import ValidationError

from fewtable.corpus import Sentence, write_sentences
from fewtable.errors import ConfigError, DataError
from fewtable.passages.read import documents
from fewtable.passages.spec import HubText, OwnText, PassagesSpec, TextSource, own_files

ROWS = [{"text": "One.", "n": 1}, {"text": "Zwei\n\nç.", "n": 2}]


def read(path: Path | str, column: str = "text", take: int | None = None) -> list[str]:
    return list(documents(TextSource(file=OwnText(path=str(path), column=column), documents=take), Path()))


def jsonl(path: Path, lines: list[str]) -> Path:
    content = "".join(line + "\n" for line in lines).encode()
    path.write_bytes(zstandard.compress(content) if path.suffix == ".zst" else content)
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.zst", "a.parquet"])
def test_a_column_of_a_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith(".parquet"):
        parquet.write_table(arrow.Table.from_pylist(ROWS), path)
    else:
        jsonl(path, [json.dumps(ROWS[0]), "", json.dumps(ROWS[1])])
    assert read(path) == ["One.", "Zwei\n\nç."]
    assert read(path, take=1) == ["One."]
    with pytest.raises(DataError, match="there is no 'body'") as caught:
        read(path, "body")
    assert caught.value.fix == "name another 'column'; there are text, n"
    with pytest.raises(DataError, match="'n' holds no text") as caught:
        read(path, "n")
    assert caught.value.where == (f"{path}, row 1" if name.endswith(".parquet") else f"{path}:1")


def test_zstandard_of_several_frames(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(b"".join(zstandard.compress(json.dumps(row).encode() + b"\n") for row in ROWS))
    assert read(path) == ["One.", "Zwei\n\nç."]


def test_a_text_file_comes_in_blocks_of_paragraphs(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    paragraphs = [f"Paragraph {i}. " + "word " * 400 + "\n\n" for i in range(100)]
    path.write_text("".join(paragraphs))
    found = read(path)
    assert "".join(found) == "".join(paragraphs)
    assert len(found) > 2 and all(block.startswith("Paragraph") for block in found)
    path.write_text("".join(f"A sentence of line {i}.\n" for i in range(40_000)))
    assert max(map(len, read(path))) < 300_000, "without empty lines too"


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.jsonl.zst"])
def test_a_byte_order_mark_is_no_text(tmp_path: Path, name: str) -> None:
    content = b"\xef\xbb\xbf" + (b"One." if name == "a.txt" else json.dumps(ROWS[0]).encode()) + b"\n"
    (tmp_path / name).write_bytes(zstandard.compress(content) if name.endswith(".zst") else content)
    assert [text.strip("\n") for text in read(tmp_path / name)] == ["One."]


@pytest.mark.parametrize("content", ["", "\n", " \n\n", "\ufeff"])
def test_an_empty_text_file_has_no_document(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.txt").write_text(content)
    assert read(tmp_path / "a.txt") == []


def test_brackets_and_capitals_in_a_path_are_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "notes [2024]?"
    folder.mkdir()
    (folder / "A.TXT").write_text("a")
    jsonl(folder / "B.JSONL", ['{"text": "b"}'])
    jsonl(folder / "C.jsonl.zst", ['{"text": "c"}']).rename(folder / "C.JSONL.ZST")
    parquet.write_table(arrow.Table.from_pylist(ROWS[:1]), folder / "D.Parquet")
    assert read(folder / "A.TXT") == ["a"]
    assert read(folder / "*") == ["a", "b", "c", "One."]


def test_a_star_stands_for_several_files_in_order(tmp_path: Path) -> None:
    for name in "bac":
        (tmp_path / f"{name}.txt").write_text(name)
    assert read(tmp_path / "*.txt") == ["a", "b", "c"]
    assert read(tmp_path / "*.txt", take=2) == ["a", "b"]


def test_files_that_are_not_there_or_not_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        own_files(OwnText(path=str(tmp_path / "*.txt")))
    (tmp_path / "a.csv").write_text("")
    with pytest.raises(ConfigError, match="not a kind of file that is read") as caught:
        own_files(OwnText(path=str(tmp_path / "a.csv")))
    assert caught.value.fix == "one of .txt, .jsonl, .jsonl.zst, .parquet"


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.zst"])
def test_broken_lines_are_named(tmp_path: Path, name: str) -> None:
    path = jsonl(tmp_path / name, ['{"text": "a"}', '{"text": '])
    with pytest.raises(DataError, match="not JSON") as caught:
        read(path)
    assert caught.value.where == f"{path}:2"
    with pytest.raises(DataError, match="not a JSON object") as caught:
        read(jsonl(path, ['{"text": "a"}', '{"text": "a"}', '["a"]']))
    assert caught.value.where == f"{path}:3"
    with pytest.raises(DataError, match="there is no 'text'") as caught:
        read(jsonl(path, ['{"body": "a"}']))
    assert caught.value.where == f"{path}:1"


def test_what_is_not_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"fine\n\xff\xfe\n")
    with pytest.raises(DataError, match="not UTF-8") as caught:
        read(tmp_path / "a.txt")
    assert caught.value.where == f"{tmp_path}/a.txt:2"


def test_broken_archives_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.zst"
    path.write_text('{"text": "not compressed"}\n')
    with pytest.raises(DataError, match="cannot be read on from this line") as caught:
        read(path)
    assert caught.value.where == f"{path}:1"
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match="not parquet") as caught:
        read(path)
    assert caught.value.where == str(path)


def test_an_archive_that_ends_early_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.zst"
    lines = "".join(json.dumps({"text": f"{i} " * 50}) + "\n" for i in range(5000)).encode()
    path.write_bytes(zstandard.compress(lines)[:-3000])
    with pytest.raises(DataError, match="Truncated compressed stream"):
        read(path)


def test_a_datasets_sentences(tmp_path: Path) -> None:
    found = [Sentence("train-000000", ("Ann", "left", "."), ()), Sentence("train-000001", ("b",), ())]
    write_sentences(tmp_path / "d" / "train.jsonl", found)
    source = TextSource.model_validate({"dataset": {"name": "d"}})
    assert list(documents(source, tmp_path)) == ["Ann left .", "b"]


# --- the hub: a folder stands for a repository ------------------------------------------------------


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "repo" / "train"
    folder.mkdir(parents=True)
    jsonl(folder / "00.jsonl.zst", [json.dumps(row) for row in ROWS])
    jsonl(folder / "01.jsonl.zst", [json.dumps({"text": "Three.", "n": 3})])
    return tmp_path / "repo"


def hub(repo: Path | str, **options: object) -> list[str]:
    source = HubText.model_validate({"repo": str(repo), "revision": "0" * 40, **options})
    return list(documents(TextSource(hub=source), Path()))


def test_the_hub_is_streamed(repository: Path) -> None:
    assert hub(repository) == ["One.", "Zwei\n\nç.", "Three."]
    assert hub(repository, files=["train/01*"]) == ["Three."]


def test_a_hub_that_fails_is_named(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="there is no 'body'") as caught:
        hub(repository, column="body")
    assert caught.value.where == f"hub {repository}@{'0' * 40}, row 1"
    with pytest.raises(DataError) as caught:
        hub(repository / "none")
    assert caught.value.where == f"hub {repository}/none@{'0' * 40}"
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match="'datasets' is not installed"):
        hub(repository)


# --- specs ------------------------------------------------------------------------------------------


def test_a_source_is_one_place() -> None:
    for wrong in ({}, {"file": {"path": "a"}, "dataset": {"name": "d"}}):
        with pytest.raises(ValidationError, match="exactly one of hub, file, dataset"):
            TextSource.model_validate(wrong)
    source = {"file": {"path": "a.txt"}}
    with pytest.raises(ValidationError, match="min_tokens 20 is above max_tokens 16"):
        PassagesSpec.model_validate({"sources": [source], "tokens": "words", "min_tokens": 20, "max_tokens": 16})
    with pytest.raises(ValidationError, match="at least 1 item"):
        PassagesSpec.model_validate({"sources": [], "tokens": "words"})
