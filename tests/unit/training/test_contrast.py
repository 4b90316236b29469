"""The attention contrast: its value by hand, its negatives, and where its gradient goes; noise on embeddings."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from transformers import LlamaConfig, LlamaForCausalLM

from fewtable.errors import ConfigError
from fewtable.training.contrast import Contrast, Contrasting, beside, contrast, layer_number, shared, terms
from fewtable.training.noise import noisy
from fewtable.training.packing import apart, laid
from fewtable.training.sft import Places, Row, causal_loss
from fewtable.training.weights import adapted

LAYERS, ASKED = 4, 3
LORA = {"r": 4, "alpha": 8, "dropout": 0.0, "targets": ("q_proj", "k_proj", "v_proj", "down_proj")}


def row(length: int, places: Places | None, first: int = 3) -> Row:
    """A row that learns its last three tokens."""
    return Row(tuple(range(first, first + length)), (False,) * (length - 3) + (True,) * 3, places)


# Twelve tokens: the type at 1 and 2, the sentence from 4 to 9, an entity of two tokens and one at the sentence's end.
ROWS = [
    row(12, Places((1, 3), (4, 9), ((5, 7), (8, 9)))),
    row(7, None, first=20),
    row(10, Places((0, 1), (2, 6), ((2, 4),)), first=5),
    row(9, Places((0, 1), (2, 6), ()), first=9),
]
# One after the other.
AT = [range(12), range(12, 19), range(19, 29), range(29, 38)]


@pytest.fixture
def states() -> tuple[torch.Tensor, torch.Tensor]:
    """Queries of four heads and keys of two, as under grouped-query attention."""
    torch.manual_seed(1)
    tokens = sum(map(len, ROWS))
    return torch.randn(tokens, 4, 6), torch.randn(tokens, 2, 6)


def cosine(left: list[float], right: list[float]) -> float:
    dot, *norms = (
        sum(a * b for a, b in zip(x, y, strict=True)) for x, y in ((left, right), (left, left), (right,) * 2)
    )
    return dot / math.sqrt(norms[0] * norms[1])


def mean(states: torch.Tensor, tokens: list[int]) -> list[float]:
    """Over heads, then over tokens."""
    each = [[sum(head[d] for head in states[t].tolist()) / states.shape[1] for d in range(6)] for t in tokens]
    return [sum(column) / len(tokens) for column in zip(*each, strict=True)]


def sigmoid_term(score: float) -> float:
    return math.log(1 + math.exp(-score))


def test_the_value_of_each_example_is_that_of_the_equation(states: tuple[torch.Tensor, torch.Tensor]) -> None:
    """s = sum over entities of (type . entity - sum over neighbours of type . neighbour); -log sigmoid(s)."""
    queries, keys = states
    first = mean(queries, [1, 2])
    score = cosine(first, mean(keys, [5, 6])) - cosine(first, mean(keys, [4])) - cosine(first, mean(keys, [7]))
    score += cosine(first, mean(keys, [8])) - cosine(first, mean(keys, [7]))
    third = mean(queries, [19])
    other = cosine(third, mean(keys, [21, 22])) - cosine(third, mean(keys, [23]))
    found = contrast(queries, keys, ROWS, AT, Contrast())
    assert found is not None
    assert float(found.sum()) == pytest.approx(sigmoid_term(score) + sigmoid_term(other), rel=1e-5)
    assert [terms(r, Contrast()) for r in ROWS] == [1, 0, 1, 0]


def test_each_entity_can_be_a_term_of_its_own(states: tuple[torch.Tensor, torch.Tensor]) -> None:
    queries, keys = states
    first, third = mean(queries, [1, 2]), mean(queries, [19])
    scores = [
        cosine(first, mean(keys, [5, 6])) - cosine(first, mean(keys, [4])) - cosine(first, mean(keys, [7])),
        cosine(first, mean(keys, [8])) - cosine(first, mean(keys, [7])),
        cosine(third, mean(keys, [21, 22])) - cosine(third, mean(keys, [23])),
    ]
    options = Contrast(per_entity=True)
    found = contrast(queries, keys, ROWS, AT, options)
    assert found is not None
    assert float(found.sum()) == pytest.approx(sum(map(sigmoid_term, scores)), rel=1e-5)
    assert [terms(r, options) for r in ROWS] == [2, 0, 1, 0]


@pytest.mark.parametrize("per_entity", [False, True])
def test_infonce_between_the_ends_of_an_entity_and_two_neighbours_a_side(
    states: tuple[torch.Tensor, torch.Tensor], per_entity: bool
) -> None:
    """As CLLMFS: the first token of the type; each end against the neighbours of its entity, at a temperature."""
    queries, keys = states
    options = Contrast(
        form="infonce", positives="ends", anchor="first", neighbours=2, temperature=0.1, per_entity=per_entity
    )

    def value(anchor: int, positives: list[int], negatives: list[int]) -> list[float]:
        def e(token: int) -> float:
            return math.exp(cosine(mean(queries, [anchor]), mean(keys, [token])) / 0.1)

        return [-math.log(e(p) / (e(p) + sum(e(n) for n in negatives))) for p in positives]

    # The neighbours 8 and 6 are entities of the type.
    one, two = value(1, [5, 6], [4, 7]), value(1, [8, 8], [7])
    three = value(19, [21, 22], [23, 24])
    expected = sum(one) / 2 + sum(two) / 2 if per_entity else sum(one + two) / 4
    found = contrast(queries, keys, ROWS, AT, options)
    assert found is not None
    assert float(found.sum()) == pytest.approx(expected + sum(three) / 2, rel=1e-4)


@pytest.mark.parametrize(
    ("entities", "count", "expected"),
    [
        (((5, 7),), 1, [4, 7]),
        (((5, 7),), 2, [3, 4, 7, 8]),
        (((3, 5),), 1, [5]),  # at the beginning of the sentence
        (((4, 9),), 2, [3]),  # at its end
        (((3, 9),), 1, []),  # all of it
        (((5, 7), (7, 8)), 1, [4]),  # another entity of the type follows
        (((5, 7), (8, 9)), 2, [3, 4, 7]),
        (((5, 7), (3, 5)), 2, [7, 8]),
    ],
)
def test_neighbours_lie_in_the_sentence_and_in_no_entity_of_the_type(
    entities: tuple[tuple[int, int], ...], count: int, expected: list[int]
) -> None:
    """Entities of other types are not told, so their tokens stay."""
    assert beside(Places((0, 1), (3, 9), entities), entities[0], count) == expected


def test_the_layer_is_as_deep_as_the_26th_of_32() -> None:
    depths = {32: 26, 12: 10, 16: 13, 22: 18, 24: 20, 28: 23, 30: 24, 36: 29, 1: 1, 2: 2}
    assert {layers: layer_number(layers) for layers in depths} == depths


@pytest.fixture
def model() -> Iterator[tuple[Any, Any]]:
    """A random Llama, and itself with adapters that do something already."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40, hidden_size=32, intermediate_size=48, num_hidden_layers=LAYERS, num_attention_heads=4,
        num_key_value_heads=2, pad_token_id=0, attn_implementation="eager",
    )  # fmt: skip
    base = LlamaForCausalLM(config).requires_grad_(False)
    with adapted(base, LORA, 1, None) as made, apart(base):
        for name, parameter in made.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1)
        yield base, made


