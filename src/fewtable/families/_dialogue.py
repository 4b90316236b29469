"""Examples as tokens of a decoder-only model: a whole turn is tokenised at once, as it is when the model is asked."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from fewtable.corpus import Sentence
from fewtable.decoding.generate import Generation, generate
from fewtable.errors import ConfigError
from fewtable.families._text import cut
from fewtable.formats._surfaces import mentions
from fewtable.formats.base import Example, Format, Marks, Place, Turn
from fewtable.formats.dialogue import Part, Template, parts, turns

if TYPE_CHECKING:
    from fewtable.decoding.constrained import Allowed
    from fewtable.training.sft import Places, Row

log = logging.getLogger(__name__)

Prompts = Sequence[tuple[int, ...]]
SENTENCES = 256
"""How many sentences' ways through the vocabulary are kept while answers are held to them."""


class Answering(Generation):
    """How a decoder-only model answers."""

    copied: bool | Literal["bag"] = False
    """Hold answers to strings copied from the sentence, in a JSON list or in brackets: none is unparsed or unmatched.
    ``bag``: to the tokens of the sentence's words and of brackets, in any order (BANER)."""


class _Encoded(NamedTuple):
    """A turn as tokens."""

    head: list[int]
    """What stands before the answer."""
    lead: list[int]
    """How the answer begins, where that is given."""
    rest: list[int]
    """The rest of the answer, and its end."""
    offsets: list[tuple[int, int]]
    """Where the text of each token of head and lead stands in the turn, in characters."""


