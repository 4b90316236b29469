"""The project's own form: JSON lines {"words": [...], "entities": [[start, end, type], ...]}, end exclusive."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from fewtable.data.readers import base
from fewtable.data.readers.base import RawSentence
from fewtable.errors import DataError
from fewtable.specs import Spec


class Options(Spec):
    """None."""


def read(paths: Sequence[Path], options: Options) -> Iterator[RawSentence]:
    """Yield the sentences; other keys (``id``) are not looked at. Entities may be nested.

    Raises:
        DataError: a line is malformed or an entity lies outside its sentence.
    """
    for path in paths:
        for number, row in base.json_lines(path):
            where = f"{path}:{number}"
            words = base.words_of(base.field(row, "words", list, where), where)
            found = set()
            for item in base.field(row, "entities", list, where):
                if not isinstance(item, list) or len(item) != 3:
                    raise DataError(f"not an entity: {item!r}", where=where, fix="write [start, end, type]")
                found.add(base.span(item[0], item[1], item[2], len(words), where))
            yield RawSentence(words, tuple(sorted(found)), where)