def contrasted(base: Any, **options: Any) -> tuple[Any, Contrasting]:
    made = Contrasting(base, Contrast(layer=ASKED, **options))
    return made.added(causal_loss(base, autocast=False)), made


def gradients(loss: Any, made: Any) -> dict[str, torch.Tensor]:
    made.zero_grad()
    loss.sum().backward()
    return {n: p.grad.clone() for n, p in made.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}


def test_the_loss_reads_the_projections_of_the_forward_itself(model: tuple[Any, Any]) -> None:
    """The value by transformers' own attention inputs, row by row."""
    base, _ = model
    rows = shared(ROWS, Contrast(weight=0.5))
    joint, made = contrasted(base, weight=0.5)
    with torch.no_grad():
        total, tokens = joint(rows)
        plain, same = causal_loss(base, autocast=False)(rows)
        expected = 0.0
        for one in (rows[0], rows[2]):
            hidden = base.model(
                input_ids=torch.tensor([one.ids]),
                branches=laid([one]).branches,
                output_hidden_states=True,
                use_cache=False,
            ).hidden_states[ASKED - 1]
            layer = base.model.layers[ASKED - 1]
            inside = layer.input_layernorm(hidden)[0]
            queries, keys = layer.self_attn.q_proj(inside), layer.self_attn.k_proj(inside)
            assert one.contrast is not None
            anchor = queries.view(len(one), 4, 8).mean(1)[slice(*one.contrast.anchor)].mean(0)
            heads = keys.view(len(one), 2, 8).mean(1)
            score = torch.zeros(())
            for entity in one.contrast.entities:
                positive = heads[slice(*entity)].mean(0)
                score = score + torch.cosine_similarity(anchor, positive, dim=0)
                for token in beside(one.contrast, entity, 1):
                    score = score - torch.cosine_similarity(anchor, heads[token], dim=0)
            expected += sigmoid_term(float(score))
    assert tokens == same == 12
    assert made.value() == pytest.approx(expected / 2, rel=1e-5)
    assert made.value() == 0.0
    # Divided by the twelve learned tokens, it is the mean over tokens plus half of the mean over the two examples.
    assert float((total - plain).sum()) / 12 == pytest.approx(0.5 * expected / 2, rel=1e-4)


