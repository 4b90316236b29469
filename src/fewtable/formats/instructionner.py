"""InstructionNER's text format: sentence, instruction and options in, "X is a Y" clauses out.

Source: Wang, Li, Yan et al. 2022, arXiv 2203.03903, section 3; auxiliary tasks: "Auxiliary Tasks" there and its
Figure 6. Where the paper is silent: clauses run left to right (longer first), one clause an occurrence, "an" before
a vowel, "." for a sentence without entities.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from fewtable.corpus import Entity, EntityType, Sentence
from fewtable.errors import ConfigError
from fewtable.files import stable_seed
from fewtable.formats._surfaces import Span, occurrences
from fewtable.formats.base import Dropped, Example, Format, Parsed
from fewtable.literals import show
from fewtable.specs import Spec

INSTRUCTION = "please extract entities and their types from the input sentence, all entity types are in options"
EXTRACT = "please extract entity words from the input sentence"
TYPING = "please typing these entity words according to the sentence: "
"""The paper's wording; the unofficial code has "please type"."""


class Options(Spec):
    """What a method may choose about the format."""

    parse: Literal["paper", "robust"] = "paper"
    """``paper`` splits at commas, as the paper does; ``robust`` ends a clause only after a known type."""
    flat: bool = False
    """Drop a clause whose span overlaps an earlier one."""
    shown: Literal["all", "sentence"] = "all"
    """``sentence`` shows the raw sentence alone: no field names, no instruction, no options (T5-natural)."""
    labels: Literal["words", "tokens"] = "words"
    """``tokens`` writes a type as one added token, its lower-cased name in angle brackets (synthetic labels)."""
    auxiliary: tuple[Literal["et", "ee"], ...] = ()
    """Tasks trained beside the main one: entity typing (types of given words), entity extraction (words alone)."""
    ratio: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Part of the sentences that each auxiliary task gets."""

    @model_validator(mode="after")
    def _told_apart(self) -> Options:
        if self.auxiliary and self.shown == "sentence":
            raise ValueError("auxiliary tasks need shown: all, their instructions tell them from the main task")
        if len(set(self.auxiliary)) < len(self.auxiliary):
            raise ValueError("an auxiliary task is named twice")
        return self


class InstructionNer(Format):
    """The format for one inventory of types. Raises ConfigError when two types have the same words."""

    Options: ClassVar[type[Spec]] = Options
    kind: ClassVar[str] = "text"
    uses: ClassVar[frozenset[str]] = frozenset({"words"})
    parsing: ClassVar[frozenset[str]] = frozenset({"parse", "flat"})

    def __init__(self, types: Sequence[EntityType], options: Spec) -> None:
        assert isinstance(options, Options)
        self.options = options
        synthetic = options.labels == "tokens"
        self._words = {t.name: (f"<{t.name}>" if synthetic else t.words).lower() for t in types}
        self.tokens = tuple(self._words.values()) if synthetic else ()
        self._names = {words: name for name, words in self._words.items()}
        if len(self._names) < len(self._words):
            lost = next(n for n, words in self._words.items() if self._names[words] != n)
            raise ConfigError(
                f"types '{lost}' and '{self._names[self._words[lost]]}' have the same {options.labels}",
                where=f"types.{lost}.words",
                fix="give each type words or a name of its own, whatever the case: the answer names types by them",
            )
        # Longest first, so that "rating" does not end the clause of "ratings average".
        either = "|".join(re.escape(w) for w in sorted(self._names, key=lambda w: (-len(w), w)))
        either = either or "(?!)"
        # ASCII: else "s" would match the long s too, which no lower-casing brings back.
        flags = re.IGNORECASE | re.ASCII
        self._ending = re.compile(rf" is an? ({either})(?:, |\.?\Z)", flags)
        self._token = re.compile(rf" is (an?)\s*({either})\s*(?:(,)\s*|(?=\.?\s*\Z))", flags)

    def render(self, sentence: Sentence) -> Sequence[Example]:
        """Return the one query of a sentence: the main task."""
        if self.options.shown == "sentence":
            return (Example(" ".join(sentence.words), self._target(sentence)),)
        return (Example(self._prompt(sentence, INSTRUCTION, options=True), self._target(sentence)),)

    def examples(self, support: Sequence[Sentence], seed: int) -> Sequence[Example]:
        """Return the main task of every sentence, then the auxiliary tasks of round(ratio * n) of the n sentences.

        The sentences of a task are drawn without replacement and independently of the other task's, once for the
        whole training; those of a smaller ratio are among those of a larger one. No typing without entities.
        """
        made = [example for sentence in support for example in self.render(sentence)]
        for task in self.options.auxiliary:
            order = list(range(len(support)))
            random.Random(stable_seed("auxiliary", task, seed)).shuffle(order)
            chosen = [support[i] for i in sorted(order[: round(self.options.ratio * len(support))])]
            if task == "et":
                made += [self._typing(sentence) for sentence in chosen if sentence.entities]
            else:
                made += [self._extraction(sentence) for sentence in chosen]
        return made

    def _typing(self, sentence: Sentence) -> Example:
        surfaces = ", ".join(surface for surface, _ in _mentions(sentence))
        return Example(self._prompt(sentence, TYPING + surfaces, options=True), self._target(sentence))

    def _extraction(self, sentence: Sentence) -> Example:
        surfaces = ", ".join(surface for surface, _ in _mentions(sentence))
        return Example(self._prompt(sentence, EXTRACT, options=False), surfaces + ".")

    def _prompt(self, sentence: Sentence, instruction: str, *, options: bool) -> str:
        text = f"Sentence: {' '.join(sentence.words)} Instruction: {instruction}"
        return f"{text} Options: {', '.join(self._words.values())}" if options else text

    def _target(self, sentence: Sentence) -> str:
        clauses = []
        for surface, kind in _mentions(sentence):
            words = self._words[kind]
            article = "an" if words.lstrip("<")[:1] in set("aeiou") else "a"
            clauses.append(f"{surface} is {article} {words}")
        return ", ".join(clauses) + "."

    def parse(self, words: Sequence[str], output: Any) -> Parsed:
        """Read an answer; any JSON value gives a result."""
        if not isinstance(output, str):
            return Parsed((), (Dropped("unparsed", show(output)),))
        text = self._spaced(output.strip()) if self.tokens else output.strip()
        if text == ".":
            return Parsed(())
        reading = _Reading(words, self.options.flat)
        if self.options.parse == "paper":
            for piece in text.removesuffix(".").split(","):
                self._read_piece(piece.strip(), reading)
        else:
            self._read_clauses(text, reading)
        return reading.result()

    def _spaced(self, text: str) -> str:
        """Put the spaces around the added tokens as they were written; detokenizers lose or add some."""
        return self._token.sub(lambda m: f" is {m[1]} {m[2]}{', ' if m[3] else ''}", text)

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


def _mentions(sentence: Sentence) -> list[tuple[str, str]]:
    """Return (surface, type) of the entities from left to right, the longer first where two start alike."""
    order = sorted(sentence.entities, key=lambda e: (e.start, -e.end, e.type))
    return [(" ".join(sentence.words[start:end]), kind) for start, end, kind in order]


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


FORMAT = InstructionNer
