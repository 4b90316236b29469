"""DecomMeta: losses and gradients by hand, prototypes, paths, resume, and learning to learn a trigger word."""

from __future__ import annotations

import math
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from test_example import micro_f1, without_dropout
from test_tagger import Killed
from tiny_encoder import build, fit, job, sentence

from fewtable.corpus import Entity, Sentence, Task, sentence_id
from fewtable.errors import ConfigError, DataError
from fewtable.families import decom_meta, tagger
from fewtable.registry import Registry
from fewtable.resolve import Run, resolve
from fewtable.specs import UserConfig
from fewtable.training.decom import TAGS, Lesson, Part, SpanTagger, SpanTyper, Table, lesson
from fewtable.training.encoder import Encoder
from fewtable.training.episode import Episode
from fewtable.training.loop import LoopOptions, adamw
from fewtable.training.meta import Inner, Learner, adapt, meta_gradient, meta_train
from fewtable.training.spans import read

SUPPORT = (
    sentence(0, "anna saw new york", (0, 1, "per"), (2, 4, "loc")),
    sentence(1, "she likes paris xyz", (2, 4, "loc")),
    sentence(2, "bob saw \u200b there", (0, 1, "per")),
    sentence(3, "she saw there"),
)
QUERY = (sentence(0, "anna likes new paris", (0, 1, "per"), (2, 4, "loc"), split="test"),)
TYPES = ("per", "loc")
TASK = Task(1, TYPES, SUPPORT, QUERY)
INNER = Inner(steps=2, lr=1e-3, weight_decay=0.01)
TARGET = {"spans": {"steps": 2, "lr": 1e-3, "worst": 5}, "types": {"steps": 2, "lr": 1e-3}}
SHAPE = {"ways": 2, "shots": 1, "query": 1}
OUTER = {"steps": 3, "batch_size": 2, "lr": 1e-3}
SOURCE = {**TARGET, "meta": {"shape": SHAPE, "spans": {**OUTER, "worst": 2}, "types": OUTER}}
SOURCE_TASK = Task(1, TYPES, tuple(sentence(i, s.words and " ".join(s.words), *s.entities) for i, s in enumerate(
    s for _ in range(6) for s in SUPPORT
)), ())  # fmt: skip
MODELS = ["spans", "types"]
SOURCE_KINDS = "abcdefjklmnopqr"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("bert"), [w for s in SUPPORT for w in s.words if w != "xyz"], hidden=32)


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return without_dropout(tmp_path_factory.mktemp("still"), SUPPORT[:1], 32)


def model(folder: Path, key: str, **options: Any) -> tuple[Any, Lesson]:
    """A model of its own seed, and a lesson for it."""
    encoder = Encoder(folder, "float32")
    torch.manual_seed(3)
    made: Part = (
        SpanTagger(encoder, **{"dropout": 0.0, "worst": (5.0, 2.0), **options})
        if key == "spans"
        else SpanTyper(encoder, **{"kappa": 10.0, **options})
    )
    return made.train(), lesson(encoder, Episode(TYPES, SUPPORT, QUERY))


def weights(part: Any) -> list[torch.Tensor]:
    return [p.detach().clone() for p in part.parameters()]


def session(folder: Path, train: dict[str, Any], **decode: Any) -> Any:
    return decom_meta.load(job(folder, "decom-meta", train, decode, tags="spans"))


@pytest.mark.parametrize("worst", [0.0, 5.0])
def test_the_span_loss_is_the_mean_and_the_hardest_word_of_each_sentence(still: Path, worst: float) -> None:
    spans, task = model(still, "spans")
    gold = ["S-e O B-e E-e", "O O B-e E-e", "S-e O O", "O O O"]
    everything, largest = [], []
    with torch.no_grad():
        found = float(spans.loss(task.support, worst))
        for one, tags in zip(task.support, gold, strict=True):
            rows = spans.head(spans._states.states(one.windows)).tolist()
            losses = [
                math.log(sum(map(math.exp, row))) - row[TAGS.index(tag)]
                for row, tag in zip(rows, tags.split(), strict=True)
            ]
            everything += losses
            largest.append(max(losses))
        assert float(spans.support_loss(task)) == float(spans.loss(task.support, 5.0))
        assert float(spans.query_loss(task)) == float(spans.loss(task.query, 2.0))
    assert found == pytest.approx(sum(everything) / 14 + worst * sum(largest) / 4, rel=1e-5)


