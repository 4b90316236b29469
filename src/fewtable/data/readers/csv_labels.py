"""CSV with one token a row, integer labels and columns that number the sentences (FiNER-ORD)."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from fewtable.corpus import Scheme
from fewtable.data.readers import base
from fewtable.data.readers.base import RawSentence
from fewtable.errors import DataError
from fewtable.specs import Spec


class Options(Spec):
    """Names of the columns, and the tag of each integer label."""

    tags: tuple[str, ...] = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG", "I-ORG")
    """Tag of label 0, 1, 2, ..."""
    token: str = "gold_token"
    label: str = "gold_label"
    sentence: tuple[str, ...] = ("doc_idx", "sent_idx")
    """Columns whose values together name a sentence."""
    scheme: Scheme = "iob2"


def read(paths: Sequence[Path], options: Options) -> Iterator[RawSentence]:
    """Yield the sentences: runs of rows with one value in the sentence columns.

    Raises:
        DataError: a column is missing, a row is short or long, a label is no number of ``tags``.
    """
    for path in paths:
        rows = _rows(path, options)
        for _, group in groupby(rows, key=lambda row: row[1]):
            members = list(group)
            words = [word for _, _, word, _ in members]
            tags = [tag for _, _, _, tag in members]
            yield base.tagged(words, tags, options.scheme, f"{path}:{members[0][0]}")


def csv_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, the named columns) of a CSV file with a header.

    Raises:
        DataError: a column is missing from the header, or a row has not as many cells as the header.
    """
    ends: list[int] = []

    def stream() -> Iterator[str]:
        for number, text in base.lines(path):
            ends.append(number)
            yield text + "\n"

    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(stream(), strict=True)
    line = 1
    try:
        header = next(reader, [])
        if missing := [c for c in columns if c not in header]:
            raise DataError(
                f"the header has no column '{missing[0]}'",
                where=f"{path}:1",
                fix=f"it has {', '.join(header) or 'nothing'}; mend the column names in the dataset's options",
            )
        indices = [header.index(c) for c in columns]
        line = ends[-1] + 1
        for cells in reader:
            if cells and len(cells) != len(header):
                raise DataError(
                    f"{len(cells)} cells, but the header has {len(header)}",
                    where=f"{path}:{line}",
                    fix="quote cells that hold a comma or a line break",
                )
            if cells:
                yield line, [cells[i] for i in indices]
            line = ends[-1] + 1
    except csv.Error as error:
        raise DataError(f"not CSV: {error}", where=f"{path}:{line}", fix="mend the quotes") from None


def _rows(path: Path, options: Options) -> Iterator[tuple[int, tuple[str, ...], str, str]]:
    """Yield (line number, sentence, token, tag)."""
    columns = (options.label, options.token, *options.sentence)
    for number, (label, token, *sentence) in csv_rows(path, columns):
        if not label.isascii() or not label.isdigit() or int(label) >= len(options.tags):
            raise DataError(
                f"unknown label '{label}'",
                where=f"{path}:{number}",
                fix=f"labels are 0 to {len(options.tags) - 1}; mend the line or the option 'tags'",
            )
        yield number, tuple(sentence), token, options.tags[int(label)]
