"""One question a type with its definition, answered in brackets: OBP-LLM's and CLLMFS' words, Alpaca's layout.

Sources: the OBP-LLM paper, Figure 3 (methods/15); Zhang et al. 2024, arXiv 2408.12834, appendix (methods/17), whose
words BANER has too (methods/18). Alpaca's header is that of Taori et al. 2023. Every answer begins alike, up to its
first bracket: that is its lead. Where the papers are silent: an empty pair of brackets where a type is absent, a
mention for every entity, no dot at the end.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import Field

from fewtable.corpus import EntityType, Sentence
from fewtable.formats._negatives import Negatives
from fewtable.formats._surfaces import Reading
from fewtable.formats._types import check_words
from fewtable.formats.base import Dropped, Example, Format, Marks, Parsed
from fewtable.literals import show
from fewtable.specs import Spec

HEADER = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n### Instruction:\n"
)
INPUT = "\n\n### Input:\n"
RESPONSE = "\n\n### Response:\n"
_BRACKETS = re.compile(r"<<<\s*(.*?)\s*>>>")


class Wording(NamedTuple):
    """The words around type, definition and answer."""

    before: str
    """What stands before the type's first mention."""
    after: str
    """What follows it."""
    defined: str
    """What else follows it where the type has a definition."""
    stop: str
    """What ends the instruction."""
    lead: str
    """What every answer begins with."""
    close: str
    """What every answer ends with."""


WORDINGS = {
    "obp": Wording(
        before="I want you to extract ",
        after=" entities from the following input sentence",
        defined=", the entity of {type} refers to the entity that represents {definition} in the input sentence",
        stop=".",
        lead="The entities I extracted for you are <<<",
        close="",
    ),
    "cllmfs": Wording(
        before="Please extract the entity of ",
        after=" in the input sentence given below",
        defined=" , the entity of {type} refers to the entity that represents {definition} in the input sentence",
        stop=" .",
        lead="<im_start> I can extract entities for you, the extracted entities are <<<",
        close=" <im_end>",
    ),
}


class Options(Spec):
    """What a method may choose about the format."""

    wording: Literal["obp", "cllmfs"] = "obp"
    negatives: Literal["all", "none"] | Annotated[float, Field(gt=0)] = "all"
    """Types asked in training that a sentence has none of: all of the task's; none; or so many, drawn once among those
    that the support mentions, for each type that the sentence has."""
    label: Literal["words", "name"] = "words"
    """Show a type's words, or its name in the corpus as it is."""
    skip_lead: bool = False
    """Do not learn what every answer begins with."""


class Brackets(Format):
    """The format for one inventory of types. Raises ConfigError when two types are shown alike."""

    Options: ClassVar[type[Spec]] = Options
    kind: ClassVar[str] = "text"
    uses: ClassVar[frozenset[str]] = frozenset({"words", "definition"})
    parsing: ClassVar[frozenset[str]] = frozenset()
    several = True
    copies = "brackets"

    def __init__(self, types: Sequence[EntityType], options: Spec) -> None:
        assert isinstance(options, Options)
        self.options = options
        self._wording = WORDINGS[options.wording]
        self.lead, self.close = self._wording.lead, self._wording.close
        self._shown = {t.name: t.name if options.label == "name" else t.words for t in types}
        check_words(self._shown)
        self.names = tuple(self._shown)
        """The types, in the order of ``render``."""
        self._instructions = {t.name: self._instruction(self._shown[t.name], t.definition) for t in types}

    def render(self, sentence: Sentence) -> Sequence[Example]:
        """Return the questions about a sentence: one a type, in the inventory's order."""
        return [self.ask(sentence, name) for name in self._shown]

    def examples(self, support: Sequence[Sentence], seed: int) -> Sequence[Example]:
        """Return the ``questions`` about the support with the marks of their entities."""
        return [self.ask(sentence, name, marked=True) for sentence, name in self.questions(support, seed)]

    def questions(self, support: Sequence[Sentence], seed: int) -> list[tuple[Sentence, str]]:
        """Return the sentence and the type of every question of the training, sentence by sentence.

        A sentence is asked about its types in the inventory's order, then about the negative ones.
        """
        negatives = self.options.negatives
        if negatives == "all":
            draw = Negatives(support, self._shown, seed, None, "uniform")
        else:
            draw = Negatives(support, self._shown, seed, 0.0 if negatives == "none" else negatives, "seen")
        found = []
        for sentence in support:
            has = {entity.type for entity in sentence.entities}
            present = [name for name in self._shown if name in has]
            found += [(sentence, name) for name in (*present, *draw(sentence, present))]
        return found

    def ask(self, sentence: Sentence, name: str, *, marked: bool = False) -> Example:
        """Return the question about a type of a sentence; ``marked`` with the places of type, sentence and entities."""
        gold = [(start, end) for start, end, kind in sorted(sentence.entities) if kind == name]
        before = HEADER + self._instructions[name] + INPUT
        target = self.answer([sentence.surface(*span) for span in gold])
        marks = None
        if marked:
            at = len(HEADER) + len(self._wording.before)
            first = len(before)
            marks = Marks(
                type=(at, at + len(self._shown[name])),
                sentence=(first, first + len(sentence.text)),
                entities=tuple((first + low, first + high) for low, high in _places(sentence, gold)),
            )
        return Example(
            before + sentence.text + RESPONSE,
            target,
            lead=self.lead,
            lead_learned=not self.options.skip_lead,
            marks=marks,
        )

    def answer(self, surfaces: Sequence[str]) -> str:
        """Return the answer that names these strings, in their order."""
        rest = " <<<".join(f" {surface} >>>" for surface in surfaces) or " >>>"
        return self.lead + rest + self.close

    def parse(self, words: Sequence[str], output: Any) -> Parsed:
        """Read the answers; causes: unparsed, unmatched, surplus. Any JSON value gives a result.

        The n-th mention of one string takes its n-th occurrence among the words, never looking at gold (methods/15).
        Brackets around nothing name nothing; an answer without any, or one not closed, is unparsed.
        """
        if not isinstance(output, list) or len(output) != len(self._shown):
            return Parsed((), (Dropped("unparsed", show(output)),))
        reading = Reading(words)
        for name, answer in zip(self._shown, output, strict=True):
            if not isinstance(answer, str):
                reading.drop("unparsed", show(answer), name)
                continue
            end = 0
            for found in _BRACKETS.finditer(answer):
                end = found.end()
                if found[1]:
                    reading.name(name, found[1])
            if not end or "<<<" in answer[end:]:
                reading.drop("unparsed", answer[end:], name)
        return reading.result()

    def _instruction(self, shown: str, definition: str) -> str:
        made = self._wording
        clause = made.defined.format(type=shown, definition=_clause(definition)) if definition else ""
        return made.before + shown + made.after + clause + made.stop


def _clause(definition: str) -> str:
    """Return a definition as it stands within a sentence: no final dot, no capital unless its first word is all so."""
    text = definition.strip().removesuffix(".")
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]


def _places(sentence: Sentence, spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return where spans of words stand in the sentence's text, in characters."""
    places = []
    at, glued = 0, set(sentence.glued)
    for number, word in enumerate(sentence.words):
        at += bool(number) and number not in glued
        places.append((at, at + len(word)))
        at += len(word)
    return [(places[start][0], places[end - 1][1]) for start, end in spans]


FORMAT = Brackets
