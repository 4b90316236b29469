"""Where the words of a sentence spell a string that a model wrote, and the entities that it thereby named."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from fewtable.corpus import Entity
from fewtable.formats.base import Dropped, Parsed

Span = tuple[int, int]
LATIN = 0x250
"""Where Unicode's Latin letters end."""


def occurrences(words: Sequence[str], surface: str) -> list[Span]:
    """Return the spans of words that spell ``surface``, from left to right.

    Words are compared whole, in the first of four ways that finds any: exactly; without case; without spaces, as raw
    text may have none between words; by what T5 can write (methods/01: no braces, angle brackets, tilde, caret,
    backslash or backtick; nothing beyond Latin letters; squeezed spaces). The last compares what is left of both sides
    without spaces: it needs no tokenizer, and spans still begin and end at words. It is left out where the surface has
    a letter beyond Latin, for no T5 wrote that: TNF-α is not what TNF-β leaves of itself.
    """
    beyond = any(c.isalpha() and ord(c) >= LATIN for c in surface)
    for form, joint in _FORMS[: -1 if beyond else None]:
        if found := list(_spelled([form(w) for w in words], form(surface), joint)):
            return found
    return []


def _survives(text: str) -> str:
    normal = unicodedata.normalize("NFKC", text.replace("\u2047", "")).casefold()
    return "".join(c for c in normal if c not in "{}<>~^\\`" and ord(c) < LATIN and not c.isspace())


def _squeezed(text: str) -> str:
    return "".join(text.split())


_FORMS: tuple[tuple[Callable[[str], str], str], ...] = (
    (str, " "),
    (str.casefold, " "),
    (_squeezed, ""),
    (_survives, ""),
)


def _spelled(words: Sequence[str], surface: str, joint: str) -> Iterator[Span]:
    if not surface:
        return
    for start in range(len(words)):
        built = ""
        for end in range(start, len(words)):
            built += (joint if end > start else "") + words[end]
            if built == surface and words[start]:
                yield start, end + 1
                break
            if not surface.startswith(built):
                break


def mentions(words: Sequence[str], surface: str) -> list[Span]:
    """Return the spans that mentions of a string take, one after the other: its occurrences without overlap."""
    spans: list[Span] = []
    for span in occurrences(words, surface):
        if not spans or span[0] >= spans[-1][1]:
            spans.append(span)
    return spans


class Reading:
    """The entities that an answer about a sentence has named so far, and what of it was dropped.

    The n-th mention of a string under a type takes the string's n-th occurrence, left to right and without overlap,
    never looking at gold (methods/11, 99).
    """

    def __init__(self, words: Sequence[str]) -> None:
        self._words = words
        self._entities: set[Entity] = set()
        self._dropped: list[Dropped] = []
        self._named: Counter[tuple[str, str]] = Counter()

    def name(self, kind: str, surface: str) -> None:
        """Take the next occurrence of a string as an entity of a type; without one it is unmatched or surplus."""
        text = " ".join(surface.split())
        spans = mentions(self._words, text)
        place = self._named[kind, text]
        self._named[kind, text] += 1
        if place < len(spans):
            self._entities.add(Entity(*spans[place], kind))
        else:
            self.drop("surplus" if spans else "unmatched", surface, kind)

    def drop(self, cause: str, text: str, kind: str = "") -> None:
        """Note a part of the answer that gives no entity, under the type that it stood for."""
        self._dropped.append(Dropped(cause, text, kind))

    def result(self) -> Parsed:
        """Return what was read."""
        return Parsed(tuple(sorted(self._entities)), tuple(self._dropped))
