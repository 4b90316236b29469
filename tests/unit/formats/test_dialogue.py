"""Examples as text: UniversalNER's released conversation byte for byte, and the plain prompt."""

from __future__ import annotations

import pytest

from fewtable.errors import ConfigError
from fewtable.formats.base import Example, Turn
from fewtable.formats.dialogue import Part, parts, text

READ = Turn("Text: any good thai food near the fenway park", "I've read this text.", learned=False)
CUISINE = Turn("What describes Cuisine in the text?", '["thai"]')
LOCATION = Example("What describes Location in the text?", '["near the fenway park"]', (READ, CUISINE))


def test_a_conversation_is_written_as_released() -> None:
    assert text(LOCATION, "ie-as-qa", "</s>") == (
        "A virtual assistant answers questions from a user based on the provided text. "
        "USER: Text: any good thai food near the fenway park ASSISTANT: I've read this text.</s>"
        'USER: What describes Cuisine in the text? ASSISTANT: ["thai"]</s>'
        'USER: What describes Location in the text? ASSISTANT: ["near the fenway park"]</s>'
    )


def test_a_plain_text_has_one_question() -> None:
    assert text(Example("a b", "c."), "plain", "<end>") == "a b\nAnswer: c.<end>"
    with pytest.raises(ConfigError, match="one question"):
        text(LOCATION, "plain", "</s>")


def test_vicunas_conversation_has_its_own_first_line() -> None:
    assert text(Example("Who?", "bo"), "vicuna", "</s>") == (
        "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
        "detailed, and polite answers to the user's questions. USER: Who? ASSISTANT: bo</s>"
    )


def test_a_bare_text_has_nothing_between() -> None:
    led = Example("Who?\n", "It is <<< bo >>>", lead="It is <<<")
    assert text(led, "bare", "</s>") == "Who?\nIt is <<< bo >>></s>"
    assert parts(led, "bare") == [Part("Who?\n", "It is <<< bo >>>", True, "It is <<<")]
    assert parts(led, "plain")[0].lead == " It is <<<" and parts(led, "vicuna")[0].lead == " It is <<<"
    with pytest.raises(ConfigError, match="a bare text has one question"):
        text(LOCATION, "bare", "</s>")
