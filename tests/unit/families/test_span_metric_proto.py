"""SpanProto and MSDP: vectors and loss by hand, no leak of gold spans, rejection, resume, and learning."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_tagger import Killed
from test_token_metric import trigger_corpus
from tiny_encoder import build, fit, sentence
from tiny_spans import ADAPT, FILES, SUPPORT, TASK, TYPES, build_masked, micro_f1, session, weights

from fewtable.corpus import Entity, Sentence, Task
from fewtable.errors import ConfigError
from fewtable.families import span_metric
from fewtable.training.encoder import Encoder
from fewtable.training.episode import Episode
from fewtable.training.global_pointer import Rule, cells, detection_loss
from fewtable.training.span_proto import (
    Options,
    SpanProto,
    SpanProtoHeads,
    Spans,
    beside,
    chances,
    gold_words,
    right_cells,
    stretches,
)

ONE = {"name": "span-proto", "inner": 8, "margin": 3.0, "alone": 1, "proposed": 0.3}
TWO = {**ONE, "name": "msdp"}
BOTH = pytest.mark.parametrize("model", [ONE, TWO], ids=["span-proto", "msdp"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_masked(tmp_path_factory.mktemp("bert"), [w for s in SUPPORT for w in s.words], hidden=32)


def make(folder: Path, views: int, window: int = 128, margin: float = 3.0) -> SpanProto:
    encoder = Encoder(folder, "float32", window=window)
    torch.manual_seed(0)
    heads = SpanProtoHeads(encoder.size, 8, mean=views == 2)
    return SpanProto(encoder, heads, Options(views, margin, Rule(0.3, 100), alone=2)).eval()


def test_a_window_keeps_the_entities_that_it_holds(folder: Path) -> None:
    model = make(folder, 1, window=8)
    text = sentence(0, "she saw bob saw anna there new york", (2, 3, "per"), (5, 7, "loc"), (7, 8, "loc"))
    parts = stretches(model.read([sentence(1, "\u200b"), text]), 1)
    assert [len(p.window.words) for p in parts] == [6, 2]
    assert [p.text for p in parts] == [1, 1]
    assert [p.gold for p in parts] == [(Entity(2, 3, "per"),), (Entity(1, 2, "loc"),)]
    assert gold_words(parts, torch.device("cpu")).tolist() == [[0, 2, 2], [1, 1, 1]]
    parts = stretches(model.read([sentence(0, "xyz saw")]), 1)
    assert (parts[0].window.first, parts[0].last) == ((1, 4), (3, 4))


def test_windows_without_an_entity_point_at_their_first_piece(folder: Path) -> None:
    parts = stretches(make(folder, 1).read([SUPPORT[0], SUPPORT[3], sentence(4, "xyz", (0, 1, "per"))]), 1)
    valid = cells(torch.tensor([6, 5, 5]), 6)
    assert right_cells(parts, valid).nonzero().tolist() == [[0, 1, 1], [0, 3, 4], [1, 0, 0], [2, 1, 3]]


def test_only_spans_of_whole_words_have_a_probability(folder: Path) -> None:
    parts = stretches(make(folder, 1).read([sentence(0, "xyz saw"), sentence(1, "saw")]), 1)
    scores = torch.randn(2, 6, 6, generator=torch.Generator().manual_seed(0))
    found = chances(scores, parts)
    expected = torch.zeros(2, 2, 2)
    for row, first, last, piece, end in ((0, 0, 0, 1, 3), (0, 0, 1, 1, 4), (0, 1, 1, 4, 4), (1, 0, 0, 1, 1)):
        expected[row, first, last] = torch.sigmoid(scores[row, piece, end])
    torch.testing.assert_close(found, expected)


def test_padding_changes_nothing(folder: Path) -> None:
    model = make(folder, 1)
    parts = stretches(model.read(SUPPORT), 1)
    with torch.no_grad():
        states, lengths = model.padded([p.window for p in parts])
        together = chances(model.heads.pointer(states), parts)
        for row, part in enumerate(parts):
            alone, _ = model.padded([part.window])
            found = chances(model.heads.pointer(alone), [part])[0]
            size = len(part.window.words)
            torch.testing.assert_close(together[row, :size, :size], found, rtol=1e-4, atol=1e-6)
            assert not together[row, size:].any()
            assert not together[row, :, size:].any()
    assert lengths.tolist() == [6, 5, 6, 5]


def test_vectors_are_sums_of_ends_or_means_of_pieces() -> None:
    torch.manual_seed(0)
    states = torch.randn(2, 5, 4)
    spans = Spans(torch.tensor([1, 0]), torch.tensor([1, 3]), torch.tensor([3, 3]))
    for mean in (False, True):
        heads = SpanProtoHeads(4, 4, mean=mean)
        z = torch.sigmoid(heads.project(states))
        expected = [z[1, 1:4].mean(0), z[0, 3]] if mean else [z[1, 1] + z[1, 3], 2 * z[0, 3]]
        torch.testing.assert_close(heads.vectors(states, spans), torch.stack(expected))


def test_spans_beside_an_entity_are_not_wrong() -> None:
    gold = torch.tensor([[0, 2, 4], [1, 0, 0]])
    found = torch.tensor([[0, 2, 4], [0, 1, 5], [0, 3, 3], [0, 2, 6], [0, 0, 4], [1, 2, 4], [1, 1, 1], [1, 0, 2]])
    assert beside(found, gold).tolist() == [True, True, True, False, False, False, True, False]
    assert beside(found, gold[:0]).tolist() == [False] * 8


def by_hand(model: SpanProto, episode: Episode, views: int) -> float:
    """The loss as the papers say it, one span at a time."""
    known, asked = (stretches(model.read(s), 1) for s in (episode.support, episode.query))
    heads, total = model.heads, 0.0
    with torch.no_grad():
        for part in known:
            states, lengths = model.padded([part.window])
            valid = cells(lengths, states.shape[1])
            total += float(detection_loss(heads.pointer(states), right_cells([part], valid), valid)[0]) / len(known)

        def vector(part: Any, first: int, last: int, view: int) -> torch.Tensor:
            start, end = part.window.first[first], part.last[last]
            ids = [*part.window.ids]
            if view == 2:
                ids[start : end + 1] = [model.pieces.mask()] * (end + 1 - start)
            z = torch.sigmoid(heads.project(model.pieces.model(input_ids=torch.tensor([ids])).last_hidden_state[0]))
            return z[start : end + 1].mean(0) if views == 2 else z[start] + z[end]

        wrong = []
        for part in asked:
            states, _ = model.padded([part.window])
            likely = chances(heads.pointer(states), [part])[0]
            cells_found = [tuple(c) for c in (likely >= 0.3).nonzero().tolist()]
            gold = [(e.start, e.end - 1) for e in part.gold]
            wrong += [(part, c) for c in cells_found if not any(abs(c[0] - s) <= 1 >= abs(c[1] - e) for s, e in gold)]
        assert wrong
        for view in range(1, views + 1):
            of = {k: [vector(p, e.start, e.end - 1, view) for p in known for e in p.gold if e.type == k] for k in TYPES}
            means = {k: torch.stack(v).mean(0) for k, v in of.items() if v}
            losses = []
            for part in asked:
                for e in (e for e in part.gold if e.type in means):
                    v = vector(part, e.start, e.end - 1, view)
                    chance = {k: math.exp(-float((v - m).square().sum())) for k, m in means.items()}
                    losses.append(-math.log(chance[e.type] / sum(chance.values())))
            far = [max(0.0, 3.0 - float((vector(p, *c, view) - m).norm())) for p, c in wrong for m in means.values()]
            assert sum(far)
            total += sum(losses) / len(losses) + sum(far) / len(far)
    return total


@pytest.mark.parametrize("views", [1, 2])
@pytest.mark.parametrize("support", [SUPPORT[:2], SUPPORT[1:2]], ids=["all types", "one type"])
def test_the_loss_is_that_of_the_definition(folder: Path, views: int, support: Any) -> None:
    model = make(folder, views)
    query = (SUPPORT[2], sentence(5, "she likes there anna saw york", (3, 4, "per"), (5, 6, "loc")))
    episode = Episode(TYPES, support, query)
    total, weight = model.loss(episode)
    assert weight == 1.0
    assert float(total.detach()) == pytest.approx(by_hand(model, episode, views), rel=1e-3)


@pytest.mark.parametrize("views", [1, 2])
def test_first_the_pointer_learns_alone_then_all_weights(folder: Path, views: int) -> None:
    model = make(folder, views).train()
    for step, alone in ((0, True), (1, True), (2, False)):
        model.zero_grad()
        model.before(step, 1e-3)
        model.loss(Episode(TYPES, SUPPORT[:2], SUPPORT[2:]))[0].backward()  # type: ignore[no-untyped-call]
        still = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
        assert {name for name in still if "key.bias" not in name} == (
            {"heads.project.weight", "heads.project.bias"} if alone else set()
        )


@pytest.mark.parametrize("views", [1, 2])
def test_an_episode_may_lack_anything(folder: Path, views: int) -> None:
    model, bare = make(folder, views), sentence(4, "\u200b")
    for support, query, weight in (
        ((bare,), SUPPORT[:1], 0.0),
        (SUPPORT[:1], (bare,), 1.0),
        (SUPPORT[3:], SUPPORT[:1], 1.0),
        (SUPPORT[:1], SUPPORT[3:], 1.0),
        (SUPPORT[1:2], (sentence(0, "anna", (0, 1, "per")),), 1.0),
    ):
        total, found = model.loss(Episode(TYPES, support, query))
        assert (found, bool(torch.isfinite(total))) == (weight, True)
        total.backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())


def test_the_views_are_one_where_nothing_is_masked_and_differ_elsewhere(folder: Path) -> None:
    model = make(folder, 2)
    parts = stretches(model.read([sentence(0, "anna saw xyz")]), 1)
    spans = Spans.of_words(torch.tensor([[0, 0, 0], [0, 1, 2]]), parts)
    masked = model._masked(parts, spans)
    assert [w.ids.count(model.pieces.mask()) for w in masked] == [1, 4]
    with torch.no_grad():
        states, _ = model.padded([p.window for p in parts])
        plain, around = model._views(states, parts, spans)
        assert not torch.allclose(plain, around)
        model._mask = parts[0].window.ids[1]  # "anna" is hidden by itself
        same = list(model._views(states, parts, spans))
        torch.testing.assert_close(same[0][0], same[1][0])


def test_the_surroundings_do_not_tell_the_word(folder: Path) -> None:
    model = make(folder, 2)
    found = []
    for name in ("anna", "bob"):
        parts = stretches(model.read([sentence(0, f"{name} saw paris")]), 1)
        spans = Spans.of_words(torch.tensor([[0, 0, 0]]), parts)
        with torch.no_grad():
            states, _ = model.padded([p.window for p in parts])
            found.append(list(model._views(states, parts, spans)))
    assert not torch.allclose(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1])


@BOTH
def test_gold_of_the_query_is_not_looked_at(folder: Path, tmp_path: Path, model: dict[str, Any]) -> None:
    """The released evaluation puts the query's gold spans among the candidates; here only the pointer names them."""
    session(folder, model, ADAPT).fit(TASK, fit(tmp_path))
    rng = random.Random(0)
    bare = tuple(Sentence(s.id, s.words) for s in SUPPORT)
    other = tuple(replace(s, entities=tuple(e._replace(type=rng.choice(TYPES)) for e in s.entities)) for s in SUPPORT)
    moved = tuple(Sentence(s.id, s.words, (Entity(1, 3, "loc"),)) for s in SUPPORT)
    for decode in ({"threshold": 0.3}, {"parity": "lowered-threshold"}):
        opened = session(folder, {**model, "margin": 100}, **decode)
        found = [
            list(opened.decode(Task(1, TYPES, SUPPORT, query), tmp_path / "model"))
            for query in (SUPPORT, bare, other, moved)
        ]
        assert found[0] == found[1] == found[2] == found[3]
        assert any(found[0])


