"""Pointers: for each entity the places of its words, then its type, all in one list (BARTNER; methods/06, Decoding).

A place is the index of a word, said by its first piece, or [word, piece] for a later piece of it (from 1). ``null``
stands between the stretches of a sentence that the model could not read at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, ClassVar

from fewtable.corpus import Entity
from fewtable.formats._tags import Wordwise
from fewtable.formats.base import Dropped, Parsed
from fewtable.literals import show
from fewtable.specs import Spec

Place = tuple[int, int]
"""Index of a word, and of a piece in it."""


class Options(Spec):
    """How pointers are read."""

    lenient: bool = False
    """Take all from the first to the last word pointed at, whatever is left out between them and whichever pieces
    were meant; else such an entity is dropped, as methods/06 has it."""


class Pointer(Wordwise):
    """Pointers and types from left to right; entities may overlap, and one span may have two types."""

    Options: ClassVar[type[Spec]] = Options
    kind: ClassVar[str] = "pointers"
    uses: ClassVar[frozenset[str]] = frozenset({"words"})
    parsing: ClassVar[frozenset[str]] = frozenset({"lenient"})

    def __init__(self, types: Sequence[Any], options: Spec) -> None:
        assert isinstance(options, Options)
        super().__init__(types, options)
        self._lenient = options.lenient

    def parse(self, words: Sequence[str], output: Any) -> Parsed:
        """Read the entities.

        Causes: unparsed, unknown-type, unmatched (no such word), repeated, and of pointers: bare-type (none before
        a type), dangling (no type after them), not-increasing, inside-word (a later piece), not-contiguous.
        """
        if not isinstance(output, list | tuple):
            return Parsed((), (Dropped("unparsed", show(output)),))
        entities: set[Entity] = set()
        dropped: list[Dropped] = []
        run: list[Any] = []
        for token in (*output, None):
            if isinstance(token, str):
                self._close(len(words), run, token, entities, dropped)
            elif token is None and run:
                dropped.append(Dropped("dangling", show(run)))
            elif token is not None:
                run.append(token)
                continue
            run = []
        return Parsed(tuple(sorted(entities)), tuple(dropped))

    def _close(self, length: int, run: Sequence[Any], kind: str, entities: set[Entity], dropped: list[Dropped]) -> None:
        places = [_place(token) for token in run]
        known = [place for place in places if place is not None]
        cause = "unparsed" if len(known) < len(places) else self._wrong(length, known, kind)
        if cause is None:
            entity = Entity(known[0][0], known[-1][0] + 1, kind)
            cause = "repeated" if entity in entities else None
            entities.add(entity)
        if cause is not None:
            dropped.append(Dropped(cause, show([*run, kind])))

    def _wrong(self, length: int, places: Sequence[Place], kind: str) -> str | None:
        if kind not in self._types:
            return "unknown-type"
        if not places:
            return "bare-type"
        if any(word >= length for word, _ in places):
            return "unmatched"
        if any(after <= before for before, after in pairwise(places)):
            return "not-increasing"
        if not self._lenient and any(piece for _, piece in places):
            return "inside-word"
        if not self._lenient and places[-1][0] - places[0][0] != len(places) - 1:
            return "not-contiguous"
        return None


def _place(token: Any) -> Place | None:
    """Return (word, piece), or None for what is no place."""
    if type(token) is int and token >= 0:
        return token, 0
    if isinstance(token, list | tuple) and [type(part) for part in token] == [int, int]:
        word, piece = token
        return (word, piece) if word >= 0 and piece >= 1 else None
    return None


FORMAT = Pointer
