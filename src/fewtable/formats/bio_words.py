"""BIO tags of types whose words a method reads (L-TapNet; methods/fs-03): read as ``bio``."""

from __future__ import annotations

from typing import ClassVar

from fewtable.formats.bio import Bio


class BioWords(Bio):
    """BIO tags; the types have words, so that a change of those runs the method again."""

    uses: ClassVar[frozenset[str]] = frozenset({"words"})


FORMAT = BioWords