@BOTH
def test_a_larger_margin_rejects_less(folder: Path, tmp_path: Path, model: dict[str, Any]) -> None:
    session(folder, model, ADAPT).fit(TASK, fit(tmp_path))
    before: set[Any] = set()
    sizes = []
    for margin in (0.01, 0.2, 0.5, 1.0, 100.0):
        trained = session(folder, {**model, "margin": margin})._trained(tmp_path / "model")
        found = list(trained.candidates(TYPES, SUPPORT[:2], SUPPORT, Rule(0.1, 50)))
        kept = {(number, entity) for number, pairs in enumerate(found) for _, entity in pairs}
        assert before <= kept
        before = kept
        sizes.append(len(kept))
    # An entity of the support is at its own prototype where it is the only one of its type.
    assert sizes[0] <= 1
    assert len(set(sizes)) > 2


@BOTH
def test_a_type_without_support_is_never_answered(folder: Path, tmp_path: Path, model: dict[str, Any]) -> None:
    session(folder, model, ADAPT).fit(TASK, fit(tmp_path / "source"))
    task = Task(1, ("absent", *TYPES), SUPPORT, (*SUPPORT, sentence(4, "\u200b"), sentence(5, "")))
    opened = session(folder, {**model, "margin": 100}, threshold=0.1)
    opened.fit(task, fit(tmp_path, init=tmp_path / "source" / "model"))
    outputs = list(opened.decode(task, tmp_path / "model"))
    assert outputs[4:] == [[], []]
    assert {kind for output in outputs for _, _, kind in output} <= set(TYPES)
    assert any(outputs)
    nothing = Task(1, TYPES, (sentence(0, "\u200b", (0, 1, "per")),), SUPPORT)
    opened.fit(nothing, fit(tmp_path / "nothing", init=tmp_path / "source" / "model"))
    assert list(opened.decode(nothing, tmp_path / "nothing" / "model")) == [[]] * 4


