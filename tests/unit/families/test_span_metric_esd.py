"""ESD: spans, sub-classes of O, scores and loss by hand, sources and targets, resume, and learning."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from test_tagger import Killed
from test_token_metric import trigger_corpus
from tiny_encoder import build, fit, sentence
from tiny_spans import ADAPT, FILES, SUPPORT, TASK, TYPES, micro_f1, weights
from tiny_spans import session as open_session

from fewtable.corpus import Entity, Sentence, Task
from fewtable.decoding.spans import beam, greedy
from fewtable.errors import ConfigError, DataError
from fewtable.families import span_metric
from fewtable.training.encoder import Encoder
from fewtable.training.episode import Episode
from fewtable.training.esd import OUTSIDE, Agreement, Esd, EsdHeads, span_classes
from fewtable.training.spans import all_spans, read

MODEL = {"name": "esd", "longest": 3, "width": 8}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("bert"), [w for s in SUPPORT for w in s.words], hidden=32)


@pytest.fixture
def model(folder: Path) -> Esd:
    torch.manual_seed(0)
    encoder = Encoder(folder, "float32")
    return Esd(encoder, EsdHeads(encoder.size, 8, 0.5, 0.1), longest=3, outside=None).eval()


def session(folder: Path, train: dict[str, Any] | None = None, **decode: Any) -> Any:
    given = {"model": MODEL, "adapt": ADAPT} if train is None else {"model": MODEL, "adapt": None, **train}
    return open_session(folder, **given, **decode)


@pytest.mark.parametrize(("length", "longest"), [(0, 3), (1, 3), (3, 3), (7, 3), (5, 1), (4, 9)])
def test_there_are_as_many_spans_as_there_should_be(length: int, longest: int) -> None:
    spans = all_spans(length, longest).tolist()
    assert len(spans) == sum(max(length - size + 1, 0) for size in range(1, longest + 1))
    assert spans == [[s, e] for s in range(length) for e in range(s + 1, min(s + longest, length) + 1)]


def test_spans_of_o_are_apart_from_entities_or_overlap_or_lie_within() -> None:
    spans = torch.tensor([[3, 4], [1, 4], [0, 7], [7, 9], [2, 5], [4, 6], [7, 8]])
    gold = (Entity(2, 5, "per"), Entity(7, 8, "loc"))
    assert span_classes(spans, gold, TYPES).tolist() == [2, 1, 1, 1, OUTSIDE + 1, 1, OUTSIDE]
    assert span_classes(spans, gold[:1], TYPES).tolist() == [2, 1, 1, 0, OUTSIDE + 1, 1, 0]
    assert span_classes(spans, (), TYPES).tolist() == [0] * 7
    assert span_classes(torch.zeros(0, 2, dtype=torch.long), gold, TYPES).tolist() == []


def test_words_without_a_piece_are_no_words_of_a_span(folder: Path) -> None:
    encoder = Encoder(folder, "float32")
    text = read(encoder, sentence(0, "saw \u200b anna \u200b there", (1, 4, "per"), (1, 2, "loc")))
    assert (text.words, text.gold) == ((0, 2, 4), (Entity(1, 2, "per"),))
    assert text.entity(0, 2, "x") == Entity(0, 3, "x")
    assert read(encoder, sentence(0, "\u200b")).windows == ()


def test_a_span_is_its_first_and_its_last_piece(model: Esd) -> None:
    (text,) = model.read([sentence(0, "anna xyz there")])
    (window,) = text.windows
    assert len(window.ids) == 1 + 1 + 3 + 1 + 1
    with torch.no_grad():
        hidden = model.pieces.model(input_ids=torch.tensor([window.ids])).last_hidden_state[0]
        heads = model.heads
        pairs = [hidden[[first, last]].flatten() for first, last in ((1, 1), (1, 4), (1, 5), (2, 4), (2, 5), (5, 5))]
        plain = heads.second(torch.nn.functional.gelu(heads.first(torch.stack(pairs))))
        _, (found,) = model._vectors([text])
        torch.testing.assert_close(found, heads.inside(plain, plain), rtol=1e-4, atol=1e-5)


def test_padding_changes_nothing(model: Esd) -> None:
    texts = model.read([*SUPPORT, sentence(4, "\u200b")])
    with torch.no_grad():
        _, together = model._vectors(texts)
        for text, vectors in zip(texts, together, strict=True):
            _, (alone,) = model._vectors([text])
            torch.testing.assert_close(vectors, alone, rtol=1e-4, atol=1e-5)
    assert [len(v) for v in together] == [9, 6, 9, 6, 0]


def by_hand(heads: EsdHeads, asked: torch.Tensor, known: torch.Tensor, classes: list[int], types: int) -> Any:
    """Scores as the paper says them, a span at a time."""
    known, asked = heads.across(known, asked), heads.across(asked, known)

    def mean(q: torch.Tensor, vectors: list[torch.Tensor]) -> torch.Tensor:
        likeness = [math.exp(sum(math.tanh(float(a * b)) for a, b in zip(q, v, strict=True))) for v in vectors]
        return sum(w / sum(likeness) * v for w, v in zip(likeness, vectors, strict=True))  # type: ignore[return-value]

    rows = []
    for q in asked:
        own = [[v for v, c in zip(known, classes, strict=True) if c == kind] for kind in range(OUTSIDE + types)]
        outside = [mean(q, vectors) for vectors in own[:OUTSIDE] if vectors]
        row = [mean(q, outside) if outside else None, *(mean(q, v) if v else None for v in own[OUTSIDE:])]
        rows.append([-math.inf if p is None else -float((q - p).square().sum()) for p in row])
    return rows


@pytest.mark.parametrize(
    "classes", [[0, 1, 2, 3, 4, 3, 0], [0, 0, 1, 3, 4, 3, 1], [3, 4, 3, 4, 4, 3, 3], [0, 0, 0, 1, 1, 2, 4]]
)
def test_scores_are_those_of_the_definition(classes: list[int]) -> None:
    """With an empty sub-class of O, without O, and with a type that has no support."""
    torch.manual_seed(1)
    heads = EsdHeads(4, 6, 0.5, 0.1).eval()
    asked, known = torch.randn(5, 6), torch.randn(7, 6)
    members = [torch.tensor([i for i, c in enumerate(classes) if c == kind], dtype=torch.long) for kind in range(5)]
    with torch.no_grad():
        found = heads.scores(asked, known, members)
        expected = torch.tensor(by_hand(heads, asked, known, classes, 2))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        assert not found.softmax(-1).isnan().any()


def test_agreement_a_few_spans_at_a_time_is_that_of_all_with_its_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    asked, known = (torch.randn(n, 6, dtype=torch.float64, requires_grad=True) for n in (5, 7))
    weight = torch.randn(5, 7, dtype=torch.float64)
    whole = (asked[:, None] * known).tanh().sum(-1)
    expected = torch.autograd.grad((whole * weight).sum(), (asked, known))
    for size in (1, 2, 100):
        monkeypatch.setattr("fewtable.training.esd.CACHED", size * known.numel())
        found: torch.Tensor = Agreement.apply(asked, known)  # type: ignore[no-untyped-call]
        torch.testing.assert_close(found, whole)
        torch.testing.assert_close(torch.autograd.grad((found * weight).sum(), (asked, known)), expected)


def test_the_loss_is_the_mean_over_all_query_spans(model: Esd) -> None:
    episode = Episode(TYPES, SUPPORT[:2], SUPPORT[2:])
    total, weight = model.loss(episode)
    with torch.no_grad():
        support, query = model.read(episode.support), model.read(episode.query)
        known = torch.cat(model._vectors(support)[1])
        classes = [int(c) for t in support for c in span_classes(all_spans(len(t.words), 3), t.gold, TYPES)]
        losses = []
        for text, asked in zip(*model._vectors(query), strict=True):
            scores = torch.tensor(by_hand(model.heads, asked, known, classes, 2))
            gold = {(e.start, e.end): 1 + TYPES.index(e.type) for e in text.gold}
            for row, place in zip(scores.log_softmax(-1), all_spans(len(text.words), 3).tolist(), strict=True):
                losses.append(-float(row[gold.get(tuple(place), 0)]))
    assert len(losses) == 9 + 6
    assert weight == 1.0
    assert float(total.detach()) == pytest.approx(sum(losses) / len(losses), rel=1e-4)


def test_spans_whose_type_has_no_support_do_not_count(model: Esd) -> None:
    total, weight = model.loss(Episode(TYPES, SUPPORT[1:2], SUPPORT[2:3]))
    assert (bool(torch.isfinite(total)), weight) == (True, 1.0)
    bare = sentence(4, "\u200b")
    assert model.loss(Episode(TYPES, (bare,), SUPPORT[:1]))[1] == 0.0
    assert model.loss(Episode(TYPES, (bare,), (bare,)))[1] == 0.0


def test_fewer_spans_of_o_are_drawn_in_training_only(model: Esd) -> None:
    model._outside = 2
    (text,) = model.read(SUPPORT[:1])
    vectors = [torch.randn(9, 8)]
    assert len(model._memory([text], vectors, TYPES)[0]) == 9
    model.train()
    known, members = model._memory([text], vectors, TYPES)
    assert len(known) == 2 + 2
    assert sum(map(len, members[:OUTSIDE])) == 2
    assert [len(own) for own in members[OUTSIDE:]] == [1, 1]


def test_every_weight_that_is_seen_gets_a_gradient(model: Esd) -> None:
    model.train().loss(Episode(TYPES, SUPPORT[:2], SUPPORT[2:]))[0].backward()  # type: ignore[no-untyped-call]
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    # Softmax takes a shift of all keys away.
    assert [name for name in still if "key.bias" not in name] == []


def test_a_type_without_support_is_never_answered(folder: Path, tmp_path: Path) -> None:
    session(folder).fit(TASK, fit(tmp_path / "source"))
    task = Task(1, ("absent", *TYPES), SUPPORT, (*SUPPORT, sentence(4, "\u200b"), sentence(5, "")))
    opened = session(folder, {}, threshold=0)
    opened.fit(task, fit(tmp_path, init=tmp_path / "source" / "model"))
    outputs = list(opened.decode(task, tmp_path / "model"))
    assert outputs[4:] == [[], []]
    assert {kind for output in outputs for _, _, kind in output} <= set(TYPES)


def test_the_order_of_the_support_and_other_queries_change_no_answer(folder: Path, tmp_path: Path) -> None:
    session(folder).fit(TASK, fit(tmp_path / "source"))
    opened = session(folder, {})
    found = []
    for number, support in enumerate((SUPPORT, SUPPORT[::-1])):
        work = fit(tmp_path / str(number), init=tmp_path / "source" / "model")
        opened.fit(Task(1, TYPES, support, ()), work)
        trained = opened._model(0)
        trained.take(work.model)
        trained.eval()
        found.append(list(trained.candidates(TYPES, support, SUPPORT)))
        found.append([next(trained.candidates(TYPES, support, [s])) for s in SUPPORT])
    for other in found[1:]:
        for left, right in zip(found[0], other, strict=True):
            assert [span for _, span in left] == [span for _, span in right]
            assert [p for p, _ in left] == pytest.approx([p for p, _ in right], rel=1e-4)
    assert any(found[0])


def test_gold_of_the_query_is_not_looked_at(folder: Path, tmp_path: Path) -> None:
    opened = session(folder)
    opened.fit(TASK, fit(tmp_path))
    bare = tuple(Sentence(s.id, s.words) for s in SUPPORT)
    other = tuple(Sentence(s.id, s.words, (Entity(0, 1, "loc"),)) for s in SUPPORT)
    answers = [list(opened.decode(Task(1, TYPES, SUPPORT, q), tmp_path / "model")) for q in (SUPPORT, bare, other)]
    assert answers[0] == answers[1] == answers[2]


def test_on_the_target_nothing_is_trained(folder: Path, tmp_path: Path) -> None:
    session(folder).fit(TASK, fit(tmp_path / "source"))
    steps: list[int] = []
    target = Task(1, ("city",), (sentence(0, "she saw paris there", (2, 3, "city")),), SUPPORT)
    opened = session(folder, {})
    init = tmp_path / "source" / "model"
    opened.fit(target, fit(tmp_path / "target", init=init, log=lambda step, **values: steps.append(step)))
    assert steps == []
    assert weights(tmp_path / "target") == weights(tmp_path / "source")
    assert all((init / name).samefile(tmp_path / "target" / "model" / name) for name in FILES)
    assert len(list(opened.decode(target, tmp_path / "target" / "model"))) == 4


def test_what_cannot_be_is_an_error_a_person_can_mend(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run to start from"):
        session(folder, {}).fit(TASK, fit(tmp_path / "a"))
    with pytest.raises(ConfigError, match="the support has none"):
        session(folder).fit(Task(3, TYPES, SUPPORT[3:], ()), fit(tmp_path / "b"))
    with pytest.raises(DataError, match=r"has no encoder\.safetensors"):
        session(folder, {}).fit(TASK, fit(tmp_path / "c", init=tmp_path))
    session(folder).fit(TASK, fit(tmp_path / "source"))
    wider = {"model": {**MODEL, "width": 4}}
    opened = session(folder, wider)
    opened.fit(TASK, fit(tmp_path / "d", init=tmp_path / "source" / "model"))
    with pytest.raises(DataError, match="another method"):
        list(opened.decode(TASK, tmp_path / "d" / "model"))
    with pytest.raises(ConfigError, match="no rule of esd's code"):
        session(folder, {}, parity="lowered-threshold")
    (tmp_path / "source" / "model" / "heads.safetensors").unlink()
    with pytest.raises(DataError, match="no heads"):
        list(session(folder).decode(TASK, tmp_path / "source" / "model"))


def test_a_draw_does_not_depend_on_the_draws_before_it(folder: Path, tmp_path: Path) -> None:
    opened = session(folder)
    opened.fit(TASK, fit(tmp_path / "first"))
    list(opened.decode(TASK, tmp_path / "first" / "model"))
    more = sentence(4, "bob likes york", (0, 1, "per"), (2, 3, "loc"))
    opened.fit(Task(2, TYPES, (*SUPPORT, more), ()), fit(tmp_path / "other"))
    opened.fit(TASK, fit(tmp_path / "again"))
    assert weights(tmp_path / "first") == weights(tmp_path / "again") != weights(tmp_path / "other")


def test_a_killed_training_ends_with_the_same_weights(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dying(step: int, **values: float) -> None:
        if step == 2:
            raise Killed

    original = span_metric.Loop
    monkeypatch.setattr(span_metric, "Loop", lambda *a, **k: original(*a, **k, save_every=0))
    session(folder).fit(TASK, fit(tmp_path / "whole"))
    with pytest.raises(Killed):
        session(folder).fit(TASK, fit(tmp_path / "cut", log=dying))
    steps: list[int] = []
    session(folder).fit(TASK, fit(tmp_path / "cut", log=lambda step, **values: steps.append(step)))
    assert steps == [2, 3]
    assert weights(tmp_path / "whole") == weights(tmp_path / "cut")


def test_the_better_span_comes_first_or_the_better_mean() -> None:
    long, left, right = Entity(0, 4, "a"), Entity(0, 2, "b"), Entity(2, 4, "b")
    assert greedy([(0.5, long), (0.9, left), (0.4, right)]) == [left, right]
    assert greedy([]) == beam([]) == []
    # The best span stands in every set, and of the complete ones the higher mean wins.
    far, near, low = Entity(6, 8, "a"), Entity(4, 7, "a"), Entity(4, 6, "a")
    scored = [(0.9, left), (0.6, near), (0.55, far), (0.2, low)]
    assert greedy(scored) == beam(scored) == [left, near]
    scored = [(0.9, left), (0.6, far), (0.58, near), (0.2, low)]
    assert greedy(scored) == [left, low, far]
    assert beam(scored) == [left, near]


@pytest.mark.slow
def test_episodes_teach_what_a_trigger_word_means(tmp_path: Path) -> None:
    known, asked = trigger_corpus("train", 80, 1), trigger_corpus("test", 60, 2)
    backbone = build(tmp_path / "bert", [w for s in (*known, *asked) for w in s.words])
    task = Task(1, tuple("abcd"), known, asked)
    shape = {"ways": 3, "shots": 2, "query": 2}
    adapt = {"episodes": 300, "batch_size": 1, "lr": 1e-3, "heads": 3.0, "shape": shape}
    source = {"model": {"name": "esd", "longest": 3, "width": 32, "token_dropout": 0.1}, "adapt": adapt}
    session(backbone, source).fit(task, fit(tmp_path / "source"))
    target = Task(1, task.types, known[:12], asked)
    opened = session(backbone, {"model": source["model"]})
    opened.fit(target, fit(tmp_path / "target", init=tmp_path / "source" / "model"))
    assert micro_f1(target, list(opened.decode(target, tmp_path / "target" / "model"))) > 0.8
    majority: list[Any] = [[] for _ in asked]
    assert micro_f1(target, majority) == 0.0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_it_answers_on_the_gpu(folder: Path, tmp_path: Path) -> None:
    opened = session(folder)
    opened.fit(TASK, fit(tmp_path))
    assert len(list(opened.decode(TASK, tmp_path / "model"))) == 4
