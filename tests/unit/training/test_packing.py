"""Packed rows: the same logits, losses and gradients as each row alone, and no row sees another."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from fewtable.errors import ConfigError
from fewtable.training.packing import apart, joined, packs
from fewtable.training.sft import Row, causal_loss

SMALL = {
    "vocab_size": 50, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "attn_implementation": "eager",
}  # fmt: skip
LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=9)


def llama() -> Any:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SMALL)).eval()


def mistral() -> Any:
    torch.manual_seed(0)
    return MistralForCausalLM(MistralConfig(**SMALL, sliding_window=5)).eval()


def gpt2() -> Any:
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=32, n_layer=2, n_head=4, n_positions=64)).eval()


MODELS = {make.__name__: make() for make in (llama, mistral, gpt2)}


def made(lengths: list[int], seed: int = 0) -> list[Row]:
    rng = torch.Generator().manual_seed(seed)
    return [
        Row(
            tuple(torch.randint(50, (n,), generator=rng).tolist()),
            tuple(torch.randint(2, (n,), generator=rng).bool().tolist()),
        )
        for n in lengths
    ]


def logits(model: Any, rows: list[Row]) -> torch.Tensor:
    ids, positions = joined([row.ids for row in rows])
    with torch.no_grad(), apart(model):
        found: torch.Tensor = model(input_ids=ids, position_ids=positions, lengths=[len(r) for r in rows]).logits[0]
    return found


def alone(model: Any, rows: list[Row]) -> list[torch.Tensor]:
    return [model(input_ids=torch.tensor([row.ids])).logits[0] for row in rows]


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=15, deadline=None)
@given(lengths=LENGTHS, seed=st.integers(0, 9))
def test_packed_logits_are_those_of_each_row_alone(name: str, lengths: list[int], seed: int) -> None:
    rows = made(lengths, seed)
    with torch.no_grad():
        expected = torch.cat(alone(MODELS[name], rows))
    torch.testing.assert_close(logits(MODELS[name], rows), expected, rtol=1e-4, atol=1e-5)


def test_no_row_sees_another() -> None:
    first, second, third = made([12, 9, 14])
    other = Row(tuple((i + 1) % 50 for i in second.ids), second.learned)
    left, right = (logits(MODELS["llama"], [first, row, third]) for row in (second, other))
    assert torch.equal(left[:12], right[:12]) and torch.equal(left[21:], right[21:])
    assert not torch.equal(left[12:21], right[12:21])


def test_positions_begin_at_zero_in_each_row() -> None:
    ids, positions = joined([(5, 6, 7), (8,), (9, 4)])
    assert ids.tolist() == [[5, 6, 7, 8, 9, 4]]
    assert positions.tolist() == [[0, 1, 2, 0, 0, 1]]


@pytest.mark.parametrize("name", MODELS)
def test_loss_and_gradients_are_those_of_the_rows_alone(name: str) -> None:
    model, rows = MODELS[name], made([17, 1, 30, 8, 8], 3)
    model.zero_grad()
    with apart(model):
        total, tokens = causal_loss(model, autocast=False)(rows)
        total.backward()
    packed = {n: p.grad.clone() for n, p in model.named_parameters()}
    model.zero_grad()
    places = [[i for i, yes in enumerate(row.learned) if yes and i] for row in rows]
    each = [
        cross_entropy(out[[i - 1 for i in own]], torch.tensor([row.ids[i] for i in own]), reduction="sum")
        for row, own, out in zip(rows, places, alone(model, rows), strict=True)
        if own
    ]
    torch.stack(each).sum().backward()
    assert tokens == sum(map(len, places))
    assert float(total.detach()) == pytest.approx(float(torch.stack(each).sum().detach()), rel=1e-5)
    for n, p in model.named_parameters():
        torch.testing.assert_close(packed[n], p.grad, rtol=1e-3, atol=1e-5)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_checkpointing_of_gradients_changes_no_loss_and_no_gradient() -> None:
    rows, found = made([17, 30, 8], 3), []
    for kept in (True, False):
        model = llama().train()
        if not kept:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        with apart(model):
            total, _ = causal_loss(model, autocast=False)(rows)
            total.backward()
        found.append((total.detach(), [p.grad for p in model.parameters()]))
    assert torch.equal(found[0][0], found[1][0])
    assert all(torch.equal(a, b) for a, b in zip(found[0][1], found[1][1], strict=True))


def test_the_attention_of_before_comes_back() -> None:
    model = llama()
    with apart(model):
        assert model.config._attn_implementation != "eager"
    assert model.config._attn_implementation == "eager"


@settings(max_examples=60, deadline=None)
@given(lengths=LENGTHS, size=st.integers(1, 5), shares=st.integers(1, 3))
def test_packs_hold_every_row_once_within_the_limit(lengths: list[int], size: int, shares: int) -> None:
    rows = [(number,) * length for number, length in enumerate(lengths)]
    found = packs(rows, size, shares)
    assert sorted(row for pack in found for row in pack) == rows
    assert all(sum(map(len, pack)) <= size * max(lengths) for pack in found)
    assert len(found) % shares == 0
    assert all(found) or len(rows) < shares * -(-len(rows) // shares)


def test_packs_are_few_and_even() -> None:
    rows = ["a" * n for n in (10, 2, 9, 3, 8, 4)]
    assert [sum(map(len, pack)) for pack in packs(rows, 2)] == [19, 17]
    assert [sum(map(len, pack)) for pack in packs(rows, 100, shares=3)] == [12, 12, 12]
    assert packs(["aa", "b"], 100, shares=4) == [["aa"], ["b"], [], []]


def test_a_model_that_carries_one_row_into_the_next_is_refused() -> None:
    mamba = MambaForCausalLM(MambaConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, state_size=4))
    with pytest.raises(ConfigError, match="'mamba' cannot be trained on packed rows"), apart(mamba):
        pass
    gemma = Gemma2ForCausalLM(Gemma2Config(**SMALL, head_dim=8))
    with pytest.raises(ConfigError, match="capped scores"):
        logits(gemma, made([4, 5]))
