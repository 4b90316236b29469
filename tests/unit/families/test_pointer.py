"""pointer: what is trained, saved, restored and resumed, where a run starts from, and that it learns real sentences."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import tiny_pointer
import torch
from safetensors.torch import load_file
from tiny_encoder import build_bart, fit
from tiny_pointer import KINDS, SUPPORT, TASK, TRAIN, job, micro_f1, sentence

from fewtable.corpus import Sentence, Task
from fewtable.data.normalise import normalise
from fewtable.errors import ConfigError, DataError
from fewtable.families import pointer
from fewtable.registry import Registry
from fewtable.resolve import Run, resolve
from fewtable.specs import UserConfig
from fewtable.training.encoder import Encoder

FILES = {"bartner": ("encoder.safetensors", "pointer.safetensors"), "lightner": ("pointer.safetensors",)}
MLP = {"mlp.0.weight", "mlp.0.bias", "mlp.3.weight", "mlp.3.bias"}


@pytest.fixture(scope="module")
def folder(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pointer.build(root, tmp_path_factory.mktemp("backbones") / "tiny-bart")


def same(kind: str, left: Path, right: Path) -> bool:
    return all((left / "model" / n).read_bytes() == (right / "model" / n).read_bytes() for n in FILES[kind])


def weights(run: Path, file: str = "pointer.safetensors") -> dict[str, torch.Tensor]:
    return load_file(run / "model" / file)


def test_bartner_trains_every_weight_but_rows_of_other_pieces(folder: Path, tmp_path: Path) -> None:
    before = {k: v.clone() for k, v in Encoder(folder, "float32").model.state_dict().items()}
    for run, epochs in (("nothing", 0), ("trained", 3)):
        train = {**TRAIN, "epochs": epochs, "weight_decay": 0}
        pointer.load(job(folder, train)).fit(TASK, fit(tmp_path / run))
    nothing, trained = weights(tmp_path / "nothing"), weights(tmp_path / "trained")
    assert trained.keys() == {*MLP, "labels.rows"}
    assert not [k for k in trained if torch.equal(nothing[k], trained[k])]
    after = weights(tmp_path / "trained", "encoder.safetensors")
    still = [k for k in after if torch.equal(before[k], after[k])]
    assert [k for k in still if "k_proj.bias" not in k] == []  # softmax takes a shift of all keys away
    unused = (before["shared.weight"] == after["shared.weight"]).all(1)
    assert 0 < int(unused.sum()) < len(unused)


def test_lightner_trains_and_saves_prompts_and_the_verbaliser_alone(folder: Path, tmp_path: Path) -> None:
    session = pointer.load(job(folder, {**KINDS["lightner"], "epochs": 0}))
    session.fit(TASK, fit(tmp_path / "nothing"))
    session = pointer.load(job(folder, {**KINDS["lightner"], "weight_decay": 0}))
    before = {k: v.clone() for k, v in session._encoder.model.state_dict().items()}
    session.fit(TASK, fit(tmp_path / "trained"))
    assert all(torch.equal(v, before[k]) for k, v in session._encoder.model.state_dict().items())
    assert all(p.grad is None for p in session._encoder.model.parameters())
    assert sorted(p.name for p in (tmp_path / "trained" / "model").iterdir()) == ["pointer.safetensors", "types.json"]
    nothing, trained = weights(tmp_path / "nothing"), weights(tmp_path / "trained")
    nets = {f"prompts.sets.{s}.{n}" for s in ("encoder", "decoder", "cross") for n in ("0.weight", "1.weight",
        "1.bias", "3.weight", "3.bias")}  # fmt: skip
    assert trained.keys() == nets | {"labels.weights"}
    assert not [k for k in trained if torch.equal(nothing[k], trained[k])]


@pytest.mark.parametrize("kind", KINDS)
def test_a_draw_leaves_no_trace_on_the_next(folder: Path, tmp_path: Path, kind: str) -> None:
    busy, fresh = (pointer.load(job(folder, KINDS[kind])) for _ in range(2))
    busy.fit(TASK, fit(tmp_path / "first"))
    written = list(busy.decode(TASK, tmp_path / "first" / "model"))
    busy.fit(Task(2, ("loc",), (sentence(3, "york", (0, 1, "loc")),), ()), fit(tmp_path / "other"))
    busy.fit(TASK, fit(tmp_path / "again"))
    assert same(kind, tmp_path / "first", tmp_path / "again")
    assert not same(kind, tmp_path / "first", tmp_path / "other")
    assert list(fresh.decode(TASK, tmp_path / "first" / "model")) == written
    assert [len(list(fresh.decode(TASK, tmp_path / run / "model"))) for run in ("other", "again")] == [3, 3]


class Killed(Exception):
    """Stands for a kill between two steps."""


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_training_ends_with_the_same_weights(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def dying(step: int, **values: float) -> None:
        if step == 4:
            raise Killed

    original = pointer.Loop
    monkeypatch.setattr(pointer, "Loop", lambda *a: original(*a, save_every=0))
    pointer.load(job(folder, KINDS[kind])).fit(TASK, fit(tmp_path / "whole"))
    with pytest.raises(Killed):
        pointer.load(job(folder, KINDS[kind])).fit(TASK, fit(tmp_path / "cut", log=dying))
    steps: list[int] = []
    again = fit(tmp_path / "cut", log=lambda step, **values: steps.append(step))
    pointer.load(job(folder, KINDS[kind])).fit(TASK, again)
    assert steps == [4, 5, 6]
    assert same(kind, tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize("kind", KINDS)
def test_transfer_keeps_all_but_the_types(folder: Path, tmp_path: Path, kind: str) -> None:
    types = {"org": "organisation", "misc": "some other name", "loc": "place name"}
    source = Task(1, tuple(types), (sentence(9, "anna york", (0, 1, "org")),), ())
    pointer.load(job(folder, KINDS[kind], types=types)).fit(source, fit(tmp_path / "source"))
    nothing = pointer.load(job(folder, {**KINDS[kind], "epochs": 0}))
    nothing.fit(TASK, fit(tmp_path / "target", init=tmp_path / "source" / "model"))
    nothing.fit(TASK, fit(tmp_path / "fresh"))
    old, new, fresh = (weights(tmp_path / run) for run in ("source", "target", "fresh"))
    kept = [name for name in old if not name.startswith("labels.")]
    assert kept and all(torch.equal(old[k], new[k]) and not torch.equal(old[k], fresh[k]) for k in kept)
    (labels,) = new.keys() - set(kept)
    assert (len(old[labels]), len(new[labels])) == (3, 2)
    assert json.loads((tmp_path / "target" / "model" / "types.json").read_text()) == ["per", "loc"]
    if kind == "bartner":
        a, b = (weights(tmp_path / run, "encoder.safetensors") for run in ("source", "target"))
        assert all(torch.equal(a[k], b[k]) for k in a)
        (window,) = Encoder(folder, "float32").windows(["person"])
        mean = a["shared.weight"][list(window.ids[1:-1])].mean(0)  # of the pieces as the source run has learnt them
        torch.testing.assert_close(new[labels][0], mean)


def test_a_run_of_another_kind_or_shape_is_refused(folder: Path, tmp_path: Path) -> None:
    for kind in KINDS:
        pointer.load(job(folder, KINDS[kind])).fit(TASK, fit(tmp_path / kind))
    wider = {**TRAIN, "prompts": {**tiny_pointer.PROMPTS, "length": 4}}
    for train, start, said in (
        (TRAIN, "lightner", "no encoder"),
        (KINDS["lightner"], "bartner", "another pointer model"),
        (wider, "lightner", "another pointer model"),
        (KINDS["lightner"], "nothing", "no pointer model"),
    ):
        with pytest.raises(DataError, match=said):
            pointer.load(job(folder, train)).fit(TASK, fit(tmp_path / "new", init=tmp_path / start / "model"))


def test_types_stand_in_the_datasets_order_whatever_the_draw_says(folder: Path, tmp_path: Path) -> None:
    session = pointer.load(job(folder, TRAIN))
    for run, types in (("a", ("per", "loc")), ("b", ("loc", "per"))):
        session.fit(Task(1, types, SUPPORT, ()), fit(tmp_path / run))
    assert same("bartner", tmp_path / "a", tmp_path / "b")


def test_an_empty_support_is_an_error_a_person_can_mend(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the support has none"):
        pointer.load(job(folder, TRAIN)).fit(Task(3, ("per",), (), ()), fit(tmp_path))


def test_a_backbone_that_is_no_bart_is_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="take an encoder or a BART"):
        pointer.load(job(tiny_pointer.build(root, tmp_path / "t5", "tiny-t5"), TRAIN))


def test_long_sentences_are_answered_in_stretches_and_lengths_are_kept(folder: Path, tmp_path: Path) -> None:
    session = pointer.load(job(folder, {**TRAIN, "window": 12}, {"length": 2, "per_word": 0.5}))
    session.fit(TASK, fit(tmp_path))
    query = (sentence(7, "anna york paul rome nora"), Sentence("test-000008", ()), sentence(9, "york"))
    long, empty, short = session.decode(Task(1, TASK.types, (), query), tmp_path / "model")
    assert long.count(None) == 2 and empty == []
    parts: list[list[Any]] = [[]]
    for token in long:
        if token is None:
            parts.append([])
        else:
            parts[-1].append(token)
    words = [{t if isinstance(t, int) else t[0] for t in part if not isinstance(t, str)} for part in parts]
    assert all(found <= own for found, own in zip(words, ({0, 1}, {2, 3}, {4}), strict=True))
    assert all(len(part) <= n for part, n in zip((*parts, short), (3, 3, 2, 2), strict=True))


@pytest.mark.parametrize(
    ("method", "setting", "batch", "lr", "epochs"),
    [
        ("bartner", "5-shot-300", 2, 2e-5, 30),
        ("bartner", "10-shot", 2, 2e-5, 30),
        ("bartner-transfer", "20-shot", 4, 2e-5, 30),
        ("bartner", "50-shot", 8, 2e-5, 30),
        ("bartner", "100-shot", 16, 1e-5, 30),
        ("bartner", "full", 16, 1e-5, 30),
        ("lightner", "10-shot", 2, 5e-5, 30),
        ("lightner", "20-shot", 4, 5e-5, 30),
        ("lightner-transfer", "50-shot", 8, 5e-5, 30),
        ("lightner", "200-shot", 16, 5e-5, 30),
        ("lightner", "full", 16, 5e-5, 30),
    ],
)
def test_hyper_parameters_by_shots(root: Path, method: str, setting: str, batch: int, lr: float, epochs: int) -> None:
    run = Run("mit-restaurant", setting, method, "bart-large")
    found = resolve(Registry(root / "config"), UserConfig(), run)
    assert tuple(found.train[key] for key in ("batch_size", "lr", "epochs")) == (batch, lr, epochs)
    light = method.startswith("lightner")
    assert found.train["prompts"] == ({"length": 10, "width": 800} if light else None)
    name = method.removesuffix("-transfer")
    source = Run("conll2003", "full", name, "bart-large") if method != name else None
    assert found.init == source


def loud_bart(folder: Path, words: list[str], size: int) -> Path:
    """A random BART with larger weights: among BART's own small ones a frozen model can hardly score a type."""
    from transformers import BartConfig, BartForConditionalGeneration

    build_bart(folder, words, size)
    config = BartConfig.from_pretrained(folder, init_std=0.1, dropout=0.0)
    torch.manual_seed(0)
    BartForConditionalGeneration(config).save_pretrained(folder)
    return folder


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("kind", KINDS)
def test_fifty_real_sentences_are_learned(root: Path, mirror: Path, tmp_path: Path, kind: str) -> None:
    spec = Registry(root / "config").dataset("mit-restaurant")
    raw = {name: mirror / str(file.mirror) for name, file in spec.files.items()}
    sentences = tuple(normalise("mit-restaurant", spec, "train", raw)[:50])
    types = {name: t.words for name, t in spec.types.items()}
    words = [w for s in sentences for w in s.words] + [w for t in types.values() for w in t.split()]
    if kind == "bartner":
        backbone = build_bart(tmp_path / "bart", words)
        train: dict[str, Any] = {"epochs": 40, "lr": 2e-3, "dropout": 0.1}
    else:
        backbone = loud_bart(tmp_path / "bart", words, 128)
        train = {"epochs": 50, "lr": 3e-3, "dropout": 0.0, "weight_decay": 0.0, "prompts": {"length": 10, "width": 128}}
    session = pointer.load(job(backbone, {"batch_size": 8, **train}, types=types))
    task = Task(1, tuple(types), sentences, sentences)
    losses: list[float] = []
    session.fit(task, fit(tmp_path, log=lambda step, **values: losses.append(values["loss"])))
    assert losses[0] > math.log(9) > losses[-1]
    assert micro_f1(task, list(session.decode(task, tmp_path / "model"))) >= 0.95


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_on_a_gpu_the_same_answers_come_twice(folder: Path, tmp_path: Path, kind: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    answers = []
    for run in ("a", "b"):
        session = pointer.load(job(folder, KINDS[kind]))
        session.fit(TASK, fit(tmp_path / run))
        answers.append(list(session.decode(TASK, tmp_path / run / "model")))
    assert same(kind, tmp_path / "a", tmp_path / "b")
    assert answers[0] == answers[1]