def test_a_span_is_the_normed_mean_of_all_its_pieces(still: Path) -> None:
    types, task = model(still, "types")
    found = types.vectors(task.support)
    assert found.shape == (4, 32)
    (window,) = task.support[1].windows
    assert len(window.ids) > 4 + 2, "words outside the vocabulary have several pieces"
    with torch.no_grad():
        hidden = types.encoder(input_ids=torch.tensor([window.ids])).last_hidden_state[0]
        expected = torch.nn.functional.layer_norm(hidden[window.first[2] : -1].mean(0), (32,))
    torch.testing.assert_close(found[2].detach(), expected)


def test_prototypes_are_means_and_the_loss_follows_from_them(still: Path) -> None:
    types, task = model(still, "types")
    with torch.no_grad():
        vectors, table = types.vectors(task.support), types.table(task)
        means = torch.stack([(vectors[0] + vectors[3]) / 2, (vectors[1] + vectors[2]) / 2])
        torch.testing.assert_close(table.means, means)
        for found, asked, labels in (
            (types.support_loss(task), vectors, [0, 1, 1, 0]),
            (types.query_loss(task), types.vectors(task.query), [0, 1]),
        ):
            expected = 0.0
            for vector, label in zip(asked, labels, strict=True):
                scores = [10 * float(vector @ mean) / 32 for mean in means]
                expected += math.log(sum(map(math.exp, scores))) - scores[label]
            assert float(found) == pytest.approx(expected / len(labels), rel=1e-4)


@pytest.mark.parametrize("flow", [False, True])
def test_the_gradient_flows_through_prototypes_where_it_is_asked_to(still: Path, flow: bool) -> None:
    types, task = model(still, "types", flow=flow)
    assert types.table(task).means.requires_grad is flow
    fixed, _ = model(still, "types")
    torch.testing.assert_close(types.query_loss(task).detach(), fixed.query_loss(task).detach())
    for loss in (types.support_loss, types.query_loss):
        other = getattr(fixed, loss.__name__)
        ours, theirs = (
            torch.autograd.grad(f(task), list(m.norm.parameters())) for m, f in ((types, loss), (fixed, other))
        )
        assert torch.allclose(ours[0], theirs[0]) is not flow


def test_a_type_without_support_has_no_prototype(still: Path) -> None:
    types, task = model(still, "types")
    scores = types.scores(torch.ones(2, 32), types.table(Lesson(("absent", *TYPES), task.support, [])))
    assert torch.isfinite(scores).tolist() == [[False, True, True]] * 2
    nothing = Table(torch.zeros(1, 32), torch.zeros(1, dtype=torch.bool))
    assert list(types.name(task.support, nothing, None)) == [[None, None], [None], [None], []]


def test_spans_below_the_threshold_are_no_answers(still: Path) -> None:
    types, task = model(still, "types")
    best = types.scores(types.vectors(task.support), types.table(task)).detach().max(-1)
    least = sorted(best.values.tolist())[1]
    found = [kind for own in types.name(task.support, types.table(task), least) for kind in own]
    assert found == [k if s > least else None for s, k in zip(best.values.tolist(), best.indices.tolist(), strict=True)]
    assert found.count(None) == 2


def test_where_there_is_nothing_to_learn_the_loss_is_nought(still: Path) -> None:
    types, task = model(still, "types")
    spans, _ = model(still, "spans")
    without = Lesson(TYPES, task.support[3:], task.support[3:])
    unseen = Lesson(TYPES, [read(spans._states, sentence(0, "\u200b"))], [])
    for part, nothing in ((types, without), (types, unseen), (spans, unseen)):
        assert float(part.support_loss(nothing).detach()) == float(part.query_loss(nothing).detach()) == 0.0
        value, sums = meta_gradient(part, [nothing], INNER, INNER.lr)
        assert value == 0.0
        assert not any(own.any() for own in sums)
    assert 0 < float(spans.support_loss(without).detach()) < math.inf
    one_type = Lesson(TYPES, task.support[1:2], task.query)
    assert float(types.query_loss(one_type).detach()) == 0.0, "per has no prototype, and loc is alone"


