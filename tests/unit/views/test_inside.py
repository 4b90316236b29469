"""What is measured in a layer, against the same computed directly on a small random model; tokens back to words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import normalize
from transformers import LlamaConfig, LlamaForCausalLM

from fewtable.corpus import Entity, EntityType, Sentence
from fewtable.errors import ConfigError, DataError
from fewtable.families.base import Job
from fewtable.families.causal import load
from fewtable.formats.brackets import Brackets
from fewtable.predictions import make_format
from fewtable.random_tokenizers import byte_tokenizer
from fewtable.specs import RunSpec
from fewtable.views.inside import Question, attention, by_span, cosines, numbered, question, represented

WORDS = ("any", "good", "thai", "food", "near", "park")
SENTENCE = Sentence("test-000000", WORDS, (Entity(2, 3, "cuisine"),))
EACH = [(n, n + 1) for n in range(len(WORDS))]
LAYER, HEADS, SIZE = 3, 4, 32
TRAIN = {"template": "bare", "epochs": 1, "batch_size": 4, "lr": 1e-3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of four layers whose queries have more heads than its keys."""
    folder = tmp_path_factory.mktemp("inside")
    tokenizer = byte_tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=SIZE, intermediate_size=64, num_hidden_layers=4,
        num_attention_heads=HEADS, num_key_value_heads=2, pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id, bos_token_id=None, initializer_range=0.3,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def session(folder: Path, **train: Any) -> Any:
    spec = RunSpec(
        dataset="toy", setting="5-shot", method="m", backbone="tiny", draws=(1,), types={}, family="causal",
        format={"name": "brackets"}, train={**TRAIN, **train}, dtype="float32", code="",
    )  # fmt: skip
    return load(Job(spec, folder, 1))


@pytest.fixture(scope="module")
def form() -> Brackets:
    types = [EntityType("cuisine", "cuisine", "A style of cooking."), EntityType("place", "place name", "A place.")]
    made = make_format({"name": "brackets"}, types)
    assert isinstance(made, Brackets)
    return made


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    return LlamaForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()


def words(folder: Path, asked: Question) -> list[str]:
    decode = session(folder).tokenizer.decode
    return [decode(asked.ids[start:end]).strip() for start, end in asked.spans]


def test_a_question_knows_its_words_its_type_and_where_its_answer_goes_on(folder: Path, form: Brackets) -> None:
    made = session(folder)
    asked = question(made, form, SENTENCE, "cuisine", EACH)
    assert words(folder, asked) == list(WORDS)
    assert made.tokenizer.decode(asked.ids[slice(*asked.type)]).strip() == "cuisine"
    assert made.tokenizer.decode(asked.ids[asked.start :], skip_special_tokens=True) == " thai >>>"
    assert asked.ids[-1] == made.tokenizer.eos_token_id
    turned = question(made, form, SENTENCE, "place", [(3, 5), (0, 2)])
    assert words(folder, turned) == ["food near", "any good"]


def test_a_prompt_that_does_not_fit_is_an_error(folder: Path, form: Brackets) -> None:
    with pytest.raises(DataError, match="about 'cuisine' does not fit in a prompt: any good thai"):
        question(session(folder, prompt_length=32), form, SENTENCE, "cuisine", EACH)


def test_the_layer_is_as_deep_as_the_papers_and_must_be_there(model: Any) -> None:
    assert numbered(model, "auto") == 3
    assert numbered(model, 4) == 4
    with pytest.raises(ConfigError, match="the model has 4 layers, none of number 5"):
        numbered(model, 5)


def test_attention_is_summed_over_words_and_none_is_lost(folder: Path, form: Brackets, model: Any) -> None:
    asked = question(session(folder), form, SENTENCE, "cuisine", EACH)
    on_words, elsewhere = attention(model, asked, LAYER)
    assert on_words.shape == (len(asked.ids) - asked.start, len(WORDS))
    torch.testing.assert_close(on_words.sum(1) + elsewhere, torch.ones(len(on_words)))
    with torch.no_grad():
        weights = model(torch.tensor([asked.ids]), output_attentions=True).attentions[LAYER - 1][0]
    torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:2]))
    first = weights[:, asked.start - 1].mean(0)
    expected = [float(first[start:end].sum()) for start, end in asked.spans]
    assert on_words[0].tolist() == pytest.approx(expected, abs=1e-6)


def test_a_token_of_two_spans_counts_once() -> None:
    sums, rest = by_span(torch.tensor([[1.0, 2.0, 4.0, 8.0]]), [(0, 2), (1, 3)])
    assert (sums.tolist(), rest.tolist()) == ([[3.0, 4.0]], [8.0])


def inputs_of(model: Any, ids: tuple[int, ...]) -> Any:
    """What the projections of the layer read."""
    with torch.no_grad():
        states = model(torch.tensor([ids]), output_hidden_states=True).hidden_states[LAYER - 1][0]
        return model.model.layers[LAYER - 1].input_layernorm(states)


def projected(linear: Any, states: Any, heads: int) -> Any:
    return (states @ linear.weight.detach().T).view(len(states), heads, -1).mean(1)


def test_the_cosine_is_that_of_the_projections_before_positions(folder: Path, form: Brackets, model: Any) -> None:
    asked = question(session(folder), form, SENTENCE, "cuisine", [*EACH, (0, 3)])
    states, own = inputs_of(model, asked.ids), model.model.layers[LAYER - 1].self_attn
    query = projected(own.q_proj, states, HEADS)[slice(*asked.type)].mean(0)
    keys = projected(own.k_proj, states, 2)
    expected = [float(torch.cosine_similarity(query, keys[slice(*span)].mean(0), dim=0)) for span in asked.spans]
    assert cosines(model, asked, LAYER).tolist() == pytest.approx(expected, abs=1e-5)
    assert len({round(value, 3) for value in expected}) > 4


def test_vectors_are_means_over_tokens_whatever_the_batch(folder: Path, form: Brackets, model: Any) -> None:
    made = session(folder)
    sentences = [Sentence(f"test-{n:06d}", WORDS[: n % 4 + 2]) for n in range(10)]
    asked = [question(made, form, s, "cuisine", [(0, 1), (0, len(s.words))]) for s in sentences]
    for one, (states, projections) in zip(asked, represented(model, asked, LAYER), strict=True):
        with torch.no_grad():
            output = model(torch.tensor([one.ids]), output_hidden_states=True).hidden_states[LAYER][0]
        key = projected(model.model.layers[LAYER - 1].self_attn.k_proj, inputs_of(model, one.ids), 2)
        for place, span in enumerate(one.spans):
            for vectors, directly in ((states, output), (projections, key)):
                expected = normalize(directly[slice(*span)].mean(0), dim=0)
                torch.testing.assert_close(vectors[place], expected, atol=1e-4, rtol=0)
