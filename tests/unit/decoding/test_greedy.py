"""Greedy answers with shared prefixes: the tokens of the plain way, one prompt at a time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from fewtable.decoding.greedy import WORTH, answer, common_prefix

STOP = 1
IDS = st.lists(st.integers(2, 19), min_size=1, max_size=14)
GROUPS = st.lists(st.tuples(IDS, st.lists(IDS, min_size=1, max_size=4)), min_size=1, max_size=4)


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=20, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=True, pad_token_id=0, eos_token_id=STOP, bos_token_id=None,
        initializer_range=0.3, attn_implementation="eager",
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def windowed() -> Any:
    torch.manual_seed(3)
    config = MistralConfig(
        vocab_size=20, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=True, pad_token_id=0, eos_token_id=STOP, bos_token_id=None,
        initializer_range=0.3, attn_implementation="eager", sliding_window=6,
    )  # fmt: skip
    return MistralForCausalLM(config).eval()


def plain(model: Any, prompt: list[int], limit: int) -> list[int]:
    options = GenerationConfig(max_new_tokens=limit, do_sample=False, pad_token_id=0, eos_token_id=STOP)
    ids = torch.tensor([prompt])
    with torch.inference_mode():
        written = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=options)
    found: list[int] = written[0, len(prompt) :].tolist()
    return found[:-1] if found[-1] == STOP else found


@settings(max_examples=40, deadline=None)
@given(GROUPS, st.integers(1, 6))
def test_the_tokens_are_those_of_one_prompt_at_a_time(model: Any, made: list[Any], size: int) -> None:
    groups = [[head + tail for tail in tails] for head, tails in made]
    assert answer(model, groups, size, 6, STOP) == [[plain(model, p, 6) for p in group] for group in groups]


@settings(max_examples=20, deadline=None)
@given(GROUPS)
def test_a_window_sees_no_padding_between_prefix_and_question(windowed: Any, made: list[Any]) -> None:
    groups = [[list(range(2, 2 + WORTH)) + head + tail for tail in tails] for head, tails in made]
    assert answer(windowed, groups, 6, 4, STOP) == [[plain(windowed, p, 4) for p in group] for group in groups]


def test_a_prefix_is_read_once(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    head = list(range(2, 2 + 2 * WORTH))
    seen: list[torch.Size] = []
    decoder = model.get_decoder()
    forward = decoder.forward
    monkeypatch.setattr(decoder, "forward", lambda **given: seen.append(given["input_ids"].shape) or forward(**given))
    answer(model, [[[*head, n] for n in (5, 6, 7)]], 8, 1, STOP)
    assert seen == [torch.Size([1, 2 * WORTH]), torch.Size([3, 1])]


def test_prompts_of_several_sentences_that_begin_alike_are_read_together(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The type stands first: two types, three sentences with both."""
    heads = [list(range(2, 2 + 2 * WORTH)), list(range(3, 3 + 2 * WORTH))]
    groups = [[[*head, n, n + 1] for head in heads] for n in (5, 6, 7)]
    seen: list[torch.Size] = []
    decoder = model.get_decoder()
    forward = decoder.forward
    expected = [[plain(model, prompt, 1) for prompt in group] for group in groups]
    monkeypatch.setattr(decoder, "forward", lambda **given: seen.append(given["input_ids"].shape) or forward(**given))
    assert answer(model, groups, 8, 1, STOP) == expected
    assert seen == [torch.Size([2, 2 * WORTH]), torch.Size([6, 2])]


def test_an_answer_that_nothing_may_follow_ends_at_once(model: Any) -> None:
    prompts = [[n, n + 1, n + 2] for n in range(2, 12)]
    whole = answer(model, [prompts], 4, 6, STOP)[0]
    empty = max((tuple(a[:2]) for a in whole), key=[tuple(a[:2]) for a in whole].count)
    assert any(len(a) > 2 for a in whole if tuple(a[:2]) == empty)
    ended = answer(model, [prompts], 4, 6, STOP, empty)[0]
    assert ended == [list(empty) if tuple(a[:2]) == empty else a for a in whole]


def test_the_common_prefix_leaves_each_prompt_a_token() -> None:
    assert common_prefix([[1, 2, 3], [1, 2]]) == 1
    assert common_prefix([[1, 2, 3], [1, 2, 4, 5]]) == 2
    assert common_prefix([[1], [2]]) == 0


def test_no_prompts_give_no_answers(model: Any) -> None:
    assert answer(model, [], 4, 6, STOP) == []
    assert answer(model, [[], [[2, 3]]], 4, 1, STOP)[0] == []