@BOTH
def test_the_order_of_the_support_and_other_queries_change_no_answer(
    folder: Path, tmp_path: Path, model: dict[str, Any]
) -> None:
    session(folder, model, ADAPT).fit(TASK, fit(tmp_path))
    trained, rule = session(folder, {**model, "margin": 100})._trained(tmp_path / "model"), Rule(0.1, 50)
    first = list(trained.candidates(TYPES, SUPPORT, SUPPORT, rule))
    again = list(trained.candidates(TYPES, SUPPORT[::-1], SUPPORT, rule))
    alone = [next(trained.candidates(TYPES, SUPPORT, [s], rule)) for s in SUPPORT]
    for other in (again, alone):
        for left, right in zip(first, other, strict=True):
            assert [span for _, span in left] == [span for _, span in right]
            assert [p for p, _ in left] == pytest.approx([p for p, _ in right], rel=1e-4)
    assert any(first)


def test_a_backbone_without_a_mask_has_no_second_view(tmp_path: Path) -> None:
    plain = build(tmp_path, ["anna"], hidden=32)
    with pytest.raises(ConfigError, match="has no mask"):
        session(plain, TWO, ADAPT).fit(TASK, fit(tmp_path / "run"))


@BOTH
def test_on_the_target_nothing_is_trained(folder: Path, tmp_path: Path, model: dict[str, Any]) -> None:
    session(folder, model, ADAPT).fit(TASK, fit(tmp_path / "source"))
    steps: list[int] = []
    target = Task(1, ("city",), (sentence(0, "she saw paris there", (2, 3, "city")),), SUPPORT)
    opened = session(folder, model)
    init = tmp_path / "source" / "model"
    opened.fit(target, fit(tmp_path / "target", init=init, log=lambda step, **values: steps.append(step)))
    assert steps == []
    assert weights(tmp_path / "target") == weights(tmp_path / "source")
    list(opened.decode(target, tmp_path / "target" / "model"))
    ready = opened._ready
    assert ready is not None
    list(opened.decode(TASK, init))
    assert opened._ready is ready, "one file under two names is read once"