class Dialogue:
    """A tokenizer and a template.

    Args:
        tokenizer: a fast one of transformers.
        template: the words around questions and answers.
        limit: most tokens of a prompt. A longer one loses its beginning; a conversation is split between its turns.

    Raises:
        ConfigError: the template is ``chat`` and the tokenizer has none, or one that cannot be learned from.
    """

    def __init__(self, tokenizer: Any, template: Template, limit: int) -> None:
        self._tokenizer = tokenizer
        self._template: Template = template
        self._limit = limit
        if template == "chat" and not tokenizer.chat_template:
            raise ConfigError("the tokenizer has no chat template", where="train.template", fix="set it to plain")

    @property
    def end(self) -> int:
        """The token that ends answers."""
        if self._template == "chat":
            return self._encoded(self._parts(Example("a", "b"))[0], first=True).rest[-1]
        return int(self._tokenizer.eos_token_id)

    def prompt(self, example: Example) -> tuple[int, ...]:
        """Return the ids of an example up to where a model goes on: where its last answer begins, or after its lead."""
        *earlier, last = self._parts(example)
        made = [self._encoded(part, first=n == 0) for n, part in enumerate(earlier)]
        ids = [i for part in made for i in (*part.head, *part.rest)]
        own = self._encoded(last._replace(answer=last.lead), first=not earlier)
        return cut([*ids, *own.head, *own.lead], self._limit, keep_end=True)

    def empty(self, answer: str) -> tuple[int, ...]:
        """Return the ids of an answer without the token that ends it."""
        (part,) = self._parts(Example("a", answer))
        return tuple(self._encoded(part, first=True).rest[:-1])

    def answers(
        self, model: Any, groups: Sequence[Prompts], form: Format, options: Answering, sentences: Sequence[Sentence]
    ) -> list[list[str]]:
        """Return a model's answers to the prompts of each sentence, each with the lead that it was given.

        Raises:
            ConfigError: copied answers are asked for, and format, search or engine cannot be held to any.
        """
        from fewtable.decoding.greedy import answer
        from fewtable.decoding.vllm import VllmEngine

        _check_held(form, options)
        if isinstance(model, VllmEngine) and (options.copied or options.beams > 1):
            raise ConfigError(
                "vLLM answers greedily and freely",
                where="decode",
                fix="set beams: 1 and copied: false, or the backbone's engine: transformers",
            )
        if isinstance(model, VllmEngine):
            return self._texts(model.answer(groups, options.max_new_tokens, self.end), form.lead)
        if options.beams > 1:
            flat = [(prompt, number) for number, group in enumerate(groups) for prompt in group]
            bags = [self._bag(form, s) for s in sentences] if options.copied else None
            offered = [bags[number] for _, number in flat] if bags else None
            prompts = [prompt for prompt, _ in flat]
            written = iter(generate(model, self._tokenizer, prompts, options, (self.end,), offered))
            return [[form.lead + next(written) for _ in group] for group in groups]
        ends = self.empty(form.empty) if form.empty else ()
        held = self._held(groups, form, options, sentences) if options.copied else None
        made = answer(model, groups, options.batch_size, options.max_new_tokens, self.end, ends, held)
        return self._texts(made, form.lead)

    def _held(
        self, groups: Sequence[Prompts], form: Format, options: Answering, sentences: Sequence[Sentence]
    ) -> Callable[[int], Sequence[Allowed]]:
        """Return number of a sentence -> what holds the answers to its prompts; the latest sentences' is kept."""
        from fewtable.decoding.constrained import CopiedList, Language, Paths, among, vocabulary
        from fewtable.decoding.copied_spans import CopiedSpans

        @lru_cache(maxsize=SENTENCES)
        def paths(number: int) -> Paths:
            words, glued, spelled = sentences[number].words, sentences[number].glued, vocabulary(self._tokenizer)
            made: Language
            if form.copies == "brackets":
                made = CopiedSpans(words, glued, form.close, lambda text: len(mentions(words, text)), spelled.lost)
            else:
                lead = " " if self._template in ("plain", "ie-as-qa", "vicuna") else ""
                made = CopiedList(words, glued, lead, spelled.lost)
            return Paths(spelled, made, self.end)

        def held(number: int) -> Sequence[Allowed]:
            if options.copied == "bag":
                return [among(self._bag(form, sentences[number]))] * len(groups[number])
            own = paths(number)
            return [own.constraint(options.max_new_tokens) for _ in groups[number]]

        return held

    def _bag(self, form: Format, sentence: Sentence) -> list[int]:
        """Return the tokens of a sentence's words, each with a space before it and without, of brackets, and the end.

        Followed: BANER's ``myinference.py`` (methods/18).
        """
        words = [lead + word for word in sentence.words for lead in ("", " ")]
        texts = [*words, " <<<", "<<<", " >>>", ">>>", *([form.close] if form.close else [])]
        found = self._tokenizer(texts, add_special_tokens=False)["input_ids"]
        return sorted({self.end, *(token for ids in found for token in ids)})

    def _texts(self, groups: Sequence[Sequence[Sequence[int]]], lead: str) -> list[list[str]]:
        """Return answers as text, what was given of them with the rest."""
        decode = self._tokenizer.batch_decode
        made = [decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False) for ids in groups]
        return [[lead + text for text in group] for group in made]

    def rows(self, examples: Sequence[Example]) -> list[Row]:
        """Return what is learned from the examples, the token that ends each learned answer with it."""
        return [row for example in examples for row in self._rows(example)]

    def _rows(self, example: Example) -> Iterator[Row]:
        from fewtable.training.sft import Row

        ids: list[int] = []
        learned: list[bool] = []
        contrast = None
        for part in self._parts(example):
            made = self._encoded(part, first=not ids)
            prompt = [*made.head, *made.lead]
            if not example.before:
                whole, prompt = len(prompt), list(cut(prompt, self._limit, keep_end=True))
                if example.marks and len(prompt) == whole:
                    contrast = _places(example.marks, part.head.rindex(example.prompt), made.offsets)
            leads = min(len(made.lead), len(prompt))
            ids += [*prompt, *made.rest]
            learned += [False] * (len(prompt) - leads) + [example.lead_learned] * leads
            learned += [part.learned] * len(made.rest)
        if not example.before or len(ids) <= self._limit:
            yield Row(tuple(ids), tuple(learned), contrast)
        else:
            for half in _halves(example):
                yield from self._rows(half)

    def _encoded(self, part: Part, *, first: bool) -> _Encoded:
        """Return the tokens of a turn.

        What is given to a model that answers, it is trained on token by token: head and lead are tokenised together
        and no token of theirs reaches into the rest.
        """
        own = self._template != "chat"  # a chat template writes all special tokens itself
        end = self._tokenizer.eos_token_id
        ids, offsets = self._tokens(part.head + part.answer, first=first and own)
        given = len(part.head) + len(part.lead)
        start = next((n for n, (low, _) in enumerate(offsets) if low >= given), len(ids))
        rest = ids[start:]
        if part.lead:
            before, offsets = self._tokens(part.head + part.lead, first=first and own)
            if ids[: len(before)] == before:
                rest = ids[len(before) :]
            else:
                rest = self._tokens(part.answer[len(part.lead) :], first=False)[0]
            ids, start = before, len(before)
        ends = [end] if own else []
        answer = next((n for n, (low, _) in enumerate(offsets[:start]) if low >= len(part.head)), start)
        return _Encoded(ids[:answer], ids[answer:start], [*rest, *ends], offsets[:start])

    def _tokens(self, text: str, *, first: bool) -> tuple[list[int], list[tuple[int, int]]]:
        """Return ids and places in the text; ``first`` with what the tokenizer adds in front, not what behind."""
        made = self._tokenizer(text, add_special_tokens=first, return_offsets_mapping=True)
        ids, offsets = made["input_ids"], made["offset_mapping"]
        if first and ids and ids[-1] == self._tokenizer.eos_token_id and offsets[-1] == (0, 0):
            return ids[:-1], offsets[:-1]
        return ids, offsets

    def _parts(self, example: Example) -> list[Part]:
        return self._chat(example) if self._template == "chat" else parts(example, self._template)

    def _chat(self, example: Example) -> list[Part]:
        if example.lead:
            raise ConfigError(
                "the format's answers begin alike, and a chat template has no place for what is given of an answer",
                where="train.template",
                fix="set it to bare",
            )
        found: list[Part] = []
        messages: list[dict[str, str]] = []
        written = ""
        for turn in turns(example):
            messages.append({"role": "user", "content": turn.prompt})
            asked = self._templated(messages, answered=False)
            messages.append({"role": "assistant", "content": turn.target})
            whole = self._templated(messages, answered=True)
            if not (asked.startswith(written) and whole.startswith(asked)):
                raise ConfigError(
                    "the chat template writes an answered turn otherwise than an open one",
                    where="train.template",
                    fix="set it to plain",
                )
            # The template's newline after the end of a turn is never generated, so it is not learned.
            answer = whole[len(asked) :].rstrip()
            found.append(Part(asked[len(written) :], answer, turn.learned))
            written = asked + answer
        return found

    def _templated(self, messages: Sequence[dict[str, str]], *, answered: bool) -> str:
        text: str = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=not answered)
        return text