def test_the_gradient_reaches_q_and_k_of_the_layer_and_all_below_it(model: tuple[Any, Any]) -> None:
    base, made = model
    joint, _ = contrasted(base)
    plain = gradients(causal_loss(base, autocast=False)(ROWS)[0], made)
    both = gradients(joint(ROWS)[0], made)
    assert plain.keys() == both.keys()
    changed = {n.split("layers.")[1] for n in plain if not torch.allclose(plain[n], both[n], rtol=1e-6, atol=1e-9)}
    below = {name.split("layers.")[1] for name in plain if int(name.split("layers.")[1].split(".")[0]) < ASKED - 1}
    own = {f"{ASKED - 1}.self_attn.{kind}_proj.lora_{m}.default.weight" for kind in "qk" for m in "AB"}
    assert changed == below | own
    assert len(below) == 2 * 4 * (ASKED - 1)


def test_the_hidden_states_can_be_read_in_place_of_the_projections(model: tuple[Any, Any]) -> None:
    base, made = model
    joint, _ = contrasted(base, features="hidden")
    plain = gradients(causal_loss(base, autocast=False)(ROWS)[0], made)
    both = gradients(joint(ROWS)[0], made)
    changed = {n.split("layers.")[1] for n in plain if not torch.allclose(plain[n], both[n], rtol=1e-6, atol=1e-9)}
    assert {name.split(".")[0] for name in changed} == {"0", "1", "2"}
    assert f"{ASKED - 1}.mlp.down_proj.lora_B.default.weight" in changed


@pytest.mark.parametrize("options", [{}, {"per_entity": True}, {"features": "hidden", "neighbours": 2}])
def test_a_step_is_the_same_however_it_is_split(model: tuple[Any, Any], options: dict[str, Any]) -> None:
    base, made = model
    joint, value = contrasted(base, weight=2.0, **options)
    rows = shared(ROWS, Contrast(weight=2.0, **options))
    seen = []
    for parts in ([rows], [[r] for r in rows], [[rows[2], rows[1]], [rows[3], rows[0]]]):
        found = [joint(part) for part in parts]
        total = torch.stack([x for x, _ in found]).sum() / sum(n for _, n in found)
        seen.append((float(total.detach()), value.value(), gradients(total, made)))
    for total, mean_value, grads in seen[1:]:
        assert total == pytest.approx(seen[0][0], rel=1e-5)
        assert mean_value == pytest.approx(seen[0][1], rel=1e-5)
        assert all(torch.allclose(grads[n], seen[0][2][n], rtol=1e-3, atol=1e-6) for n in grads)