@BOTH
def test_a_draw_does_not_depend_on_the_draws_before_it(folder: Path, tmp_path: Path, model: dict[str, Any]) -> None:
    opened = session(folder, model, ADAPT)
    opened.fit(TASK, fit(tmp_path / "first"))
    asked = (TYPES, SUPPORT, SUPPORT, Rule(0.1, 50))
    answers = list(opened._trained(tmp_path / "first" / "model").candidates(*asked))
    more = sentence(4, "bob likes york", (0, 1, "per"), (2, 3, "loc"))
    opened.fit(Task(2, TYPES, (*SUPPORT, more), ()), fit(tmp_path / "other"))
    assert list(opened._trained(tmp_path / "first" / "model").candidates(*asked)) == answers
    opened.fit(TASK, fit(tmp_path / "again"))
    assert weights(tmp_path / "first") == weights(tmp_path / "again") != weights(tmp_path / "other")
    opened._trained(tmp_path / "other" / "model")
    assert list(opened._trained(tmp_path / "first" / "model").candidates(*asked)) == answers
    assert any(answers)


@BOTH
@pytest.mark.parametrize("killed", [1, 2])
def test_a_killed_training_ends_with_the_same_weights(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: dict[str, Any], killed: int
) -> None:
    """Killed while the pointer learns alone, and after."""

    def dying(step: int, **values: float) -> None:
        if step == killed:
            raise Killed

    model = {**model, "alone": 2}
    adapt = {**ADAPT, "episodes": 8}
    original = span_metric.Loop
    monkeypatch.setattr(span_metric, "Loop", lambda *a, **k: original(*a, **k, save_every=0))
    session(folder, model, adapt).fit(TASK, fit(tmp_path / "whole"))
    with pytest.raises(Killed):
        session(folder, model, adapt).fit(TASK, fit(tmp_path / "cut", log=dying))
    steps: list[int] = []
    session(folder, model, adapt).fit(TASK, fit(tmp_path / "cut", log=lambda step, **values: steps.append(step)))
    assert steps == list(range(killed, 5))
    assert weights(tmp_path / "whole") == weights(tmp_path / "cut")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "least"), [("span-proto", 0.8), ("msdp", 0.8)])