def _check_held(form: Format, options: Answering) -> None:
    """Raise ConfigError where answers cannot be held to what ``options`` say."""
    if options.copied == "bag" and form.copies != "brackets":
        raise ConfigError("a bag is of brackets and words", where="decode.copied", fix="take format brackets")
    if options.copied is True and (not form.copies or options.beams > 1):
        raise ConfigError(
            "answers are held to the sentence where they are JSON lists or in brackets, by greedy decoding alone",
            where="decode.copied",
            fix="leave it out, or take format uniner (query: type) or brackets, and beams: 1",
        )


def _places(marks: Marks, shift: int, offsets: Sequence[tuple[int, int]]) -> Places | None:
    """Return the tokens that have a part of what is marked; None where a mark has none.

    Args:
        marks: places in the prompt.
        shift: where the prompt begins in the text that the offsets count in.
        offsets: where each token's text stands: start, end (exclusive).
    """
    from fewtable.training.sft import Places

    def tokens(place: Place) -> tuple[int, int] | None:
        low, high = place[0] + shift, place[1] + shift
        inside = [n for n, (start, end) in enumerate(offsets) if start < high and end > low]
        return (inside[0], inside[-1] + 1) if inside else None

    anchor, sentence = tokens(marks.type), tokens(marks.sentence)
    if anchor is None or sentence is None:
        return None
    return Places(anchor, sentence, tuple(found for place in marks.entities if (found := tokens(place))))


def _halves(example: Example) -> list[Example]:
    """Return two conversations about the passage, which is the first turn, with half of the questions each.

    None of a single question, which does not fit.
    """
    passage, *asked = turns(example)
    if len(asked) < 2:
        log.warning("a question that does not fit beside its passage is left out: %s", asked[0].prompt)
        return []
    middle = len(asked) // 2
    return [_ending(passage, half) for half in (asked[:middle], asked[middle:])]


def _ending(passage: Turn, asked: Sequence[Turn]) -> Example:
    last = asked[-1]
    return Example(last.prompt, last.target, (passage, *asked[:-1]))
