"""Template: spans, found with statements such as ``new york is a location entity .`` (methods/05, Format)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from fewtable.corpus import EntityType
from fewtable.formats.spans import Spans
from fewtable.specs import Spec

END = ("entity", ".")
"""How all statements end; the released code leaves it out of the score."""


class Template(Spans):
    """Spans whose types have words: a statement is the span's words and then a tail."""

    uses: ClassVar[frozenset[str]] = frozenset({"words"})

    def __init__(self, types: Sequence[EntityType], options: Spec) -> None:
        super().__init__(types, options)
        self._words = {t.name: t.words.split() for t in types}

    def tail(self, kind: str | None) -> tuple[str, ...]:
        """Return the words that follow a span of type ``kind``, or one that is no entity (None)."""
        if kind is None:
            return ("is", "not", "a", "named", *END)
        words = self._words[kind]
        return ("is", "an" if words[0][0] in "aeiouAEIOU" else "a", *words, *END)


FORMAT = Template
