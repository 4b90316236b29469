"""Examples as tokens of a decoder-only model: a whole turn is tokenised at once, as it is when the model is asked."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from fewtable.corpus import Sentence
from fewtable.decoding.generate import Generation, generate
from fewtable.errors import ConfigError
from fewtable.families._text import cut
from fewtable.formats.base import Example, Format, Turn
from fewtable.formats.dialogue import Part, Template, parts, turns

if TYPE_CHECKING:
    from fewtable.training.sft import Row

log = logging.getLogger(__name__)

Prompts = Sequence[tuple[int, ...]]


class Answering(Generation):
    """How a decoder-only model answers."""

    copied: bool = False
    """Hold answers to JSON lists of strings copied from the sentence: none is unparsed, none unmatched."""


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
            return self._encoded(self._parts(Example("a", "b"))[0], first=True)[1][-1]
        return int(self._tokenizer.eos_token_id)

    def prompt(self, example: Example) -> tuple[int, ...]:
        """Return the ids of an example up to where its last answer begins."""
        *earlier, last = self._parts(example)
        ids = [i for n, part in enumerate(earlier) for ids in self._encoded(part, first=n == 0) for i in ids]
        head = self._encoded(last._replace(answer=""), first=not earlier)[0]
        return cut([*ids, *head], self._limit, keep_end=True)

    def empty(self, answer: str) -> tuple[int, ...]:
        """Return the ids of an answer without the token that ends it."""
        (part,) = self._parts(Example("a", answer))
        return tuple(self._encoded(part, first=True)[1][:-1])

    def answers(
        self, model: Any, groups: Sequence[Prompts], form: Format, options: Answering, sentences: Sequence[Sentence]
    ) -> list[list[str]]:
        """Return a model's answers to the prompts of each sentence.

        Raises:
            ConfigError: copied answers are asked for, and the format has none or there are several beams.
        """
        from fewtable.decoding.constrained import CopiedList, Vocabulary
        from fewtable.decoding.greedy import answer
        from fewtable.decoding.vllm import VllmEngine

        if options.copied and (not form.copies or options.beams > 1):
            raise ConfigError(
                "answers are held to the sentence where they are JSON lists, by greedy decoding alone",
                where="decode.copied",
                fix="leave it out, or take format uniner (query: type) and beams: 1",
            )
        if isinstance(model, VllmEngine) and (options.copied or options.beams > 1):
            raise ConfigError(
                "vLLM answers greedily and freely",
                where="decode",
                fix="set beams: 1 and copied: false, or the backbone's engine: transformers",
            )
        if isinstance(model, VllmEngine):
            return self._texts(model.answer(groups, options.max_new_tokens, self.end))
        if options.beams > 1:
            flat = [prompt for group in groups for prompt in group]
            written = iter(generate(model, self._tokenizer, flat, options, (self.end,)))
            return [[next(written) for _ in group] for group in groups]
        ends = self.empty(form.empty) if form.empty else ()
        allowed = []
        if options.copied:
            vocabulary, lead = Vocabulary(self._tokenizer), "" if self._template == "chat" else " "
            for prompts, sentence in zip(groups, sentences, strict=True):
                language = CopiedList(sentence.words, sentence.glued, lead)
                allowed.append([vocabulary.constraint(language, self.end, options.max_new_tokens) for _ in prompts])
        return self._texts(answer(model, groups, options.batch_size, options.max_new_tokens, self.end, ends, allowed))

    def _texts(self, groups: Sequence[Sequence[Sequence[int]]]) -> list[list[str]]:
        decode = self._tokenizer.batch_decode
        return [decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False) for ids in groups]

    def rows(self, examples: Sequence[Example]) -> list[Row]:
        """Return what is learned from the examples, the token that ends each learned answer with it."""
        return [row for example in examples for row in self._rows(example)]

    def _rows(self, example: Example) -> Iterator[Row]:
        from fewtable.training.sft import Row

        ids: list[int] = []
        learned: list[bool] = []
        for part in self._parts(example):
            head, answer = self._encoded(part, first=not ids)
            if not example.before:
                head = list(cut(head, self._limit, keep_end=True))
            ids += [*head, *answer]
            learned += [False] * len(head) + [part.learned] * len(answer)
        if not example.before or len(ids) <= self._limit:
            yield Row(tuple(ids), tuple(learned))
        else:
            for half in _halves(example):
                yield from self._rows(half)

    def _encoded(self, part: Part, *, first: bool) -> tuple[list[int], list[int]]:
        """Return the ids of a turn before its answer, and those of the answer with its end."""
        own = self._template != "chat"  # a chat template writes all special tokens itself
        made = self._tokenizer(part.head + part.answer, add_special_tokens=first and own, return_offsets_mapping=True)
        ids: list[int] = made["input_ids"]
        end = self._tokenizer.eos_token_id
        if own and ids and ids[-1] == end and made["offset_mapping"][-1] == (0, 0):
            ids = ids[:-1]
        start = next((n for n, (low, _) in enumerate(made["offset_mapping"]) if low >= len(part.head)), len(ids))
        return ids[:start], [*ids[start:], end] if own else ids[start:]

    def _parts(self, example: Example) -> list[Part]:
        return self._chat(example) if self._template == "chat" else parts(example, self._template)

    def _chat(self, example: Example) -> list[Part]:
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
