"""UniversalNER's conversations: the passage first, then one question a type, answered by a JSON list of strings.

Source: Zhou et al. 2023, arXiv 2308.03279, section 3 and Figure 2; words as in the released code. Where both are
silent (methods/11, 12): types in lower case as the teacher wrote them, answers in order of first mention, as many
negative types as positive ones, drawn once; the all-in-one question and its JSON object.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from fewtable.corpus import EntityType, Sentence
from fewtable.formats._negatives import Negatives
from fewtable.formats._surfaces import Reading
from fewtable.formats._types import check_words
from fewtable.formats.base import Dropped, Example, Format, Parsed, Turn
from fewtable.literals import json_list, json_object, show
from fewtable.specs import Spec

READ = "I've read this text."


class Options(Spec):
    """What a method may choose about the format."""

    query: Literal["type", "all"] = "type"
    """One question a type, or all types in one question (all-in-one)."""
    negatives: Literal["none", "uniform", "frequency", "inventory"] = "frequency"
    """Types asked in training that a sentence has none of: none; drawn alike, or by their number of mentions; or all of
    the sentence's inventory."""
    ratio: Annotated[float, Field(ge=0)] = 1.0
    """Negative types drawn for each type that a sentence has."""
    dataset: bool = False
    """Name the dataset in the first turn (the paper's template for supervised data)."""
    loss_on_ack: bool = False
    """Learn the turn that says the passage is read, as the released code does."""


class UniNer(Format):
    """The format for one inventory of types. Raises ConfigError when two types have the same words."""

    Options: ClassVar[type[Spec]] = Options
    kind: ClassVar[str] = "text"
    uses: ClassVar[frozenset[str]] = frozenset({"words"})
    parsing: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, types: Sequence[EntityType], options: Spec) -> None:
        assert isinstance(options, Options)
        self.options = options
        self.several = options.query == "type"
        self.copies = "list" if self.several else ""
        self.empty = "[]" if self.several else "{}"
        self._words = {t.name: t.words for t in types}
        self._names = {t.words: t.name for t in types}
        check_words(self._words)

    def render(self, sentence: Sentence) -> Sequence[Example]:
        """Return the questions about a sentence: one a type, in the inventory's order, or one about all."""
        if not self.several:
            return (self._all(sentence, list(self._words)),)
        answers = _answers(sentence)
        return [self._asked(sentence, [(name, answers.get(name, []))]) for name in self._words]

    def examples(self, support: Sequence[Sentence], seed: int) -> Sequence[Example]:
        """Return one conversation a sentence: its types and the negative ones, in random order.

        A sentence without entities is asked about as many negative types as the others have on average (1 at least).
        Of a mixture, a sentence is asked about the types of its own source only.
        """
        options = self.options
        ratio = {"none": 0.0, "inventory": None}.get(options.negatives, options.ratio)
        drawn: Literal["uniform", "frequency"] = "frequency" if options.negatives == "frequency" else "uniform"
        draw = Negatives(support, self._words, seed, ratio, drawn)
        made = []
        for sentence in support:
            answers = _answers(sentence)
            asked = [*answers, *draw(sentence, answers)]
            draw.random.shuffle(asked)
            if not asked:
                continue
            if self.several:
                made.append(self._asked(sentence, [(name, answers.get(name, [])) for name in asked]))
            else:
                made.append(self._all(sentence, asked))
        return made

    def _asked(self, sentence: Sentence, answered: Sequence[tuple[str, list[str]]]) -> Example:
        pairs = [(f"What describes {self._words[n]} in the text?", _json(found)) for n, found in answered]
        return self._conversation(sentence, pairs)

    def _all(self, sentence: Sentence, asked: Sequence[str]) -> Example:
        answers = _answers(sentence)
        question = f"What describes {', '.join(self._words[name] for name in asked)} in the text?"
        return self._conversation(
            sentence, [(question, _json({self._words[n]: found for n, found in answers.items() if n in asked}))]
        )

    def _conversation(self, sentence: Sentence, pairs: Sequence[tuple[str, str]]) -> Example:
        text = f"Text: {sentence.text}"
        if self.options.dataset:
            text = f"Dataset: {sentence.source}\n{text}"
        read = Turn(text, READ, learned=self.options.loss_on_ack)
        *before, (question, answer) = pairs
        return Example(question, answer, (read, *(Turn(*pair) for pair in before)))

    def raw_answers(self, output: Any) -> Mapping[str, str] | None:
        """Return type -> the answer about it, which UniversalNER's released scorer reads (methods/11, parsing)."""
        if not self.several:
            return None
        answers = output if isinstance(output, list) and len(output) == len(self._words) else [""] * len(self._words)
        pairs = zip(self._words, answers, strict=True)
        return {name: answer if isinstance(answer, str) else "" for name, answer in pairs}

    def parse(self, words: Sequence[str], output: Any) -> Parsed:
        """Read the answers; causes: unparsed, unknown-type, unmatched, surplus. Any JSON value gives a result.

        The n-th item with one string takes its n-th occurrence among the words, never looking at gold (methods/11).
        """
        reading = Reading(words)
        if self.several:
            answers = output if isinstance(output, list) and len(output) == len(self._words) else None
            if answers is None:
                return Parsed((), (Dropped("unparsed", show(output)),))
            for name, answer in zip(self._words, answers, strict=True):
                _take(reading, name, json_list(answer), answer)
        else:
            found = json_object(output)
            if found is None:
                return Parsed((), (Dropped("unparsed", output if isinstance(output, str) else show(output)),))
            for kind, items in found.items():
                if kind not in self._names:
                    reading.drop("unknown-type", kind)
                else:
                    _take(reading, self._names[kind], items if isinstance(items, list) else None, items)
        return reading.result()


def _take(reading: Reading, name: str, items: Sequence[Any] | None, answer: Any) -> None:
    """Take the items of an answer about a type; None are unparsed."""
    if items is None:
        reading.drop("unparsed", answer if isinstance(answer, str) else show(answer), name)
        return
    for item in items:
        if isinstance(item, str):
            reading.name(name, item)
        else:
            reading.drop("unparsed", show(item), name)


def _answers(sentence: Sentence) -> dict[str, list[str]]:
    """Return type -> distinct surfaces in order of first mention."""
    found: dict[str, dict[str, None]] = {}
    for start, end, kind in sorted(sentence.entities):
        found.setdefault(kind, {})[sentence.surface(start, end)] = None
    return {kind: list(surfaces) for kind, surfaces in found.items()}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


FORMAT = UniNer