@pytest.mark.parametrize("key", MODELS)
def test_a_meta_gradient_leaves_the_weights_as_they_were(folder: Path, key: str) -> None:
    part, task = model(folder, key)
    before = weights(part)
    _, sums = meta_gradient(part, [task, task], INNER, INNER.lr)
    assert all(torch.equal(a, b) for a, b in zip(before, weights(part), strict=True))
    assert all(p.grad is None for p in part.parameters())
    assert any(own.any() for own in sums)


@pytest.mark.parametrize("key", MODELS)
def test_without_inner_steps_the_meta_gradient_is_the_plain_one(still: Path, key: str) -> None:
    part, task = model(still, key)
    value, sums = meta_gradient(part, [task, task], Inner(0, 1e-3, 0.0), 1e-3)
    loss = part.query_loss(task)
    plain = torch.autograd.grad(loss, part.trained())
    assert value == pytest.approx(float(loss.detach()))
    for own, gradient in zip(sums, plain, strict=True):
        torch.testing.assert_close(own, 2 * gradient)


@pytest.mark.parametrize("key", MODELS)
def test_the_meta_gradient_is_that_of_the_query_at_the_adapted_weights(still: Path, key: str) -> None:
    part, task = model(still, key)
    _, sums = meta_gradient(part, [task], INNER, 2e-3)
    optimizer = adamw(part.trained(), INNER.weight_decay)
    for group in optimizer.param_groups:
        group["lr"] = 2e-3
    for _ in range(2):
        optimizer.zero_grad()
        part.support_loss(task).backward()
        optimizer.step()
    for own, gradient in zip(sums, torch.autograd.grad(part.query_loss(task), part.trained()), strict=True):
        torch.testing.assert_close(own, gradient)


class Line(Learner[float]):
    """A weight w; the loss on the support of task t is t * w, on its query 3 * t * w."""

    def __init__(self) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.tensor(1.0))
        self.rates: list[float] = []

    def support_loss(self, task: float) -> torch.Tensor:
        self.rates.append(float(self.w.detach()))
        return task * self.w

    def query_loss(self, task: float) -> torch.Tensor:
        self.rates.append(float(self.w.detach()))
        return 3 * task * self.w


def test_a_meta_step_moves_the_weights_by_the_summed_gradient(tmp_path: Path) -> None:
    """By hand: AdamW's first step is its rate, inside and outside, and the inner rate follows the outer one."""
    line, logged = Line(), []
    options = LoopOptions(epochs=1, batch_size=2, lr=0.1, weight_decay=0.0, warmup=0.5, clip=None)
    loop = decom_meta.Loop(options, 7, lambda step, **v: logged.append((step, v)), tmp_path, 2)
    assert meta_train(line, lambda n: n + 1.0, 8, Inner(1, 0.01, 0.0), loop) == 4
    starts, reached = line.rates[::2], line.rates[1::2]
    assert [round(v["lr"], 6) for _, v in logged] == [0.05, 0.1, 0.1, 0.05]
    assert [a - b for a, b in zip(starts, reached, strict=True)] == pytest.approx(
        [0.005, 0.005, 0.01, 0.01, 0.01, 0.01, 0.005, 0.005], rel=1e-3
    )
    assert starts[0] == starts[1] == 1.0
    assert starts[2] == starts[3] == pytest.approx(0.95)
    assert [step for step, _ in logged] == [1, 2, 3, 4]


def test_the_gradient_of_a_meta_step_is_a_sum_and_its_loss_a_mean(tmp_path: Path) -> None:
    line, seen = Line(), []
    line.w.register_hook(lambda gradient: seen.append(float(gradient)))
    options = LoopOptions(epochs=1, batch_size=2, lr=0.1, warmup=0.0, clip=None)
    losses: list[float] = []
    loop = decom_meta.Loop(options, 7, lambda step, loss, lr: losses.append(loss), tmp_path, 1)
    meta_train(line, lambda n: n + 1.0, 2, Inner(0, 0.01, 0.0), loop)
    assert seen[-1] == pytest.approx(3 * (1 + 2))
    assert losses == pytest.approx([3 * 1.5])


