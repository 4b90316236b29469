"""The project's own form: JSON lines {"words": [...], "entities": [[start, end, type], ...]}, end exclusive."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fewtable.data.readers import base
from fewtable.data.readers.base import RawSentence
from fewtable.errors import DataError
from fewtable.specs import Spec


class Options(Spec):
    """Names of the keys."""

    words: str = "words"
    entities: str = "entities"
    sentences: str | None = None
    """Key of the sentences [[start, end], ...] of a line that is a document (SciREX)."""


def read(paths: Sequence[Path], options: Options) -> Iterator[RawSentence]:
    """Yield the sentences; other keys (``id``) are not looked at. Entities may be nested.

    A document is cut at the ends of its sentences, but for those inside an entity.

    Raises:
        DataError: a line is malformed, or an entity or a sentence lies outside its words.
    """
    for path in paths:
        for number, row in base.json_lines(path):
            where = f"{path}:{number}"
            words = base.words_of(base.field(row, options.words, list, where), where)
            found = set()
            for item in base.field(row, options.entities, list, where):
                if not isinstance(item, list) or len(item) != 3:
                    raise DataError(f"not an entity: {item!r}", where=where, fix="write [start, end, type]")
                found.add(base.span(item[0], item[1], item[2], len(words), where))
            text = RawSentence(words, tuple(sorted(found)), where)
            if options.sentences is None:
                yield text
            else:
                yield from base.pieces(text, _ends(base.field(row, options.sentences, list, where), len(words), where))


def _ends(spans: Sequence[Any], length: int, where: str) -> Iterator[int]:
    for item in spans:
        if not isinstance(item, list) or len(item) != 2:
            raise DataError(f"not a sentence: {item!r}", where=where, fix="write [start, end]")
        yield base.span(item[0], item[1], "sentence", length, where).end
