"""InstructionNER's text format: sentence, instruction and options in, "X is a Y" clauses out.

Source: Wang, Li, Yan et al. 2022, arXiv 2203.03903, section 3. Where the paper is silent: clauses run left to
right (longer first), one clause an occurrence, "an" before a vowel, "." for a sentence without entities.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, Literal

from fewtable.corpus import Entity, EntityType, Sentence
from fewtable.errors import ConfigError
from fewtable.files import dumps
from fewtable.formats.base import Dropped, Example, Parsed
from fewtable.specs import Spec

INSTRUCTION = "please extract entities and their types from the input sentence, all entity types are in options"

Span = tuple[int, int]


class Options(Spec):
    """What a method may choose about the format."""

    parse: Literal["paper", "robust"] = "paper"
    """``paper`` splits at commas, as the paper does; ``robust`` ends a clause only after a known type."""
    flat: bool = False
    """Drop a clause whose span overlaps an earlier one."""


class InstructionNer:
    """The format for one inventory of types. Raises ConfigError when two types have the same words."""

    Options: ClassVar[type[Spec]] = Options
    kind: ClassVar[str] = "text"
    uses: ClassVar[frozenset[str]] = frozenset({"words"})
    parsing: ClassVar[frozenset[str]] = frozenset({"parse", "flat"})

    def __init__(self, types: Sequence[EntityType], options: Spec) -> None:
        assert isinstance(options, Options)
        self.options = options
        self._words = {t.name: t.words.lower() for t in types}
        self._names = {words: name for name, words in self._words.items()}
        if len(self._names) < len(self._words):
            lost = next(n for n, words in self._words.items() if self._names[words] != n)
            raise ConfigError(
                f"types '{lost}' and '{self._names[self._words[lost]]}' have the same words",
                where=f"types.{lost}.words",
                fix="give each type words of its own: the answer names types by them",
            )
        # Longest first, so that "rating" does not end the clause of "ratings average".
        either = "|".join(re.escape(w) for w in sorted(self._names, key=lambda w: (-len(w), w)))
        # ASCII: else "s" would match the long s too, which no lower-casing brings back.
        self._ending = re.compile(rf" is an? ({either or '(?!)'})(?:, |\.?\Z)", re.IGNORECASE | re.ASCII)

    def render(self, sentence: Sentence) -> Sequence[Example]:
        """Return the one query of a sentence."""
        prompt = (
            f"Sentence: {' '.join(sentence.words)} Instruction: {INSTRUCTION} "
            f"Options: {', '.join(self._words.values())}"
        )
        return (Example(prompt, self._target(sentence)),)

    def _target(self, sentence: Sentence) -> str:
        clauses = []
        for start, end, kind in sorted(sentence.entities, key=lambda e: (e.start, -e.end, e.type)):
            words = self._words[kind]
            article = "an" if words[:1] in set("aeiou") else "a"
            clauses.append(f"{' '.join(sentence.words[start:end])} is {article} {words}")
        return ", ".join(clauses) + "."

    def parse(self, words: Sequence[str], output: Any) -> Parsed:
        """Read an answer; any JSON value gives a result."""
        if not isinstance(output, str):
            return Parsed((), (Dropped("unparsed", dumps(output)),))
        text = output.strip()
        if text == ".":
            return Parsed(())
        reading = _Reading(words, self.options.flat)
        if self.options.parse == "paper":
            for piece in text.removesuffix(".").split(","):
                self._read_piece(piece.strip(), reading)
        else:
            self._read_clauses(text, reading)
        return reading.result()

    def _read_piece(self, piece: str, reading: _Reading) -> None:
        at, marker = max((piece.rfind(m), m) for m in (" is a ", " is an "))
        if at < 0:
            reading.drop("unparsed", piece)
            return
        kind = self._names.get(piece[at + len(marker) :].strip().lower())
        if kind is None:
            reading.drop("unknown-type", piece)
        else:
            reading.claim(piece[:at].strip(), kind, piece)

    def _read_clauses(self, text: str, reading: _Reading) -> None:
        start = 0
        for found in self._ending.finditer(text):
            kind = self._names[found[1].lower()]
            surface = text[start : found.start()]
            # A clause of an unknown type has no ending of its own: it stands before the next surface.
            cuts = [0, *(m.end() for m in re.finditer(", ", surface))]
            cut = next((c for c in cuts if reading.occurs(surface[c:].strip())), cuts[-1])
            if cut:
                self._drop_pieces(surface[: cut - 2], reading)
            whole = surface[cut:] + found[0].removesuffix(", ")
            reading.claim(surface[cut:].strip(), kind, whole.strip())
            start = found.end()
        if start < len(text) or not text:
            self._drop_pieces(text[start:].removesuffix("."), reading)

    def _drop_pieces(self, text: str, reading: _Reading) -> None:
        for piece in text.split(", "):
            marked = re.search(r" is an? ", piece)
            reading.drop("unknown-type" if marked else "unparsed", piece.strip())


class _Reading:
    """The entities that an answer's clauses have claimed so far."""

    def __init__(self, words: Sequence[str], flat: bool) -> None:
        self._words = words
        self._flat = flat
        self._claims: dict[Span, tuple[str, str]] = {}
        self._dropped: list[Dropped] = []

    def drop(self, cause: str, text: str) -> None:
        self._dropped.append(Dropped(cause, text))

    def occurs(self, surface: str) -> bool:
        return bool(occurrences(self._words, surface))

    def claim(self, surface: str, kind: str, clause: str) -> None:
        """Take the leftmost free occurrence of ``surface``.

        An occurrence is free when no clause holds its span and no clause of the same surface overlaps it.
        """
        spans = occurrences(self._words, surface)
        if not spans:
            self.drop("unmatched", clause)
            return
        for span in spans:
            own = (s for s, (_, other) in self._claims.items() if other == surface)
            if span in self._claims or any(_overlap(span, s) for s in own):
                continue
            if self._flat and any(_overlap(span, s) for s in self._claims):
                continue
            self._claims[span] = (kind, surface)
            return
        retyped = all(self._claims.get(span, (kind,))[0] != kind for span in spans)
        self.drop("repeated" if retyped else "surplus", clause)

    def result(self) -> Parsed:
        entities = (Entity(*span, kind) for span, (kind, _) in self._claims.items())
        return Parsed(tuple(sorted(entities)), tuple(self._dropped))


def _overlap(a: Span, b: Span) -> bool:
    return a[0] < b[1] and b[0] < a[1]


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


FORMAT = InstructionNer