def test_a_loss_on_a_support_that_is_not_finite_is_an_error() -> None:
    with pytest.raises(ConfigError, match="loss on a support is inf"):
        adapt(Line(), math.inf, INNER, 0.1)


@pytest.mark.parametrize("stale", [False, True])
def test_the_release_asks_of_prototypes_one_step_old(still: Path, stale: bool) -> None:
    types, task = model(still, "types", stale=stale)
    with torch.no_grad():
        before = types.table(task).means
    adapt(types, task, Inner(1, 1e-2, 0.0), 1e-2)
    with torch.no_grad():
        found, again = types.table(task).means, types.table(task).means
    assert torch.allclose(found, before) is stale
    assert not torch.allclose(again, before), "a table serves one query"


def test_spans_are_those_of_the_best_path_without_a_forbidden_step(folder: Path) -> None:
    spans, _ = model(folder, "spans")
    with torch.no_grad():
        spans.head.weight.normal_(std=2.0)
    rng = random.Random(1)
    words = [w for s in SUPPORT for w in s.words]
    lines = [*(" ".join(rng.choices(words, k=rng.randint(1, 9))) for _ in range(60)), "", "\u200b"]
    texts = spans.eval().find([read(spans._states, sentence(i, line)) for i, line in enumerate(lines)])
    assert [len(t.gold) > 0 for t in texts].count(True) > 20
    assert [t.gold for t in texts[-2:]] == [(), ()]
    for t in texts:
        assert all(0 <= s < e <= len(t.words) for s, e, _ in t.gold)
        assert all(a.end <= b.start for a, b in pairwise(t.gold))


def test_a_run_answers_and_keeps_its_two_models_and_prototypes(folder: Path, tmp_path: Path) -> None:
    opened = session(folder, TARGET)
    task = Task(1, ("absent", *TYPES), SUPPORT, (*SUPPORT, *QUERY, sentence(9, "\u200b", split="test")))
    steps: list[int] = []
    opened.fit(task, fit(tmp_path, log=lambda step, **values: steps.append(step)))
    assert steps == [1, 2, 3, 4]
    files = sorted(p.name for p in (tmp_path / "model").iterdir())
    assert files == ["prototypes.safetensors", "spans.safetensors", "types.safetensors"]
    table = load_file(tmp_path / "model" / "prototypes.safetensors")
    assert table["present"].tolist() == [False, True, True]
    outputs = list(opened.decode(task, tmp_path / "model"))
    assert len(outputs) == 6
    assert outputs[5] == []
    assert {kind for own in outputs for _, _, kind in own} <= set(TYPES)


def test_the_prototypes_are_those_of_the_adapted_model(folder: Path, tmp_path: Path) -> None:
    opened = session(folder, TARGET)
    opened.fit(TASK, fit(tmp_path))
    types = SpanTyper(Encoder(folder, "float32"), 10.0)
    types.start(tmp_path / "model")
    seen = lesson(types._states, Episode(TYPES, SUPPORT))
    with torch.no_grad():
        expected = types.eval().table(seen)
    table = load_file(tmp_path / "model" / "prototypes.safetensors")
    torch.testing.assert_close(table["means"], expected.means)


@pytest.mark.parametrize("train", [TARGET, SOURCE], ids=["target", "source"])
def test_every_weight_but_the_embeddings_moves(folder: Path, tmp_path: Path, train: dict[str, Any]) -> None:
    encoder = Encoder(folder, "float32")
    opened = session(folder, train)
    opened.fit(SOURCE_TASK, fit(tmp_path))
    before = dict(encoder.model.named_parameters())
    for key in MODELS:
        after = load_file(tmp_path / "model" / f"{key}.safetensors")
        names = {name.removeprefix("encoder.") for name in after} & set(before)
        assert names == {name for name in before if "embeddings" not in name}
        unmoved = [name for name in names if torch.equal(before[name], after[f"encoder.{name}"])]
        assert [name for name in unmoved if "key.bias" not in name] == []
        assert len(after) == len(names) + 2, "and the head or the norm"
    now = dict(opened._encoder.model.named_parameters())
    assert all(torch.equal(before[name], now[name]) for name in before if "embeddings" in name)


