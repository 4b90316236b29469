"""The prompt of Ye et al. 2023 (arXiv 2303.10420): all types in one question, "Type: a, b | Type: None" the answer.

Source: UniversalNER, section 5.1, names the prompt; its words are as the GLiNER paper prints it (appendix "Prompt").
How answers are read is specified nowhere; methods/14 says what is taken.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar

from fewtable.corpus import EntityType, Sentence
from fewtable.formats._surfaces import Reading, occurrences
from fewtable.formats._types import check_words
from fewtable.formats.base import Example, Format, Parsed
from fewtable.literals import show
from fewtable.specs import Spec

SEPARATORS = re.compile(r"[|;\n]")
MARKUP, BOLD = r"(?:[-*•]\s+)?(?:\*\*)?", r"(?:\*\*)?"
"""What chat models put before a type, and behind it or its colon."""
NOTHING = frozenset({"", "none", "n/a"})
"""Lower-cased values that name no entity."""
QUOTES = " \t\"'“”‘’`"


class Options(Spec):
    """The format has no options."""


class Ye(Format):
    """The format for one inventory of types. Raises ConfigError when two types have the same words."""

    Options: ClassVar[type[Spec]] = Options
    kind: ClassVar[str] = "text"
    uses: ClassVar[frozenset[str]] = frozenset({"words"})
    parsing: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, types: Sequence[EntityType], options: Spec) -> None:
        self._shown = {t.name: _shown(t.words) for t in types}
        self._names = {shown.lower(): name for name, shown in self._shown.items()}
        check_words({name: shown.lower() for name, shown in self._shown.items()})
        either = "|".join(re.escape(w) for w in sorted(self._names, key=lambda w: (-len(w), w))) or "(?!)"
        self._head = re.compile(rf"{MARKUP}(?P<type>{either})\s*{BOLD}\s*:\s*{BOLD}", re.IGNORECASE | re.ASCII)

    def render(self, sentence: Sentence) -> Sequence[Example]:
        """Return the one query of a sentence. Of the example answer, the last types show words, the others None."""
        shown = list(self._shown.values())
        words = ["None"] * (len(shown) - 2) + ["Word1, Word2", "Word3"][: len(shown)]
        example = " | ".join(f"{name}: {word}" for name, word in zip(shown, words, strict=True))
        prompt = (
            f"Please identify {_listed(shown)} Entity from the given text, output using the format as:\n\n"
            f"Entity: {example}\n\nText: {sentence.text}\n\nEntity:"
        )
        return (Example(prompt, self._answer(sentence)),)

    def _answer(self, sentence: Sentence) -> str:
        found: dict[str, list[str]] = {name: [] for name in self._shown}
        for start, end, kind in sorted(sentence.entities):
            if (surface := sentence.surface(start, end)) not in found[kind]:
                found[kind].append(surface)
        return " | ".join(f"{self._shown[name]}: {', '.join(values) or 'None'}" for name, values in found.items())

    def parse(self, words: Sequence[str], output: Any) -> Parsed:
        """Read an answer; causes: unparsed, unknown-type, unmatched. Any JSON value gives a result.

        Values that follow each other in the sentence, comma and all, are one: commas separate and are part of names.
        A list's sign before a type, and ``**`` around it, are passed over.
        """
        reading = Reading(words)
        text = output.strip() if isinstance(output, str) else ""
        if not text:
            reading.drop("unparsed", show(output))
            return reading.result()
        values: dict[str, dict[str, None]] = {}
        for piece in map(str.strip, SEPARATORS.split(re.sub(r"\Aentity:", "", text, flags=re.IGNORECASE))):
            if head := self._head.match(piece):
                name = self._names[head["type"].lower()]
                values.setdefault(name, {}).update(dict.fromkeys(_values(words, piece[head.end() :])))
            elif _bare(words, piece).lower() not in NOTHING:
                reading.drop("unknown-type" if ":" in piece else "unparsed", piece)
        for name, surfaces in values.items():
            for surface in surfaces:
                reading.name(name, surface)
        return reading.result()


def _shown(words: str) -> str:
    """Return a type as the prompt names it: words capitalised, without the signs that separate answers."""
    return " ".join(w[:1].upper() + w[1:] for w in re.sub(r"[,/|;:]", " ", words).split())


def _listed(shown: Sequence[str]) -> str:
    if len(shown) < 3:
        return " and ".join(shown)
    return f"{', '.join(shown[:-1])}, and {shown[-1]}"


def _values(words: Sequence[str], text: str) -> list[str]:
    """Return the entities of a list that is separated by commas, neighbours joined where the sentence joins them."""
    parts = text.split(",")
    sentence = _squeezed(" ".join(words))

    def joined(start: int, end: int) -> bool:
        text = _bare(words, ",".join(parts[start:end]))
        return _squeezed(text) in sentence and bool(occurrences(words, text))

    most = sentence.count(",")  # a joined value holds no more commas than the sentence
    found = []
    start = 0
    while start < len(parts):
        ends = range(min(len(parts), start + 1 + most), start + 1, -1)
        end = next((e for e in ends if joined(start, e)), start + 1)
        value = _bare(words, ",".join(parts[start:end]))
        if value.lower() not in NOTHING:
            found.append(value)
        start = end
    return found


def _bare(words: Sequence[str], text: str) -> str:
    """Return a value without quotes around it, and without final dots unless the sentence has it with them."""
    value = text.strip(QUOTES)
    dotless = value.rstrip(".")
    return value if value == dotless or occurrences(words, value) else dotless.strip(QUOTES)


def _squeezed(text: str) -> str:
    return "".join(text.split()).casefold()


FORMAT = Ye
