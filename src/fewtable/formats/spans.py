"""Spans: the output is a list of [start, end, type], word indices, end exclusive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from fewtable.corpus import Entity
from fewtable.formats._tags import Wordwise
from fewtable.formats.base import Dropped, Parsed
from fewtable.literals import show


class Spans(Wordwise):
    """Spans as they are; overlapping ones stay."""

    kind: ClassVar[str] = "spans"

    def parse(self, words: Sequence[str], output: Any) -> Parsed:
        """Read the spans; causes: unparsed, unknown-type, unmatched (no words there), repeated."""
        if not isinstance(output, list | tuple):
            return Parsed((), (Dropped("unparsed", show(output)),))
        entities: set[Entity] = set()
        dropped: list[Dropped] = []
        for span in output:
            cause = self._wrong(len(words), span)
            if cause is None and Entity(*span) in entities:
                cause = "repeated"
            if cause is None:
                entities.add(Entity(*span))
            else:
                dropped.append(Dropped(cause, show(span)))
        return Parsed(tuple(sorted(entities)), tuple(dropped))

    def _wrong(self, length: int, span: Any) -> str | None:
        if not isinstance(span, list | tuple) or [type(part) for part in span] != [int, int, str]:
            return "unparsed"
        start, end, kind = span
        if kind not in self._types:
            return "unknown-type"
        return None if 0 <= start < end <= length else "unmatched"


FORMAT = Spans
