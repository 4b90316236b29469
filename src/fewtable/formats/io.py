"""IO tags: the output is a list with O or a bare type name a word; an entity is a maximal run of one type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from fewtable.formats._tags import Wordwise, read_tags
from fewtable.formats.base import Parsed


class Io(Wordwise):
    """IO tags. Neighbouring entities of one type cannot be told apart (methods/fs-12)."""

    kind: ClassVar[str] = "io"

    def parse(self, words: Sequence[str], output: Any) -> Parsed:
        """Read one tag a word; causes: unparsed, unknown-type, surplus."""
        return read_tags(words, output, self._read, "io")

    def _read(self, tag: str, before: str) -> tuple[str, str | None]:
        if tag == "O":
            return "O", None
        # The prefix keeps a type whose own name begins with "B-" or "I-" whole.
        return (f"I-{tag}", None) if tag in self._types else ("O", "unknown-type")


FORMAT = Io
