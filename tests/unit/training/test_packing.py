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
from fewtable.training.packing import WORTH, apart, laid, packs
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
    pack = laid(rows)
    with torch.no_grad(), apart(model):
        found = model(input_ids=pack.ids, position_ids=pack.positions, branches=pack.branches).logits[0]
    return torch.cat([found[list(at)] for at in pack.at])


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
    pack = laid([Row((9, 6, 7), (True,) * 3), Row((8,), (True,)), Row((5, 4), (True,) * 2)])
    assert pack.ids.tolist() == [[5, 4, 8, 9, 6, 7]]
    assert pack.positions.tolist() == [[0, 1, 0, 0, 1, 2]]
    assert pack.at == ((3, 4, 5), (2,), (0, 1))


def branching(draw: st.DrawFn) -> list[Row]:
    """Rows that begin alike in several ways, whole twins among them."""
    parts = [tuple(draw(st.integers(0, 49)) for _ in range(draw(st.integers(0, 20)))) for _ in range(4)]
    rows = []
    for _ in range(draw(st.integers(1, 8))):
        prompt = sum((parts[i] for i in draw(st.lists(st.integers(0, 3), max_size=3))), ())
        answer = tuple(draw(st.lists(st.integers(0, 49), min_size=1, max_size=4)))
        rows.append(Row(prompt + answer, (False,) * len(prompt) + (True,) * len(answer)))
    return rows


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=25, deadline=None)
@given(rows=st.composite(branching)())
def test_what_rows_begin_with_alike_is_read_once_and_changes_nothing(name: str, rows: list[Row]) -> None:
    rows = [row for row in rows if len(row) <= 64]
    if not rows:
        return
    pack = laid(rows)
    for row, at in zip(rows, pack.at, strict=True):
        assert tuple(pack.ids[0, list(at)].tolist()) == row.ids
        assert pack.positions[0, list(at)].tolist() == list(range(len(row)))
    learned = [at[n] for row, at in zip(rows, pack.at, strict=True) for n in range(len(row)) if row.learned[n]]
    assert len(set(learned)) == len(learned), "learned tokens are each row's own"
    with torch.no_grad():
        expected = torch.cat(alone(MODELS[name], rows))
    torch.testing.assert_close(logits(MODELS[name], rows), expected, rtol=1e-4, atol=1e-5)


def test_rows_of_several_trainings_share_nothing() -> None:
    header = tuple(range(20))
    rows = [Row((*header, n), (False,) * 20 + (True,), part=n % 2) for n in (41, 42, 43, 44)]
    pack = laid(rows)
    assert pack.parts == {1: slice(22, 44), 0: slice(0, 22)}
    assert pack.at[0][:20] == pack.at[2][:20] != pack.at[1][:20]


def test_shared_tokens_are_read_once() -> None:
    header, first, second = tuple(range(20)), tuple(range(20, 30)), tuple(range(30, 40))
    rows = [Row(header + kind + (n, 49), (False,) * 31 + (True,)) for kind in (first, second) for n in (1, 2, 3)]
    pack = laid(rows)
    assert pack.ids.shape[1] == 20 + 2 * 10 + 6 * 2
    assert [len(branch.before) for branch in pack.branches] == [0, 1, 2, 2, 2, 1, 2, 2, 2]
    short = [Row((*range(WORTH - 1), n), (False,) * (WORTH - 1) + (True,)) for n in (40, 41)]
    assert laid(short).ids.shape[1] == 2 * WORTH


@pytest.mark.parametrize("name", MODELS)
def test_loss_and_gradients_are_those_of_the_rows_alone(name: str) -> None:
    model, rows = MODELS[name], made([17, 1, 30, 8, 8], 3)
    header = made([15])[0].ids
    rows += [Row(header + row.ids, (False,) * 15 + row.learned) for row in rows]
    model.zero_grad()
    with apart(model):
        total, tokens = causal_loss(model, autocast=False)(rows)
        total.sum().backward()
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
    assert float(total.sum().detach()) == pytest.approx(float(torch.stack(each).sum().detach()), rel=1e-5)
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
            total.sum().backward()
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
