"""BIO tags: the output is a list with one of O, B-TYPE, I-TYPE a word (methods/04; repair as conlleval)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from fewtable.formats._tags import Wordwise, read_tags
from fewtable.formats.base import Parsed


class Bio(Wordwise):
    """BIO tags. An I-X that continues no X opens an entity and is counted as ``repaired``."""

    kind: ClassVar[str] = "bio"

    def parse(self, words: Sequence[str], output: Any) -> Parsed:
        """Read one tag a word; causes: unparsed, unknown-type, surplus, repaired."""
        return read_tags(words, output, self._read, "iob2")

    def _read(self, tag: str, before: str) -> tuple[str, str | None]:
        if tag == "O":
            return "O", None
        if tag[:2] not in ("B-", "I-"):
            return "O", "unparsed"
        if tag[2:] not in self._types:
            return "O", "unknown-type"
        continues = tag[0] == "B" or before[2:] == tag[2:]
        return tag, None if continues else "repaired"


FORMAT = Bio