def test_episodes_teach_what_a_trigger_word_means(tmp_path: Path, name: str, least: float) -> None:
    known, asked = trigger_corpus("train", 80, 1), trigger_corpus("test", 60, 2)
    backbone = build_masked(tmp_path / "bert", [w for s in (*known, *asked) for w in s.words])
    shape = {"ways": 3, "shots": 2, "query": 2}
    adapt = {"episodes": 400, "batch_size": 1, "lr": 1e-3, "heads": 3.0, "shape": shape}
    model = {"name": name, "alone": 100}
    session(backbone, model, adapt).fit(Task(1, tuple("abcd"), known, ()), fit(tmp_path / "source"))
    target = Task(1, tuple("abcd"), known[:12], asked)
    opened = session(backbone, model, threshold=0.5)
    opened.fit(target, fit(tmp_path / "target", init=tmp_path / "source" / "model"))
    assert micro_f1(target, list(opened.decode(target, tmp_path / "target" / "model"))) > least
    majority: list[Any] = [[] for _ in asked]
    assert micro_f1(target, majority) == 0.0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@BOTH
def test_it_answers_on_the_gpu(folder: Path, tmp_path: Path, model: dict[str, Any]) -> None:
    opened = session(folder, model, ADAPT)
    opened.fit(TASK, fit(tmp_path))
    assert len(list(opened.decode(TASK, tmp_path / "model"))) == 4
    assert {path.name for path in (tmp_path / "model").iterdir()} >= set(FILES)
