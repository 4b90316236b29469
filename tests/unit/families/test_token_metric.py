"""Token-metric: nearest words, transitions, sources, and episodic training that learns a trigger word."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_encoder import build, fit, job, micro_f1, sentence

from fewtable.corpus import Entity, Sentence, Task, sentence_id
from fewtable.decoding.transitions import Counts, read_counts
from fewtable.errors import ConfigError
from fewtable.families import tagger, token_metric
from fewtable.training.encoder import Encoder
from fewtable.training.episode import Episode
from fewtable.training.metric import Distance, EpisodeLoss, logits, word_classes

SUPPORT = (
    sentence(0, "anna saw new york", (0, 1, "per"), (2, 4, "loc")),
    sentence(1, "she likes paris", (2, 3, "loc")),
    sentence(2, "bob saw \u200b there", (0, 1, "per")),
)
TYPES = ("per", "loc")
NEAREST = {"head": "nearest", "layers": "last", "normalise": True}
PROTOTYPE = {"head": "prototype", "layers": "sum4", "normalise": False}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("bert"), [w for s in SUPPORT for w in s.words], hidden=32, layers=4)


def answer(folder: Path, work: Path, train: dict[str, Any], task: Task, **decode: float) -> list[list[str]]:
    session = token_metric.load(job(folder, "token-metric", train, decode))
    session.fit(task, fit(work))
    return list(session.decode(task, work / "model"))


@pytest.mark.parametrize("tau", [None, 0.01])
@pytest.mark.parametrize("shape", [NEAREST, {**NEAREST, "layers": "sum4", "normalise": False}])
def test_the_support_is_given_back_perfectly(folder: Path, tmp_path: Path, shape: Any, tau: float | None) -> None:
    task = Task(1, TYPES, SUPPORT, SUPPORT)
    decode = {} if tau is None else {"tau": tau}
    outputs = answer(folder, tmp_path, shape, task, **decode)
    if tau is None:
        assert outputs == [["per", "O", "loc", "loc"], ["O", "O", "loc"], ["per", "O", "O", "O"]]
    assert [len(o) for o in outputs] == [4, 3, 4]


def test_the_order_of_the_support_changes_no_answer(folder: Path, tmp_path: Path) -> None:
    query = (sentence(0, "she saw york", split="test"), sentence(1, "paris likes bob", split="test"))
    for shape in (NEAREST, PROTOTYPE):
        left = answer(folder, tmp_path / "a", shape, Task(1, TYPES, SUPPORT, query), tau=0.3)
        right = answer(folder, tmp_path / "b", shape, Task(1, TYPES, SUPPORT[::-1], query), tau=0.3)
        assert left == right


def test_a_type_without_support_is_never_answered(folder: Path, tmp_path: Path) -> None:
    query = tuple(sentence(i, f"she saw {w}", split="test") for i, w in enumerate("abcdefgh"))
    outputs = answer(folder, tmp_path, PROTOTYPE, Task(1, ("absent", *TYPES), SUPPORT, query), tau=1.0)
    assert all("absent" not in tags for tags in outputs)


@pytest.mark.parametrize("decode", [{}, {"tau": 0.3}, {"neighbours": 1}])
def test_a_support_whose_words_have_no_pieces_gives_only_o(folder: Path, tmp_path: Path, decode: Any) -> None:
    support = (sentence(0, "\u200b \u200b", (0, 1, "per")), sentence(1, "\u200b"))
    query = (sentence(0, "she saw york", split="test"), sentence(1, "\u200b", split="test"))
    for shape in (NEAREST, PROTOTYPE):
        assert answer(folder, tmp_path, shape, Task(1, TYPES, support, query), **decode) == [["O"] * 3, ["O"]]


def test_transitions_come_from_where_the_method_says(folder: Path, tmp_path: Path) -> None:
    source = (sentence(0, "anna bob saw", (0, 2, "x")),)
    tagger.load(job(folder, "tagger", {"epochs": 1, "batch_size": 1, "lr": 1e-4})).fit(
        Task(1, ("x",), source, ()), fit(tmp_path / "source")
    )
    init = tmp_path / "source" / "model"
    task = Task(1, TYPES, SUPPORT, ())
    for place, expected in (
        ("support", Counts((1, 2), (3, 2), (2, 1, 0))),
        ("source", Counts((0, 1), (0, 0), (1, 1, 0))),
    ):
        session = token_metric.load(job(folder, "token-metric", {**NEAREST, "transitions": place}))
        session.fit(task, fit(tmp_path / f"from-{place}", init=init))
        assert read_counts(tmp_path / f"from-{place}" / "model") == expected
        left, right = (load_file(d / "encoder.safetensors") for d in (init, tmp_path / f"from-{place}" / "model"))
        assert all(torch.equal(left[k], right[k]) for k in left)
    with pytest.raises(ConfigError, match="starts from none"):
        session.fit(task, fit(tmp_path / "none"))


def test_without_training_no_weights_are_written(folder: Path, tmp_path: Path) -> None:
    answer(folder, tmp_path, NEAREST, Task(1, TYPES, SUPPORT, SUPPORT))
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == ["support.jsonl", "transitions.json"]


def test_an_empty_support_is_an_error_a_person_can_mend(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the support has none"):
        answer(folder, tmp_path, NEAREST, Task(1, TYPES, (), ()))


@pytest.mark.parametrize("head", ["prototype", "nearest"])
def test_leave_one_out_asks_each_sentence_of_the_others(folder: Path, head: Any) -> None:
    encoder = Encoder(folder, "float32")
    loss = EpisodeLoss(encoder, Distance(head), normalise=True, dropout=0.0)
    one_per_sentence = [loss(Episode(TYPES, (*SUPPORT[:i], *SUPPORT[i + 1 :]), (SUPPORT[i],))) for i in range(3)]
    total, words = loss(Episode(TYPES, SUPPORT))
    assert words == sum(n for _, n in one_per_sentence) == 10
    assert float(total.detach()) == pytest.approx(float(sum(t.detach() for t, _ in one_per_sentence)), rel=1e-5)


def test_words_whose_class_has_no_support_do_not_count(folder: Path) -> None:
    loss = EpisodeLoss(Encoder(folder, "float32"), Distance("prototype"), normalise=True, dropout=0.0)
    total, words = loss(Episode(TYPES, (SUPPORT[1],), (SUPPORT[2],)))
    assert words == 2  # "saw" and "there"; per has no support
    assert torch.isfinite(total)


def test_two_episodes_weigh_as_two_batches_of_one(folder: Path) -> None:
    encoder = Encoder(folder, "float32")
    gold = word_classes(SUPPORT[0], ("O", *TYPES), (0, 1, 2, 3), "io")
    assert gold == [1, 0, 2, 2]
    (window,) = encoder.windows(SUPPORT[0].words)
    states = encoder.states([window])
    scores = logits("nearest", states, states.detach(), torch.tensor(gold), 3)
    assert scores.argmax(-1).tolist() == gold
    scores.logsumexp(-1).sum().backward()  # type: ignore[no-untyped-call]
    assert all(torch.isfinite(p.grad).all() for p in encoder.model.parameters() if p.grad is not None)


def trigger_corpus(split: str, count: int, seed: int) -> tuple[Sentence, ...]:
    """Sentences with one name, whose type is told by a trigger word somewhere else in the sentence."""
    rng = random.Random(seed)
    found = []
    for number in range(count):
        words = [f"w{rng.randrange(30)}" for _ in range(rng.randint(3, 5))]
        kind = rng.choice("abcd")
        words.insert(rng.randrange(len(words) + 1), f"trigger{kind}")
        at = rng.randrange(len(words) + 1)
        words.insert(at, f"name{rng.randrange(10)}")
        found.append(Sentence(sentence_id(split, number), tuple(words), (Entity(at, at + 1, kind),)))
    return tuple(found)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "episodes"), [(None, 300), ({"ways": 3, "shots": 2, "query": 2}, 500)], ids=["leave-one-out", "n-way"]
)
def test_episodes_teach_an_encoder_what_a_trigger_word_means(tmp_path: Path, shape: Any, episodes: int) -> None:
    train, query = trigger_corpus("train", 80, 1), trigger_corpus("test", 60, 2)
    backbone = build(tmp_path / "bert", [w for s in (*train, *query) for w in s.words], layers=4)
    task = Task(1, ("a", "b", "c", "d"), train, query)
    untrained = micro_f1(task, answer(backbone, tmp_path / "untrained", PROTOTYPE, task), "io")
    adapt = {"episodes": episodes, "batch_size": 1, "lr": 3e-3, "dropout": 0.1, "shape": shape, "sentences": 24}
    trained = micro_f1(task, answer(backbone, tmp_path / "trained", {**PROTOTYPE, "adapt": adapt}, task), "io")
    majority = micro_f1(task, [["O"] * len(s.words) for s in query], "io")
    assert majority == 0.0
    assert trained > max(0.8, untrained + 0.2)


def test_episodic_training_is_the_same_twice(folder: Path, tmp_path: Path) -> None:
    adapt = {"episodes": 3, "batch_size": 2, "lr": 1e-3, "sentences": 2}
    for run in ("a", "b"):
        answer(folder, tmp_path / run, {**PROTOTYPE, "adapt": adapt}, Task(1, TYPES, SUPPORT, ()))
    a, b = (tmp_path / run / "model" / "encoder.safetensors" for run in ("a", "b"))
    assert a.read_bytes() == b.read_bytes()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_it_answers_on_the_gpu(folder: Path, tmp_path: Path) -> None:
    task = Task(1, TYPES, SUPPORT, SUPPORT)
    adapt = {"episodes": 4, "batch_size": 2, "lr": 1e-3, "sentences": 2}
    assert [len(o) for o in answer(folder, tmp_path, {**PROTOTYPE, "adapt": adapt}, task, tau=0.3)] == [4, 3, 4]
