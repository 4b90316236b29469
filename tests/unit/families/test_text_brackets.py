"""Answers in brackets through a session: each begins with its lead, is held to the sentence, or to a bag of tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_text
import torch
from test_text import SUPPORT, TASK, TYPES
from test_vllm import vllm  # noqa: F401  (a fixture)
from transformers import LlamaConfig, LlamaForCausalLM

from fewtable.errors import ConfigError
from fewtable.families import causal
from fewtable.predictions import entity_types, make_format
from fewtable.random_tokenizers import byte_tokenizer

WORDINGS = ["obp", "cllmfs"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model that reads bytes."""
    where, made = tmp_path_factory.mktemp("bytes"), byte_tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(made), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        pad_token_id=0, eos_token_id=1, bos_token_id=None, initializer_range=0.5,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(where)
    made.save_pretrained(where)
    return where


def session(folder: Path, wording: str = "obp", engine: str = "transformers", **decode: Any) -> Any:
    train = {"epochs": 1, "batch_size": 2, "lr": 1e-3, "template": "bare", "lora": None}
    form = {"name": "brackets", "wording": wording}
    job = tiny_text.job(folder, "causal", TYPES, train, form=form, batch_size=3, **decode)
    return causal.load(type(job)(job.spec.model_copy(update={"engine": engine}), folder, 4))


def form(wording: str) -> Any:
    types = entity_types({n: {"words": w} for n, w in TYPES.items()})
    return make_format({"name": "brackets", "wording": wording}, types)


@pytest.fixture(scope="module")
def model(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights that were trained a little."""
    fit = tiny_text.fit(tmp_path_factory.mktemp("trained"))
    session(folder).fit(TASK, fit)
    return fit.model


DECODES = [{}, {"beams": 2}, {"copied": True}, {"copied": "bag"}, {"copied": "bag", "beams": 2}]


@pytest.mark.parametrize("decode", DECODES)
@pytest.mark.parametrize("wording", WORDINGS)
def test_an_answer_begins_with_what_was_given_of_it(folder: Path, model: Path, wording: str, decode: Any) -> None:
    made, own = session(folder, wording, **decode), form(wording)
    found = list(made.decode(TASK, model))
    for sentence, answers in zip(TASK.query, found, strict=True):
        assert len(answers) == len(TYPES) and all(a.startswith(own.lead) and a.count(own.lead) == 1 for a in answers)
        if decode.get("copied") is True:
            assert not own.parse(sentence.words, answers).dropped
        if decode.get("copied") == "bag":
            allowed = set("".join([*sentence.words, " <>", own.close]))
            assert all(set(answer.removeprefix(own.lead)) <= allowed for answer in answers)
    free = list(session(folder, wording).decode(TASK, model))
    assert (found == free) == (decode == {})


def test_vllm_goes_on_from_the_lead(vllm: None, folder: Path, model: Path) -> None:  # noqa: F811
    expected = list(session(folder).decode(TASK, model))
    assert list(session(folder, engine="vllm").decode(TASK, model)) == expected
    assert expected[0][0].startswith(form("obp").lead)


def test_what_is_asked_in_rows_is_what_is_asked_in_decoding(folder: Path) -> None:
    made = session(folder)
    rows = tiny_text.rows(made, TASK)
    asked = [made.prompt(query) for sentence in SUPPORT for query in form("obp").render(sentence)]
    assert len(rows) == len(asked)
    assert {row.ids[: len(p)] for row in rows for p in asked if row.ids[: len(p)] == p} == set(asked)
    assert all(row.contrast is not None for row in rows)


def test_answers_are_held_where_they_can_be(folder: Path, model: Path) -> None:
    with pytest.raises(ConfigError, match="by greedy decoding alone"):
        list(session(folder, copied=True, beams=2).decode(TASK, model))
    made = session(folder, copied="bag")
    with pytest.raises(ConfigError, match="a bag is of brackets"):
        made._dialogue.answers(None, [], make_format({"name": "uniner"}, []), made._decode, [])
