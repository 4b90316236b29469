"""What a format is: how a sentence and types become text (or tags), and how an output is parsed back.

A format is one module of this package with a module-level ``FORMAT``: a subclass of ``Format``.
Formats import neither torch nor transformers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

from fewtable.corpus import Entity, EntityType, Sentence
from fewtable.literals import written
from fewtable.specs import Spec


@dataclass(frozen=True, slots=True)
class Turn:
    """An earlier turn of a conversation: what was asked, the answer, and whether a model learns to give it."""

    prompt: str
    target: str
    learned: bool = True


Place = tuple[int, int]
"""Where a text stands in a prompt, in characters: start, end (exclusive)."""


@dataclass(frozen=True, slots=True)
class Marks:
    """Where a prompt about one type names it, shows the sentence, and in that the type's entities (gold)."""

    type: Place
    """The first mention of the type's name."""
    sentence: Place
    entities: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt and the answer that the model is trained to give."""

    prompt: str
    target: str
    before: tuple[Turn, ...] = ()
    """The conversation so far."""
    lead: str = ""
    """What every answer begins with: a model that answers is given it and goes on from there."""
    lead_learned: bool = True
    """Whether a model learns to write the lead."""
    marks: Marks | None = None
    """What a contrast is taken between; None where the format has none, or the gold is not to be seen."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """A part of an output that gave no entity, and why: unparsed, unmatched, unknown-type, surplus, repeated."""

    cause: str
    text: str
    type: str = ""
    """The type that the part names, where one is known."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", written(self.text))


@dataclass(frozen=True, slots=True)
class Parsed:
    """Entities read from an output, sorted, and what was dropped."""

    entities: tuple[Entity, ...]
    dropped: tuple[Dropped, ...] = ()


class Format(Protocol):
    """A text format for one inventory of types."""

    Options: ClassVar[type[Spec]]
    kind: ClassVar[str]
    """What an output is: ``text``, ``bio`` or ``io`` tags, ``spans`` or ``pointers``. A family names its kind."""
    uses: ClassVar[frozenset[str]]
    """The parts of a type that the format shows to the model: of {"words", "definition"}."""
    parsing: ClassVar[frozenset[str]]
    """The options that only parse reads: a change of them trains and decodes nothing anew."""
    tokens: Sequence[str] = ()
    """Texts in prompts and answers that the tokenizer is to know as one token each."""
    several: bool = False
    """Whether a sentence has several queries; its output is then the list of their answers."""
    empty: str = ""
    """An answer that nothing may follow: decoding need not wait for its end."""
    copies: Literal["", "list", "brackets"] = ""
    """How an answer writes strings of the sentence, so that decoding can be held to it: a JSON list, or brackets."""
    lead: str = ""
    """What every answer begins with (``Example.lead`` of each)."""
    close: str = ""
    """What every answer ends with."""

    def __init__(self, types: Sequence[EntityType], options: Spec) -> None: ...

    def render(self, sentence: Sentence) -> Sequence[Example]:
        """Return the queries of a sentence: one, or one a type. Tag formats return none."""

    def examples(self, support: Sequence[Sentence], seed: int) -> Sequence[Example]:
        """Return what a model is trained on: the queries, and what a format adds for the support as a whole.

        Args:
            support: the sentences of a draw.
            seed: decides what is random here; the draw's number, alike for all methods and backbones.
        """
        return [example for sentence in support for example in self.render(sentence)]

    def raw_answers(self, output: Any) -> Mapping[str, str] | None:
        """Return type -> the answer about it as written, for a scorer that reads answers by rules of its own.

        None where answers are not lists about one type each; such a scorer then takes the entities that were parsed.
        """
        return None

    def parse(self, words: Sequence[str], output: Any) -> Parsed:
        """Read a model's output for a sentence. Total: any JSON value gives a result, never an exception."""