def test_the_value_is_the_same_where_rows_share_their_beginning(model: tuple[Any, Any]) -> None:
    """As a type's instruction is shared by sentences: its name is read once."""
    base, made = model
    joint, value = contrasted(base, weight=2.0)
    one = Row(tuple(range(3, 17)), (False,) * 11 + (True,) * 3, Places((1, 3), (9, 12), ((10, 11),)))
    two = Row(
        (*range(3, 12), *range(20, 28)), (False,) * 14 + (True,) * 3, Places((1, 3), (9, 14), ((9, 10), (12, 14)))
    )
    assert sum(map(len, laid([one, two]).at)) > laid([one, two]).ids.shape[1]
    whole = gradients(joint([one, two])[0], made)
    together = value.value()
    alone = gradients(joint([one])[0] + joint([two])[0], made)
    assert together == pytest.approx(value.value(), rel=1e-5)
    assert all(torch.allclose(whole[n], alone[n], rtol=1e-3, atol=1e-5) for n in whole)


def test_checkpointed_activations_give_the_same_gradient(model: tuple[Any, Any]) -> None:
    base, made = model
    joint, _ = contrasted(base, weight=2.0)
    plain = gradients(joint(ROWS)[0], made)
    made.gradient_checkpointing_enable({"use_reentrant": False})
    made.train()
    again = gradients(joint(ROWS)[0], made)
    assert plain.keys() == again.keys()
    assert all(torch.allclose(plain[n], again[n], rtol=1e-4, atol=1e-7) for n in plain)


def test_without_an_entity_the_contrast_is_exactly_nothing(model: tuple[Any, Any]) -> None:
    base, _ = model
    joint, made = contrasted(base, weight=100.0)
    rows = shared([ROWS[1], ROWS[3]], Contrast(weight=100.0))
    assert torch.equal(joint(rows)[0], causal_loss(base, autocast=False)(rows)[0])
    assert made.value() == 0.0


def test_no_hook_stays(model: tuple[Any, Any]) -> None:
    base, _ = model
    before = {name: len(module._forward_hooks) for name, module in base.named_modules()}
    for options in ({}, {"features": "hidden"}):
        joint, _ = contrasted(base, **options)
        joint(ROWS)
    broken = replace(ROWS[0], ids=(10_000,) * 12)
    with pytest.raises(IndexError):
        joint([broken])
    noisy(joint, base.train(), 5.0)(ROWS)
    assert {name: len(module._forward_hooks) for name, module in base.named_modules()} == before


def test_a_layer_that_is_not_there_is_an_error(model: tuple[Any, Any]) -> None:
    base, _ = model
    with pytest.raises(ConfigError, match="has 4 layers, the contrast asks for number 5") as caught:
        Contrasting(base, Contrast(layer=5))
    assert caught.value.where == "train.contrast.layer"
    del base.model.layers[ASKED - 1].self_attn.k_proj
    with pytest.raises(ConfigError, match="no q_proj and k_proj"):
        contrasted(base)


def test_a_layer_is_a_number_or_auto() -> None:
    of = TypeAdapter(Contrast)
    assert of.validate_python({"layer": 26}).layer == 26 and of.validate_python({}).layer == "auto"
    for wrong in (0, "last"):
        with pytest.raises(ValueError, match="layer"):
            of.validate_python({"layer": wrong})


def test_noise_is_scaled_by_the_row_and_only_while_training(model: tuple[Any, Any]) -> None:
    """Alpha 5 on embeddings of 32: at most 5 / sqrt(length * 32) a value, of the token's own row."""
    base, _ = model
    seen: list[torch.Tensor] = []
    handle = base.model.layers[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0][0]))
    loss = noisy(causal_loss(base, autocast=False), base, 5.0)
    with torch.no_grad():
        for train in (False, True, True):
            base.train(train)
            torch.manual_seed(3)
            loss(ROWS[:2])
    handle.remove()
    assert torch.equal(seen[1], seen[2])
    noise = (seen[1] - seen[0]).abs()
    for part, length in ((noise[:12], 12), (noise[12:], 7)):
        most = 5 / math.sqrt(length * 32)
        assert 0.9 * most < float(part.max()) <= most * (1 + 1e-5)
        assert float(part.mean()) == pytest.approx(most / 2, rel=0.15)