def test_a_target_starts_from_both_models_of_its_source(folder: Path, tmp_path: Path) -> None:
    session(folder, SOURCE).fit(SOURCE_TASK, fit(tmp_path / "source"))
    init = tmp_path / "source" / "model"
    frozen = {key: {**TARGET[key], "steps": 0} for key in MODELS}
    session(folder, frozen).fit(TASK, fit(tmp_path / "target", init=init))
    for key in MODELS:
        left, right = (load_file(d / f"{key}.safetensors") for d in (init, tmp_path / "target" / "model"))
        assert all(torch.equal(left[name], right[name]) for name in left)


def test_what_is_no_source_is_an_error_a_person_can_mend(folder: Path, tmp_path: Path) -> None:
    tagger.load(job(folder, "tagger", {"epochs": 1, "batch_size": 4, "lr": 1e-4})).fit(TASK, fit(tmp_path / "other"))
    with pytest.raises(DataError, match="no such model") as error:
        session(folder, TARGET).fit(TASK, fit(tmp_path / "a", init=tmp_path / "other" / "model"))
    assert str(error.value.where).endswith("spans.safetensors")
    larger = build(tmp_path / "bert", ["a"], hidden=64)
    session(larger, TARGET).fit(TASK, fit(tmp_path / "b"))
    with pytest.raises(DataError, match="another encoder"):
        session(folder, TARGET).fit(TASK, fit(tmp_path / "c", init=tmp_path / "b" / "model"))
    with pytest.raises(ConfigError, match="the support has none"):
        session(folder, TARGET).fit(Task(1, TYPES, SUPPORT[3:], ()), fit(tmp_path / "d"))


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "model").iterdir())}


@pytest.mark.parametrize(("train", "task"), [(TARGET, TASK), (SOURCE, SOURCE_TASK)], ids=["target", "source"])
def test_a_draw_does_not_depend_on_the_draws_before_it(folder: Path, tmp_path: Path, train: Any, task: Task) -> None:
    opened = session(folder, train)
    opened.fit(task, fit(tmp_path / "first"))
    opened.fit(Task(2, TYPES, SOURCE_TASK.support[:8], QUERY), fit(tmp_path / "other"))
    list(opened.decode(TASK, tmp_path / "other" / "model"))
    opened.fit(task, fit(tmp_path / "again"))
    first, other, again = (files(tmp_path / run) for run in ("first", "other", "again"))
    assert first == again
    assert all(first[name] != other[name] for name in first)


@pytest.mark.parametrize("last", [2, 5], ids=["spans", "types"])
def test_a_killed_training_ends_with_the_same_weights(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: int
) -> None:
    def dying(step: int, **values: float) -> None:
        if step == last:
            raise Killed

    original = decom_meta.Loop
    monkeypatch.setattr(decom_meta, "Loop", lambda *a: original(*a, save_every=0))
    session(folder, SOURCE).fit(SOURCE_TASK, fit(tmp_path / "whole"))
    with pytest.raises(Killed):
        session(folder, SOURCE).fit(SOURCE_TASK, fit(tmp_path / "cut", log=dying))
    steps: list[int] = []
    session(folder, SOURCE).fit(SOURCE_TASK, fit(tmp_path / "cut", log=lambda step, **values: steps.append(step)))
    assert steps == ([2, 3, 4, 5, 6] if last == 2 else [3, 5, 6])
    assert files(tmp_path / "whole") == files(tmp_path / "cut")


def resolved(root: Path, method: str, run: tuple[str, str], backbone: str = "bert-base-uncased") -> Any:
    return resolve(Registry(root / "config"), UserConfig(), Run(run[0], run[1], method, backbone))


