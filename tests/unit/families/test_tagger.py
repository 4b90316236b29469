"""The tagger: its loss by hand, its inventory, transfer, resume, and that it learns real sentences."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_encoder import build, fit, job, micro_f1, sentence

from fewtable.corpus import Sentence, Task, tags_to_entities
from fewtable.decoding.transitions import Counts, read_counts
from fewtable.errors import ConfigError
from fewtable.families import tagger
from fewtable.training.encoder import Encoder
from fewtable.training.tagging import TagModel

SUPPORT = (
    sentence(0, "anna saw new york", (0, 1, "per"), (2, 4, "loc")),
    sentence(1, "york", (0, 1, "loc")),
    sentence(2, "she saw anna \u200b there", (2, 3, "per")),
)
TYPES = ("per", "loc")
TASK = Task(1, TYPES, SUPPORT, SUPPORT)
TRAIN = {"epochs": 3, "batch_size": 2, "lr": 1e-3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("bert"), [w for s in SUPPORT for w in s.words], hidden=32)


def test_the_loss_is_the_mean_over_labelled_words(folder: Path) -> None:
    encoder = Encoder(folder, "float32")
    torch.manual_seed(1)
    model = TagModel(encoder, ["O", "B-per", "I-per", "B-loc", "I-loc"], dropout=0.0).eval()
    examples = model.prepare(SUPPORT)
    assert [e.labels for e in examples] == [(1, 0, 3, 4), (3,), (0, 0, 1, 0)]
    with torch.no_grad():
        total, words = model.loss(examples)
        expected = 0.0
        for example in examples:
            for row, gold in zip(model.head(encoder.states(example.windows)).tolist(), example.labels, strict=True):
                expected += math.log(sum(math.exp(x) for x in row)) - row[gold]
    assert words == 9
    assert float(total) == pytest.approx(expected, rel=1e-5)


def test_every_type_has_both_tags_and_words_without_pieces_are_outside(folder: Path, tmp_path: Path) -> None:
    session = tagger.load(job(folder, "tagger", TRAIN))
    task = Task(1, ("per", "loc", "unseen"), SUPPORT, SUPPORT)
    session.fit(task, fit(tmp_path))
    assert load_file(tmp_path / "model" / "head.safetensors")["weight"].shape == (7, 32)
    outputs = list(session.decode(task, tmp_path / "model"))
    assert [len(o) for o in outputs] == [4, 1, 5]
    assert outputs[2][3] == "O"
    assert read_counts(tmp_path / "model") == Counts((1, 2), (2, 2), (2, 1, 0))


def test_a_draw_does_not_depend_on_the_draws_before_it(folder: Path, tmp_path: Path) -> None:
    session = tagger.load(job(folder, "tagger", TRAIN))
    session.fit(TASK, fit(tmp_path / "first"))
    session.fit(Task(2, TYPES, SUPPORT[:1], ()), fit(tmp_path / "other"))
    session.fit(TASK, fit(tmp_path / "again"))
    for name in ("encoder.safetensors", "head.safetensors", "tags.json"):
        first, again = (tmp_path / run / "model" / name for run in ("first", "again"))
        assert first.read_bytes() == again.read_bytes()


def test_transfer_keeps_the_encoder_and_takes_a_fresh_head(folder: Path, tmp_path: Path) -> None:
    session = tagger.load(job(folder, "tagger", TRAIN))
    session.fit(Task(1, ("org",), (sentence(9, "anna york", (0, 1, "org")),), ()), fit(tmp_path / "source"))
    nothing = tagger.load(job(folder, "tagger", {**TRAIN, "epochs": 0}))
    nothing.fit(TASK, fit(tmp_path / "target", init=tmp_path / "source" / "model"))
    left, right = (load_file(tmp_path / r / "model" / "encoder.safetensors") for r in ("source", "target"))
    assert left.keys() == right.keys()
    assert all(torch.equal(left[k], right[k]) for k in left)
    assert load_file(tmp_path / "target" / "model" / "head.safetensors")["weight"].shape == (5, 32)


def test_every_weight_gets_a_gradient_but_rows_of_other_words(folder: Path, tmp_path: Path) -> None:
    session = tagger.load(job(folder, "tagger", {**TRAIN, "weight_decay": 0}))
    before = {k: v.clone() for k, v in Encoder(folder, "float32").model.state_dict().items()}
    session.fit(TASK, fit(tmp_path))
    after = load_file(tmp_path / "model" / "encoder.safetensors")
    still = [k for k in before if before[k].is_floating_point() and torch.equal(before[k], after[k])]
    assert [k for k in still if "key.bias" not in k] == []  # softmax takes a shift of all keys away
    words = "embeddings.word_embeddings.weight"
    unused = (before[words] == after[words]).all(1)
    assert 0 < int(unused.sum()) < len(unused)


class Killed(Exception):
    """Stands for a kill between two steps."""


def test_a_killed_training_ends_with_the_same_weights(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dying(step: int, **values: float) -> None:
        if step == 4:
            raise Killed

    original = tagger.Loop
    monkeypatch.setattr(tagger, "Loop", lambda *a: original(*a, save_every=0))
    tagger.load(job(folder, "tagger", TRAIN)).fit(TASK, fit(tmp_path / "whole"))
    with pytest.raises(Killed):
        tagger.load(job(folder, "tagger", TRAIN)).fit(TASK, fit(tmp_path / "cut", log=dying))
    steps: list[int] = []
    again = fit(tmp_path / "cut", log=lambda step, **values: steps.append(step))
    tagger.load(job(folder, "tagger", TRAIN)).fit(TASK, again)
    assert steps == [4, 5, 6]
    for name in ("encoder.safetensors", "head.safetensors"):
        whole, cut = (tmp_path / run / "model" / name for run in ("whole", "cut"))
        assert whole.read_bytes() == cut.read_bytes()


def test_an_empty_support_is_an_error_a_person_can_mend(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the support has none"):
        tagger.load(job(folder, "tagger", TRAIN)).fit(Task(3, TYPES, (), ()), fit(tmp_path))


def restaurant(mirror: Path, count: int) -> tuple[Sentence, ...]:
    blocks = (mirror / "mit_restaurant" / "train.bio").read_text(encoding="utf-8").strip().split("\n\n")
    found = []
    for number, block in enumerate(blocks[:count]):
        rows: list[Any] = [line.split("\t") for line in block.split("\n")]
        entities = tags_to_entities([tag for tag, _ in rows])
        found.append(Sentence(f"train-{number:06d}", tuple(word for _, word in rows), entities))
    return tuple(found)


@pytest.mark.slow
@pytest.mark.shared
def test_it_learns_fifty_real_sentences(mirror: Path, tmp_path: Path) -> None:
    sentences = restaurant(mirror, 50)
    types = tuple(sorted({e.type for s in sentences for e in s.entities}))
    assert len(types) == 8
    backbone = build(tmp_path / "bert", [w for s in sentences for w in s.words])
    session = tagger.load(job(backbone, "tagger", {"epochs": 60, "batch_size": 8, "lr": 3e-3}))
    task = Task(1, types, sentences, sentences)
    losses: list[float] = []
    session.fit(task, fit(tmp_path, log=lambda step, **values: losses.append(values["loss"])))
    assert losses[0] == pytest.approx(math.log(17), abs=0.3)
    assert micro_f1(task, session.decode(task, tmp_path / "model"), "bio") >= 0.95


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_it_trains_the_same_twice_on_the_gpu(folder: Path, tmp_path: Path) -> None:
    for run in ("a", "b"):
        session = tagger.load(job(folder, "tagger", TRAIN))
        session.fit(TASK, fit(tmp_path / run))
        assert [len(o) for o in session.decode(TASK, tmp_path / run / "model")] == [4, 1, 5]
    a, b = (tmp_path / run / "model" / "encoder.safetensors" for run in ("a", "b"))
    assert a.read_bytes() == b.read_bytes()
