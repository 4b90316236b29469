"""JSON lines of token lists and tags, as fetch writes hub rows (class ids already named) and as others release them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from fewtable.corpus import Scheme
from fewtable.data.readers import base
from fewtable.data.readers.base import RawSentence
from fewtable.errors import DataError
from fewtable.specs import Spec


class Options(Spec):
    """Names of the columns, the tag scheme, and which rows and pieces of rows are sentences."""

    tokens: str = "tokens"
    tags: str = "ner_tags"
    scheme: Scheme = "iob2"
    names: tuple[str, ...] = ()
    """Tag of label 0, 1, 2, ... where the tags are numbers."""
    only: dict[str, str] = Field(default_factory=dict)
    """Column -> the value that a row must have there; other rows are passed over."""
    cut_after: tuple[str, ...] = ()
    """Words that end a sentence, where a row is a longer text; a word inside an entity ends none."""


def read(paths: Sequence[Path], options: Options) -> Iterator[RawSentence]:
    """Yield one sentence a row, or a row's sentences; rows without tokens are passed over.

    Raises:
        DataError: a row is malformed, a label is no number of ``names``, or a tag cannot stand in the scheme.
    """
    for path in paths:
        for number, row in base.json_lines(path):
            where = f"{path}:{number}"
            if any(base.field(row, column, str, where) != value for column, value in options.only.items()):
                continue
            words = base.words_of(base.field(row, options.tokens, list, where), where)
            labels = base.field(row, options.tags, list, where)
            tags = _named(labels, options.names, where) if options.names else base.words_of(labels, where)
            if words or tags:
                sentence = base.tagged(words, tags, options.scheme, where)
                yield from base.pieces(sentence, (i + 1 for i, w in enumerate(words) if w in options.cut_after))


def _named(labels: Sequence[Any], names: Sequence[str], where: str) -> list[str]:
    for label in labels:
        if type(label) is not int or not 0 <= label < len(names):
            raise DataError(
                f"unknown label {label!r}",
                where=where,
                fix=f"labels are 0 to {len(names) - 1}; mend the line or the option 'names'",
            )
    return [names[label] for label in labels]