def test_the_methods_are_those_of_the_specification(root: Path) -> None:
    source = resolved(root, "decom-meta-source", ("fewnerd-inter", "full")).train
    assert {k: source["spans"][k] for k in ("steps", "lr", "worst")} == {"steps": 2, "lr": 3e-5, "worst": 5}
    assert {k: source["types"][k] for k in ("steps", "lr", "kappa")} == {"steps": 2, "lr": 1e-4, "kappa": 10}
    outer = [{k: source["meta"][key][k] for k in ("steps", "batch_size", "lr", "clip")} for key in MODELS]
    assert outer == [{"steps": 5001, "batch_size": 32, "lr": lr, "clip": None} for lr in (3e-5, 1e-4)]
    assert source["meta"]["spans"]["worst"] == 2
    target = resolved(root, "decom-meta", ("fewnerd-inter-open", "5-way-1-shot"))
    assert target.train == {
        **source,
        "spans": {**source["spans"], "steps": 3},
        "types": {**source["types"], "steps": 3, "lr": 3e-5},
        "meta": None,
    }
    assert target.decode == {"threshold": None}
    assert target.init == Run("fewnerd-inter-open", "full", "decom-meta-source", "bert-base-uncased")
    crossner = resolved(root, "decom-meta-source", ("wnut17", "full")).train
    assert crossner["meta"]["shape"] == {"ways": None, "shots": 1, "query": 20}
    assert [crossner["spans"]["worst"], crossner["meta"]["spans"]["worst"]] == [0, 0]
    news = resolved(root, "decom-meta", ("crossner-open-news", "hou-1-shot")).train
    assert [news[key]["steps"] for key in MODELS] == [50, 3]
    small = resolved(root, "decom-meta-source", ("wnut17", "full"), "minilm").train["meta"]
    assert all(small[key]["steps"] * small[key]["batch_size"] <= 240 for key in MODELS)


def kinds_corpus(split: str, kinds: str, count: int, seed: int) -> tuple[Sentence, ...]:
    """Sentences with one entity: one or two of ten names, and the trigger word of its type."""
    rng = random.Random(seed)
    found = []
    for number in range(count):
        words = [f"w{rng.randrange(20)}" for _ in range(rng.randint(2, 4))]
        at, kind = rng.randrange(len(words) + 1), rng.choice(kinds)
        entity = [*(f"name{rng.randrange(10)}" for _ in range(rng.choice((1, 2)))), f"trigger{kind}"]
        words[at:at] = entity
        found.append(Sentence(sentence_id(split, number), tuple(words), (Entity(at, at + len(entity), kind),)))
    return tuple(found)


@pytest.mark.slow
def test_a_source_teaches_how_to_learn_types_that_it_does_not_have(tmp_path: Path) -> None:
    source, target = kinds_corpus("train", SOURCE_KINDS, 240, 1), kinds_corpus("test", "ghi", 90, 2)
    backbone = without_dropout(tmp_path / "bert", (*source, *target), 64)
    support = tuple(next(s for s in target if s.entities[0].type == kind) for kind in "ghi")
    task = Task(1, tuple("ghi"), support, tuple(s for s in target if s not in support))
    outer = {"steps": 60, "batch_size": 4, "lr": 5e-3, "clip": None}
    meta = {"shape": {"ways": 3, "shots": 1, "query": 2}, "spans": outer, "types": outer}
    inner = {key: {"steps": 2, "lr": 2e-3} for key in MODELS}
    session(backbone, {**inner, "meta": meta}).fit(Task(1, tuple(SOURCE_KINDS), source, ()), fit(tmp_path / "source"))

    def score(work: str, init: Path | None) -> float:
        opened = session(backbone, inner)
        opened.fit(task, fit(tmp_path / work, init=init))
        return micro_f1(task, list(opened.decode(task, tmp_path / work / "model")))

    untrained, trained = score("untrained", None), score("target", tmp_path / "source" / "model")
    majority = micro_f1(task, [[]] * len(task.query))
    assert majority == 0.0
    assert trained > max(0.6, untrained + 0.2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_it_answers_on_the_gpu(folder: Path, tmp_path: Path) -> None:
    opened = session(folder, SOURCE)
    opened.fit(SOURCE_TASK, fit(tmp_path))
    assert len(list(opened.decode(TASK, tmp_path / "model"))) == 1
