"""seq2seq on BART: answers begin with <s> in training and in decoding, and nothing forbids them to repeat."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_text
import torch
from test_text import TYPES
from transformers import BartConfig, GenerationConfig

from fewtable.backbones import materialise
from fewtable.corpus import Entity, Sentence, Task
from fewtable.families import seq2seq
from fewtable.formats.base import Example
from fewtable.registry import Registry
from fewtable.training.sft import seq2seq_loss

SUPPORT = (
    Sentence("train-000000", ("bo", "ann", "al"), tuple(Entity(i, i + 1, "per") for i in range(3))),
    Sentence("train-000001", ("york",), (Entity(0, 1, "loc"),)),
    Sentence("train-000002", ("she", "left")),
)
TASK = Task(1, tuple(TYPES), SUPPORT, SUPPORT)
TRAIN = {"epochs": 400, "batch_size": 3, "lr": 3e-3, "weight_decay": 0.0}


@pytest.fixture(scope="module", params=["words", "tokens"])
def made(request: pytest.FixtureRequest, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("bart") / "tiny-bart"
    materialise("tiny-bart", Registry(root / "config").backbone("tiny-bart"), folder)
    config = BartConfig.from_pretrained(folder)
    config.dropout = 0.0
    config.save_pretrained(folder)
    # What facebook/bart-large brings along: four beams, and no trigram twice.
    own = GenerationConfig.from_pretrained(folder)
    own.update(no_repeat_ngram_size=3, early_stopping=True, num_beams=4)
    own.save_pretrained(folder)
    form = {"shown": "sentence", "labels": request.param}
    return seq2seq.load(
        tiny_text.job(folder, "seq2seq", TYPES, TRAIN, form=form, batch_size=3, max_new_tokens=80, beams=2)
    )


def test_answers_are_framed_once_and_shifted_by_transformers(made: Any) -> None:
    answer, prompt = made.answer(Example("", "bo.")), made.prompt(Example("bo", ""))
    assert (answer[0], answer[-1], answer.count(0), answer.count(2)) == (0, 2, 1, 1)
    assert (prompt[0], prompt[-1], len(prompt)) == (0, 2, 4)
    model = made._load(made.folder, "float32")
    shifted = model.prepare_decoder_input_ids_from_labels(labels=torch.tensor([answer]))[0].tolist()
    assert shifted == [2, 0, *answer[1:-1]]
    assert model.generation_config.forced_bos_token_id == 0


def test_the_loss_is_transformers_own_sum(made: Any) -> None:
    made._speak(made._format(TASK).tokens)
    model = made._grown(made._load(made.folder, "float32"), (), 1)
    rows = tiny_text.rows(made, TASK)
    with torch.no_grad():
        total, tokens = seq2seq_loss(model, made.tokenizer.pad_token_id, autocast=False)(rows)
        each = [
            float(model(input_ids=torch.tensor([r.prompt]), labels=torch.tensor([r.answer])).loss) * len(r.answer)
            for r in rows
        ]
    assert tokens == sum(len(r.answer) for r in rows)
    assert float(total) == pytest.approx(sum(each), rel=1e-5)


@pytest.mark.slow
def test_answers_keep_their_first_token_and_may_repeat_themselves(made: Any, tmp_path: Path) -> None:
    made.fit(TASK, tiny_text.fit(tmp_path))
    form = made._format(TASK)
    answers = list(made.decode(TASK, tmp_path / "model"))
    assert answers == [form.render(s)[0].target for s in SUPPORT]
    assert [form.parse(s.words, a).entities for s, a in zip(SUPPORT, answers, strict=True)] == [
        s.entities for s in SUPPORT
    ]


def test_t5_answers_begin_with_their_first_word(tmp_path: Path) -> None:
    folder = tiny_text.build(tmp_path / "t5", "seq2seq", SUPPORT, TYPES)
    made = seq2seq.load(tiny_text.job(folder, "seq2seq", TYPES, TRAIN))
    assert made.tokenizer.decode(made.answer(Example("", "bo is"))[:1]) == "bo"
    assert made._load(folder, "float32").generation_config.forced_bos_token_id is None
