"""Where the words of a sentence spell a string that a model wrote."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence

Span = tuple[int, int]


def occurrences(words: Sequence[str], surface: str) -> list[Span]:
    """Return the spans of words that spell ``surface``, from left to right.

    Words are compared whole, in the first of three ways that finds any: exactly; without case; by what T5 can
    write (methods/01: no braces, angle brackets, tilde, caret, backslash or backtick; nothing beyond Latin
    letters; squeezed spaces). The third compares what is left of both sides without spaces: it needs no
    tokenizer, and spans still begin and end at words.
    """
    for form, joint in _FORMS:
        if found := list(_spelled([form(w) for w in words], form(surface), joint)):
            return found
    return []


def _survives(text: str) -> str:
    normal = unicodedata.normalize("NFKC", text.replace("\u2047", "")).casefold()
    return "".join(c for c in normal if c not in "{}<>~^\\`" and ord(c) < 0x250 and not c.isspace())


_FORMS: tuple[tuple[Callable[[str], str], str], ...] = ((str, " "), (str.casefold, " "), (_survives, ""))


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
