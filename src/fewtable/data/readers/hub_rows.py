"""JSON lines of hub rows as fetch writes them: token list and tag names (class ids already named)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from fewtable.corpus import Scheme
from fewtable.data.readers import base
from fewtable.data.readers.base import RawSentence
from fewtable.specs import Spec


class Options(Spec):
    """Names of the columns and the tag scheme."""

    tokens: str = "tokens"
    tags: str = "ner_tags"
    scheme: Scheme = "iob2"


def read(paths: Sequence[Path], options: Options) -> Iterator[RawSentence]:
    """Yield one sentence a row; rows without tokens are passed over.

    Raises:
        DataError: a row is malformed or a tag cannot stand in the scheme.
    """
    for path in paths:
        for number, row in base.json_lines(path):
            where = f"{path}:{number}"
            words = base.words_of(base.field(row, options.tokens, list, where), where)
            tags = base.words_of(base.field(row, options.tags, list, where), where)
            if words or tags:
                yield base.tagged(words, tags, options.scheme, where)
