"""CoNLL-2012 ``*_gold_conll`` (OntoNotes 5.0): many columns, named entities as brackets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from fewtable.corpus import Entity
from fewtable.data.readers import base
from fewtable.data.readers.base import RawSentence
from fewtable.errors import DataError
from fewtable.specs import Spec

_CELL = re.compile(r"(?:\(([^()*]+)(?:\*\)?|\))|\*\)?)")


class Options(Spec):
    """Columns of the word and of the named entity, from 0."""

    token: int = 3
    tag: int = 10


def read(paths: Sequence[Path], options: Options) -> Iterator[RawSentence]:
    """Yield the sentences. Lines that begin with # part documents.

    Raises:
        DataError: a line has too few columns, or brackets of entities do not match.
    """
    for path in paths:
        cells: list[tuple[int, str, str]] = []
        for number, text in base.lines(path):
            columns = text.split()
            if not columns or columns[0] in ("#begin", "#end"):
                if cells:
                    yield _sentence(path, cells)
                    cells = []
                continue
            if len(columns) <= max(options.token, options.tag):
                raise DataError(
                    f"{len(columns)} columns, but named entities stand in column {options.tag + 1}",
                    where=f"{path}:{number}",
                    fix="take the *_gold_conll files made by the CoNLL-2012 scripts",
                )
            cells.append((number, columns[options.token], columns[options.tag]))
        if cells:
            yield _sentence(path, cells)


def _sentence(path: Path, cells: Sequence[tuple[int, str, str]]) -> RawSentence:
    found: list[Entity] = []
    start, kind = -1, ""
    for position, (number, _, text) in enumerate(cells):
        cell = _CELL.fullmatch(text)
        opened = cell.group(1) if cell else None
        closes = bool(cell) and ")" in text
        if cell is None or (opened and kind) or (closes and not opened and not kind):
            raise DataError(
                f"unknown tag '{text}'" if cell is None else f"the bracket '{text}' has no counterpart",
                where=f"{path}:{number}",
                fix="named entities are (TYPE*, * and *), or (TYPE)",
            )
        if opened:
            start, kind = position, opened
        if closes:
            found.append(Entity(start, position + 1, kind))
            kind = ""
    if kind:
        raise DataError(
            f"the bracket '({kind}*' is not closed in its sentence",
            where=f"{path}:{cells[start][0]}",
            fix="named entities are (TYPE*, * and *), or (TYPE)",
        )
    return RawSentence(tuple(word for _, word, _ in cells), tuple(found), f"{path}:{cells[0][0]}")
