"""JSON lines with tokens and nested entity mentions (GENIA as Yan et al. and others release it)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from fewtable.corpus import Entity
from fewtable.data.readers import base
from fewtable.data.readers.base import RawSentence
from fewtable.specs import Spec


class Options(Spec):
    """Names of the keys, and which mentions stay."""

    tokens: str = "tokens"
    mentions: str = "entity_mentions"
    start: str = "start"
    end: str = "end"
    """Key of the exclusive end."""
    type: str = "entity_type"
    outermost: bool = False
    """Drop mentions that lie inside another one."""


def read(paths: Sequence[Path], options: Options) -> Iterator[RawSentence]:
    """Yield the sentences; a mention given twice counts once.

    Raises:
        DataError: a line is malformed or a mention lies outside its sentence.
    """
    for path in paths:
        for number, row in base.json_lines(path):
            where = f"{path}:{number}"
            words = base.words_of(base.field(row, options.tokens, list, where), where)
            found = set()
            for item in base.field(row, options.mentions, list, where):
                start, end, kind = (
                    base.field(item, key, object, where) for key in (options.start, options.end, options.type)
                )
                found.add(base.span(start, end, kind, len(words), where))
            kept = outermost(found) if options.outermost else found
            yield RawSentence(words, tuple(sorted(kept)), where)


def outermost(entities: set[Entity]) -> set[Entity]:
    """Return the entities whose span does not lie inside another's; equal spans both stay."""
    return {e for e in entities if not any(o.start <= e.start and e.end <= o.end and o[:2] != e[:2] for o in entities)}
