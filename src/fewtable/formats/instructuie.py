"""InstructUIE's named entity recognition: instruction, options and text in, "type: word; type: word" out.

Source: Wang, Zhou, Zu et al. 2023, arXiv 2304.08085; the words are the released code's (instruction strategy
"single"), with its missing space after "category." and its auxiliary tasks (methods/13).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from fewtable.corpus import EntityType, Sentence
from fewtable.errors import ConfigError
from fewtable.files import stable_seed
from fewtable.formats._surfaces import Reading
from fewtable.formats._types import check_words, of_source
from fewtable.formats.base import Example, Format, Parsed
from fewtable.literals import show
from fewtable.specs import Spec

INSTRUCTION = (
    'Please list all entity words in the text that fit the category.Output format is "type1: word1; type2: word2". \n'
)
SPANS = 'Please list all entity words in the text that fit the category. Output format is "word1, word2". \n'
TYPING = (
    "Given options, please tell me the categories of all the listed entity words."
    'Output format is "type1: word1; type2: word2". \n'
)
CUE = "Answer:"


class Options(Spec):
    """What a method may choose about the format."""

    cue: bool = True
    """End the prompt with "Answer:" and begin the answer with a space; false where the model's template does."""
    auxiliary: tuple[Literal["es", "et"], ...] = ()
    """Tasks trained beside the main one: the words of entities alone, and the types of given words."""
    ratio: Annotated[float, Field(ge=0, le=1)] = 0.3
    """Probability that a sentence is kept for an auxiliary task."""


class InstructUie(Format):
    """The format for one inventory of types. Raises ConfigError when an answer could not tell two types apart."""

    Options: ClassVar[type[Spec]] = Options
    kind: ClassVar[str] = "text"
    uses: ClassVar[frozenset[str]] = frozenset({"words"})
    parsing: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, types: Sequence[EntityType], options: Spec) -> None:
        assert isinstance(options, Options)
        self.options = options
        self._words = {t.name: t.words.lower() for t in types}
        self._names = {words: name for name, words in self._words.items()}
        check_words(self._words)
        for name, words in self._words.items():
            if set(":;") & set(words):
                raise ConfigError(
                    f"'{words}' holds a colon or a semicolon, and the format separates by them",
                    where=f"types.{name}.words",
                    fix="give the type words without them",
                )

    def render(self, sentence: Sentence) -> Sequence[Example]:
        """Return the one query of a sentence: the main task."""
        return (self._example(sentence, INSTRUCTION, self._pairs(sentence)),)

    def examples(self, support: Sequence[Sentence], seed: int) -> Sequence[Example]:
        """Return the main task of every sentence, then each auxiliary task of the sentences kept for it."""
        made = [example for sentence in support for example in self.render(sentence)]
        for task in self.options.auxiliary:
            draw = random.Random(stable_seed("auxiliary", task, seed))
            for sentence in (s for s in support if draw.random() < self.options.ratio):
                listed = ", ".join(surface for _, surface in _mentions(sentence))
                if task == "es":
                    made.append(self._example(sentence, SPANS, listed))
                else:
                    made.append(self._example(sentence, TYPING, self._pairs(sentence), f" Entities: {listed} \n"))
        return made

    def _pairs(self, sentence: Sentence) -> str:
        return "; ".join(f"{self._words[kind]}: {surface}" for kind, surface in _mentions(sentence))

    def _example(self, sentence: Sentence, instruction: str, answer: str, given: str = "") -> Example:
        # Put together, not by str.format as released: that fails on braces in the text.
        options = ", ".join(self._words[name] for name in of_source(self._words, sentence.source))
        prompt = f"{instruction}Option: {options} \nText: {sentence.text} \n{given}"
        target = answer or "None"
        return Example(prompt + CUE, f" {target}") if self.options.cue else Example(prompt.removesuffix("\n"), target)

    def parse(self, words: Sequence[str], output: Any) -> Parsed:
        """Read an answer; causes: unparsed, unknown-type, unmatched, surplus. Any JSON value gives a result.

        As released: pairs end at ";", also inside an entity. A pair is split at its first colon.
        """
        reading = Reading(words)
        if not isinstance(output, str) or not output.strip():
            reading.drop("unparsed", show(output))
            return reading.result()
        for pair in map(str.strip, output.split(";")):
            kind, colon, surface = pair.partition(":")
            name = self._names.get(" ".join(kind.split()).lower())
            if colon and name is not None:
                reading.name(name, surface.strip())
            elif colon:
                reading.drop("unknown-type", pair)
            elif pair.lower() not in ("", "none"):
                reading.drop("unparsed", pair)
        return reading.result()


def _mentions(sentence: Sentence) -> list[tuple[str, str]]:
    """Return (type, surface) of the entities from left to right."""
    return [(kind, sentence.surface(start, end)) for start, end, kind in sorted(sentence.entities)]


FORMAT = InstructUie
