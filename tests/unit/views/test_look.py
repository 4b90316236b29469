"""The job of a view on small random models: what it reads, that nothing is lost, the same bytes twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from fewtable.corpus import Entity, Sample, Sentence, Task, write_samples, write_sentences
from fewtable.errors import DataError
from fewtable.families._text import format_of
from fewtable.families.base import Job
from fewtable.families.causal import load
from fewtable.random_tokenizers import byte_tokenizer
from fewtable.specs import RunSpec
from fewtable.views.inside import question, represented
from fewtable.views.look import _vectors, look
from fewtable.views.space import chosen
from fewtable.views.spec import LookSpec

TYPES = {"PER": "person", "LOC": "place"}
SENTENCES = [
    Sentence(f"test-{n:06d}", ("bo", "left", f"rome{n}"), (Entity(0, 1, "PER"), Entity(2, 3, "LOC"))) for n in range(4)
]
RUN = RunSpec(
    dataset="toy", setting="5-shot", method="m", backbone="tiny", draws=(1,), family="causal", code="",
    types={name: {"words": words, "definition": ""} for name, words in TYPES.items()}, format={"name": "brackets"},
    train={"template": "bare", "epochs": 1, "batch_size": 4, "lr": 1e-3, "lora": None}, dtype="float32",
)  # fmt: skip
ATTENTION = {"type": "PER", "sentence": ["did", "bo", "leave"], "entities": ["bo"]}


def write_model(folder: Path, seed: int) -> None:
    tokenizer = byte_tokenizer()
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, pad_token_id=0, eos_token_id=tokenizer.eos_token_id, bos_token_id=None,
        initializer_range=0.3,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, a sample whose support is the first sentence, and the models of two runs that trained all weights."""
    folder = tmp_path_factory.mktemp("look")
    write_sentences(folder / "data.jsonl", SENTENCES)
    write_samples(folder / "samples.jsonl", [Sample(1, tuple(TYPES), (SENTENCES[0].id,), (SENTENCES[1].id,))])
    for name, seed in (("backbone", 0), ("before/1", 1), ("after/1", 2)):
        write_model(folder / name, seed)
    return folder


def spec(results: Path, **changes: Any) -> LookSpec:
    paths = {name: str(results / f"{name}.jsonl") for name in ("samples", "data")}
    models = {side: str(results / side) for side in ("before", "after")}
    one = {**paths, "backbone": str(results / "backbone"), "models": models, "specs": dict.fromkeys(models, RUN)}
    base = {"draw": 1, "layer": "auto", "attention": None, "space": None, "looks": {"toy": one}}
    return LookSpec.model_validate(base | changes)


def test_the_attention_on_words_and_elsewhere_is_all_of_it(results: Path) -> None:
    found = look(spec(results, attention=ATTENTION))["toy"]
    assert (found["words"], found["entities"], found["type"]) == (("did", "bo", "leave"), [[1, 2]], "PER")
    for side in ("before", "after"):
        own = found[side]
        assert "".join(own["written"][:-1]) == " bo >>>" and own["layer"] == 2
        sums = np.sum(own["attention"], axis=1) + own["elsewhere"]
        assert sums == pytest.approx(np.ones(len(own["written"])), abs=1e-4)
        assert len(own["cosines"]) == 3
    assert found["before"]["attention"] != found["after"]["attention"], "each side has its own model"


def test_points_are_of_unseen_entities_and_the_same_twice(results: Path) -> None:
    made = spec(results, space={"entities": 3, "perplexity": 2})
    found = look(made)["toy"]
    assert len(found["entities"]) == 6 and SENTENCES[0].id not in {entity[0] for entity in found["entities"]}
    assert {(entity[3], entity[4][:2]) for entity in found["entities"]} == {("PER", "bo"), ("LOC", "ro")}
    for side in ("before", "after"):
        assert len(found[side]["points"]) == 6 and set(found[side]["silhouette"]) == {"hidden", "keys", "points"}
    assert json.dumps(found) == json.dumps(look(made)["toy"])


def test_a_vector_is_the_mean_over_the_questions_about_all_types(results: Path) -> None:
    session, task = load(Job(RUN, results / "backbone", 1)), Task(1, tuple(TYPES), (), ())
    form: Any = format_of(RUN, task)
    found = chosen("toy", SENTENCES, 2)
    with session.trained(results / "after/1") as model:
        hidden, keys = _vectors(model, session, form, task, found, 2)
        for number, (sentence, entity) in enumerate(found):
            asked = [question(session, form, sentence, name, [entity[:2]]) for name in TYPES]
            for vectors, own in zip((hidden, keys), zip(*represented(model, asked, 2), strict=True), strict=True):
                assert vectors[number] == pytest.approx(torch.stack(own).mean(0)[0].numpy(), abs=1e-5)


def test_what_is_not_there_is_said(results: Path) -> None:
    with pytest.raises(DataError, match="no draw 2"):
        look(spec(results, draw=2, space={}))
    write_samples(results / "other.jsonl", [Sample(7, tuple(TYPES), (), ())])
    other = spec(results, draw=7, space={}).model_dump()
    other["looks"]["toy"]["samples"] = str(results / "other.jsonl")
    with pytest.raises(DataError, match="no model of draw 7"):
        look(LookSpec.model_validate(other))
    write_sentences(results / "few.jsonl", SENTENCES[:2])
    few = spec(results, space={}).model_dump()
    few["looks"]["toy"]["data"] = str(results / "few.jsonl")
    with pytest.raises(DataError, match="2 entities are too few"):
        look(LookSpec.model_validate(few))
