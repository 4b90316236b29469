"""Examples as tokens: what is learned, that a prompt begins its row, and how a long conversation is split."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from fewtable.errors import ConfigError
from fewtable.families._dialogue import Dialogue
from fewtable.formats.base import Example, Turn
from fewtable.random_tokenizers import byte_tokenizer

CHAT = (
    "{% for m in messages %}{{ '<' + m.role + '>' + m.content + '~\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)
READ = Turn("Text: bo left", "I've read this text.", learned=False)
TALK = Example("Who?", '["bo"]', (READ, Turn("Where?", "[]")))
FULL = 10_000


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    made = byte_tokenizer()
    made.chat_template = CHAT
    return made


def learned(tokenizer: Any, row: Any) -> str:
    return str(tokenizer.decode([i for i, yes in zip(row.ids, row.learned, strict=True) if yes]))


def test_the_read_turn_is_not_learned_and_each_answer_with_its_end_is(tokenizer: Any) -> None:
    (row,) = Dialogue(tokenizer, "ie-as-qa", FULL).rows([TALK])
    end = tokenizer.eos_token
    assert learned(tokenizer, row) == f' []{end} ["bo"]{end}'
    (row,) = Dialogue(tokenizer, "chat", FULL).rows([TALK])
    assert learned(tokenizer, row) == '[]~["bo"]~'


@pytest.mark.parametrize("template", ["ie-as-qa", "chat"])
def test_a_prompt_is_how_its_row_begins(tokenizer: Any, template: Any) -> None:
    dialogue = Dialogue(tokenizer, template, FULL)
    (row,) = dialogue.rows([TALK])
    prompt = dialogue.prompt(TALK)
    assert row.ids[: len(prompt)] == prompt
    assert row.ids[len(prompt) : -1] == dialogue.empty('["bo"]') and row.ids[-1] == dialogue.end
    assert all(row.learned[len(prompt) :])


def test_a_long_conversation_is_split_between_its_turns(tokenizer: Any, caplog: pytest.LogCaptureFixture) -> None:
    (whole,) = Dialogue(tokenizer, "ie-as-qa", FULL).rows([TALK])
    first, second = Dialogue(tokenizer, "ie-as-qa", len(whole.ids) - 1).rows([TALK])
    where, who = (Example(t, a, (READ,)) for t, a in (("Where?", "[]"), ("Who?", '["bo"]')))
    assert [first, second] == Dialogue(tokenizer, "ie-as-qa", FULL).rows([where, who])
    with caplog.at_level(logging.WARNING):
        assert Dialogue(tokenizer, "ie-as-qa", 40).rows([TALK]) == []
    assert "Who?" in caplog.text


def test_each_half_keeps_its_passage_where_that_turn_is_learned(tokenizer: Any) -> None:
    read = Turn(READ.prompt, READ.target)
    talk = Example("Who?", '["bo"]', (read, Turn("Where?", "[]")))
    (whole,) = Dialogue(tokenizer, "ie-as-qa", FULL).rows([talk])
    rows = Dialogue(tokenizer, "ie-as-qa", len(whole.ids) - 1).rows([talk])
    end = tokenizer.eos_token
    assert [learned(tokenizer, row) for row in rows] == [
        f" {READ.target}{end} []{end}",
        f' {READ.target}{end} ["bo"]{end}',
    ]
    assert all(READ.prompt in tokenizer.decode(row.ids) for row in rows)


def test_a_tokenizer_without_a_chat_template_says_so() -> None:
    with pytest.raises(ConfigError, match="no chat template"):
        Dialogue(byte_tokenizer(), "chat", FULL)
