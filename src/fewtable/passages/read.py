"""Raw text, document by document, in memory that does not grow: hub datasets, own files, registered datasets."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from fewtable.corpus import read_sentences
from fewtable.errors import DataError
from fewtable.passages.spec import HubText, TextSource, own_files

_BLOCK = 1 << 16  # characters of a .txt file that make a document, up to the next empty line


def documents(source: TextSource, data: Path) -> Iterator[str]:
    """Yield the documents of a source.

    Args:
        source: where they come from, and how many are taken.
        data: the folder of the datasets' normalised splits, ``DATASET/SPLIT.jsonl``.

    Raises:
        ConfigError: no file matches.
        DataError: the hub does not give the rows, or a file is not what it should be (with file:line).
    """
    if source.hub:
        found = _from_hub(source.hub)
    elif source.file:
        own = source.file
        found = (text for path in own_files(own) for text in _from_file(path, own.column))
    else:
        assert source.dataset is not None
        path = data / source.dataset.name / f"{source.dataset.split}.jsonl"
        found = (sentence.text for sentence in read_sentences(path))
    return islice(found, source.documents)


def _from_hub(source: HubText) -> Iterator[str]:
    try:
        import datasets
    except ImportError:
        raise DataError("the package 'datasets' is not installed", fix="pip install 'fewtable[data]'") from None
    where = f"hub {source.repo}@{source.revision}"
    files = {source.split: list(source.files)} if source.files else None
    try:
        rows = datasets.load_dataset(
            source.repo,
            source.config,
            split=source.split,
            revision=source.revision,
            data_files=files,
            streaming=True,
        )
        for number, row in enumerate(rows, 1):
            yield _text(row, source.column, f"{where}, row {number}")
    except DataError:
        raise
    except Exception as error:  # the library raises errors of many kinds, from those of the network to its own
        raise DataError(
            f"{type(error).__name__}: {error}"[:300],
            where=where,
            fix="run where the hub can be reached, or name a copy of yours under 'file'",
        ) from None


def _from_file(path: Path, column: str) -> Iterator[str]:
    if path.suffix.lower() == ".parquet":
        yield from _parquet(path, column)
    elif path.suffix.lower() == ".txt":
        yield from _blocks(path)
    else:
        for number, line in _lines(path):
            if line.strip():
                yield _text(_json(line, f"{path}:{number}"), column, f"{path}:{number}")


def _json(line: str, where: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"not JSON: {error.msg}", where=where) from None


def _text(row: Any, column: str, where: str) -> str:
    if not isinstance(row, dict):
        raise DataError("not a JSON object", where=where, fix=f'each line is {{"{column}": "..."}}')
    text = row.get(column)
    if not isinstance(text, str):
        wrong = f"'{column}' holds no text" if column in row else f"there is no '{column}'"
        raise DataError(wrong, where=where, fix=f"name another 'column'; there are {', '.join(map(str, row))}")
    return text


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line number, line) of a file, decompressed where its name ends in .zst."""
    import pyarrow as arrow

    number = 0
    try:
        with path.open("rb") as raw:
            packed = path.suffix.lower() == ".zst"
            stream = io.BufferedReader(arrow.CompressedInputStream(raw, "zstd"), 1 << 20) if packed else raw
            for number, line in enumerate(stream, 1):
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError:
        raise DataError("not UTF-8", where=f"{path}:{number}") from None
    except OSError as error:
        raise DataError(f"cannot be read on from this line: {error}"[:300], where=f"{path}:{number + 1}") from None


def _blocks(path: Path) -> Iterator[str]:
    """Yield a text's paragraphs, many at a time; a text without empty lines is split at line ends.

    What ``documents`` counts is such a block: the first that ends at an empty line after ``_BLOCK`` characters.
    """
    block: list[str] = []
    size = 0
    for _, line in _lines(path):
        block.append(line)
        size += len(line)
        if size >= _BLOCK and (not line.strip() or size >= 4 * _BLOCK):
            yield "".join(block)
            block, size = [], 0
    if any(map(str.strip, block)):
        yield "".join(block)


def _parquet(path: Path, column: str) -> Iterator[str]:
    import pyarrow as arrow
    from pyarrow import parquet

    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            if column not in (names := file.schema_arrow.names):
                fix = f"name another 'column'; there are {', '.join(names)}"
                raise DataError(f"there is no '{column}'", where=str(path), fix=fix)
            for batch in file.iter_batches(batch_size=256, columns=[column]):
                for row in batch.to_pylist():
                    number += 1
                    yield _text(row, column, f"{path}, row {number}")
    except (arrow.ArrowException, OSError) as error:
        raise DataError(f"not parquet, or broken after row {number}: {error}"[:300], where=str(path)) from None
