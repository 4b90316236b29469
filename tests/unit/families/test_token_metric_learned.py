"""Matching Network, L-TapNet+CDT and CONTaiNER in their families: they learn, resume, and leave no trace."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from test_decom_meta import SOURCE_KINDS, kinds_corpus
from test_example import without_dropout
from tiny_encoder import fit, micro_f1, sentence
from tiny_metric import WORDS, answers, backbone, session, trigger_task

from fewtable.corpus import Task
from fewtable.decoding.transitions import count, read_counts
from fewtable.errors import ConfigError, DataError
from fewtable.families import container, token_metric
from fewtable.training.encoder import Encoder
from fewtable.training.episode import Episode
from fewtable.training.metric import EpisodeLoss, class_names, class_texts, word_classes
from fewtable.training.scorers import start
from fewtable.training.words import whole

SHAPE = {"ways": 3, "shots": 2, "query": 2}
PLAIN = {"layers": "last", "normalise": False}
EPISODES = {"episodes": 4, "batch_size": 2, "lr": 1e-3, "dropout": 0.0, "shape": SHAPE}
UNSEEN = {**EPISODES, "episodes": 400, "batch_size": 1, "shape": {"ways": 3, "shots": 1, "query": 2}}
METHODS: dict[str, tuple[str, dict[str, Any], str]] = {
    "match": ("token-metric", {**PLAIN, "head": "match", "match": {}, "adapt": EPISODES}, "bio"),
    "tapnet": ("token-metric", {**PLAIN, "head": "tapnet", "tapnet": {"rate": 3.0}, "adapt": EPISODES}, "bio-words"),
    "container": ("container", {"dimensions": 32, "source": {"epochs": 1, "batch_size": 16, "lr": 1e-3}}, "io"),
}
LEARNED = {"match": "scorer.safetensors", "tapnet": "scorer.safetensors", "container": "gaussians.safetensors"}


@pytest.fixture(scope="module")
def task() -> Task:
    return trigger_task(train=60, query=10)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, task: Task) -> Path:
    return backbone(tmp_path_factory.mktemp("bert"), task, layers=2)


@pytest.mark.slow
def test_a_matching_network_learns_what_a_trigger_word_means(tmp_path: Path) -> None:
    task = trigger_task()
    family, options, tags = METHODS["match"]
    adapt = {**EPISODES, "episodes": 400, "batch_size": 1}
    made = session(backbone(tmp_path / "bert", task), family, {**options, "adapt": adapt}, tags)
    assert tags == "bio"
    assert micro_f1(task, answers(made, task, tmp_path / "run"), "bio") > 0.8  # O everywhere has 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "learning", "target", "least"),
    [
        ("tapnet", {"adapt": {**UNSEEN, "lr": 3e-3}}, {"adapt": None}, 0.45),
        (
            "container",
            {"source": {"epochs": 60, "batch_size": 16, "lr": 3e-3}},
            {"source": None, "finetune": {"most": 10, "lr": 1e-3}},
            0.45,
        ),
    ],
)
def test_a_source_teaches_how_to_tell_types_that_it_does_not_have(
    tmp_path: Path, name: str, learning: dict[str, Any], target: dict[str, Any], least: float
) -> None:
    source, asked = kinds_corpus("train", SOURCE_KINDS, 240, 1), kinds_corpus("test", "ghi", 90, 2)
    texts = {kind: f"trigger{kind}" for kind in (*SOURCE_KINDS, *"ghi")}
    support = tuple(next(s for s in asked if s.entities[0].type == kind) for kind in "ghi")
    task = Task(1, tuple("ghi"), support, tuple(s for s in asked if s not in support))
    family, options, tags = METHODS[name]
    folder = without_dropout(tmp_path / "bert", (*source, *asked, sentence(0, "begin inner ordinary")), 64)

    def score(work: str, learning: dict[str, Any]) -> float:
        made = session(folder, family, {**options, **learning}, tags, texts=texts)
        made.fit(Task(1, tuple(SOURCE_KINDS), source, ()), fit(tmp_path / work / "source"))
        init = tmp_path / work / "source" / "model"
        told = session(folder, family, {**options, **target}, tags, texts=texts)
        return micro_f1(task, answers(told, task, tmp_path / work, init), "io" if tags == "io" else "bio")

    little = {key: {**value, "epochs": 0} for key, value in learning.items()}
    assert score("trained", learning) > max(least, score("untrained", little) + 0.1)


@pytest.mark.parametrize("name", METHODS)
def test_a_killed_training_goes_on_to_the_same_weights(
    folder: Path, task: Task, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    family, options, tags = METHODS[name]
    made = session(folder, family, options, tags)
    made.fit(task, fit(tmp_path / "whole"))
    module = container if family == "container" else token_metric
    original = module.Loop
    monkeypatch.setattr(module, "Loop", lambda *a, **k: original(*a, **k, save_every=0))
    calls = itertools.count()

    def log(step: int, **values: float) -> None:
        if next(calls) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made.fit(task, fit(tmp_path / "killed", log=log))
    made.fit(task, fit(tmp_path / "killed"))
    for file in ("encoder.safetensors", LEARNED[name]):
        left, right = (tmp_path / run / "model" / file for run in ("whole", "killed"))
        assert left.read_bytes() == right.read_bytes(), file


@pytest.mark.parametrize("name", METHODS)
def test_a_draw_leaves_no_trace_on_the_next(folder: Path, task: Task, tmp_path: Path, name: str) -> None:
    family, options, tags = METHODS[name]
    shared, fresh = session(folder, family, options, tags), session(folder, family, options, tags)
    other = replace(task, draw=2, support=task.support[30:])
    answers(shared, other, tmp_path / "other")
    assert answers(shared, task, tmp_path / "after") == answers(fresh, task, tmp_path / "alone")
    for file in ("encoder.safetensors", LEARNED[name]):
        left, right = (tmp_path / run / "model" / file for run in ("after", "alone"))
        assert left.read_bytes() == right.read_bytes(), file


@pytest.mark.parametrize("name", ["match", "tapnet"])
def test_a_target_takes_what_its_source_learned(folder: Path, task: Task, tmp_path: Path, name: str) -> None:
    family, options, tags = METHODS[name]
    session(folder, family, options, tags).fit(task, fit(tmp_path / "source"))
    init = tmp_path / "source" / "model"
    made = session(folder, family, {**options, "adapt": None}, tags)
    answers(made, replace(task, support=task.support[:9]), tmp_path / "target", init)
    for file in ("encoder.safetensors", "scorer.safetensors"):
        assert (tmp_path / "target" / "model" / file).samefile(init / file)
    learned = load_file(init / "scorer.safetensors")
    untrained = start(made._options, Encoder(folder, "float32"), None, seed=5).state_dict()
    assert all(not torch.equal(learned[n], untrained[n]) for n in learned)
    (init / "scorer.safetensors").unlink()
    with pytest.raises(DataError, match="is not there, or is another method's"):
        made.fit(task, fit(tmp_path / "third", init=init))


def test_the_loss_with_dependencies_is_that_of_each_query_sentence(folder: Path, task: Task) -> None:
    options = token_metric.Train.model_validate({**METHODS["tapnet"][1], "adapt": None})
    encoder = Encoder(folder, "float32")
    scorer = start(options, encoder, None, seed=1)
    support = [s for s in task.support if {e.type for e in s.entities} <= {"a", "b"}]
    episode = Episode(("a", "b"), tuple(support[:6]), tuple(support[6:9]))
    of = EpisodeLoss(encoder, scorer, normalise=False, dropout=0.0, tags="bio", words=WORDS)
    total, weight = of(episode)
    assert weight == 3
    names = class_names(episode.types, "bio")

    def vectors(sentences: Any) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
        windows = [encoder.windows(s.words)[0] for s in sentences]
        numbers = [word_classes(s, names, w.words, "bio") for s, w in zip(sentences, windows, strict=True)]
        return encoder.states(windows), torch.tensor([n for ns in numbers for n in ns]), [len(ns) for ns in numbers]

    known, labels, _ = vectors(episode.support)
    asked, gold, sizes = vectors(episode.query)
    anchors = torch.cat([encoder.states([whole(encoder, text)]) for text in class_texts(episode.types, WORDS)])
    scores = scorer(asked, known, labels, len(names), anchors)
    assert scorer.chain is not None
    expected = scorer.chain.loss(torch.split(scores, sizes), torch.split(gold, sizes))
    assert float(total.detach()) == pytest.approx(float(expected.detach()), rel=1e-4)


@pytest.mark.parametrize("name", ["match", "tapnet"])
def test_the_gradient_reaches_the_encoder_and_all_that_is_learned(folder: Path, task: Task, name: str) -> None:
    options = METHODS[name][1]
    encoder = Encoder(folder, "float32")
    scorer = start(token_metric.Train.model_validate(options), encoder, None, seed=1).train()
    kind: Any = "bio"
    of = EpisodeLoss(
        encoder,
        scorer,
        normalise=False,
        dropout=0.0,
        tags=kind,
        words={"a": "alpha", "b": "beta", "c": "gamma", "d": "delta"},
    )
    total, _ = of(Episode(task.types, task.support[:30], task.support[30:36]))
    total.backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in scorer.parameters())
    touched = [n for n, p in encoder.model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0]
    assert any("layer.0." in n for n in touched)
    assert any("layer.1." in n for n in touched)


def test_container_learns_from_the_support_until_its_loss_rises(folder: Path, task: Task, tmp_path: Path) -> None:
    session(folder, *METHODS["container"]).fit(task, fit(tmp_path / "source"))
    init = tmp_path / "source" / "model"
    logged: list[float] = []
    target = replace(task, support=task.support[:12])
    made = session(folder, "container", {"dimensions": 32, "finetune": {"most": 4, "lr": 1e-3}}, "io", {"tau": 0.01})
    made.fit(target, fit(tmp_path / "target", init=init, log=lambda step, **values: logged.append(values["loss"])))
    model = tmp_path / "target" / "model"
    assert 1 <= len(logged) <= 4
    assert logged == sorted(logged, reverse=True)
    assert sorted(p.name for p in model.iterdir()) == ["encoder.safetensors", "support.jsonl", "transitions.json"]
    assert read_counts(model) == count(task.support)  # the source's
    before, after = (load_file(m / "encoder.safetensors") for m in (init, model))
    assert any(not torch.equal(before[n], after[n]) for n in before)
    outputs = list(made.decode(target, model))
    assert [len(o) for o in outputs] == [len(s.words) for s in target.query]
    other = session(folder, "container", {"dimensions": 32, "finetune": {"most": 4, "lr": 1e-3}}, "io", {"tau": 0.01})
    assert answers(other, target, tmp_path / "again", init) == outputs


def test_a_support_of_single_words_leaves_containers_encoder_as_it_was(
    folder: Path, task: Task, tmp_path: Path
) -> None:
    session(folder, *METHODS["container"]).fit(task, fit(tmp_path / "source"))
    init = tmp_path / "source" / "model"
    alone = replace(task.support[0], words=task.support[0].words[:1], entities=())
    made = session(folder, "container", {"dimensions": 32, "finetune": {"loss": "euclidean"}}, "io")
    answers(made, replace(task, support=(alone,)), tmp_path / "target", init)
    before, after = (load_file(m / "encoder.safetensors") for m in (init, tmp_path / "target" / "model"))
    assert all(torch.equal(before[n], after[n]) for n in before)


def test_containers_source_may_be_a_part_of_the_sentences(folder: Path, task: Task, tmp_path: Path) -> None:
    steps: list[int] = []
    source = {"epochs": 1, "batch_size": 8, "lr": 1e-3, "sentences": 20}
    session(folder, "container", {"source": source}, "io").fit(
        task, fit(tmp_path, log=lambda step, **values: steps.append(step))
    )
    assert steps == [1, 2, 3]
    with pytest.raises(DataError, match="no Gaussians of this shape"):
        session(folder, "container", {"dimensions": 9, "finetune": {}}, "io").fit(
            task, fit(tmp_path / "other", init=tmp_path / "model")
        )


@pytest.mark.parametrize(
    ("train", "tags", "decode", "said"),
    [
        ({"head": "match"}, "io", {}, "'match' holds the options of head 'match'"),
        ({"head": "nearest", "tapnet": {}}, "io", {}, "'tapnet' holds the options of head 'tapnet'"),
        ({"head": "tapnet", "tapnet": {}}, "bio", {}, "reads the words of the types"),
        ({"head": "tapnet", "tapnet": {}}, "bio-words", {"groups": 2}, "over one support"),
        ({"head": "match", "match": {}}, "bio", {"tau": 0.1}, "transitions are those of io tags"),
    ],
)
def test_what_does_not_fit_together_is_said(folder: Path, train: Any, tags: str, decode: Any, said: str) -> None:
    with pytest.raises((ConfigError, ValueError), match=said):
        session(folder, "token-metric", {**PLAIN, **train}, tags, decode)
