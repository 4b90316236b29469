"""Neigh.Tag. and MP-NSP: what a word's answer is by hand, what training moves, sources, resume, and that they learn."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from test_tagger import Killed, restaurant
from test_token_metric import trigger_corpus
from tiny_encoder import build, fit, job, micro_f1, sentence

from fewtable.corpus import Sentence, Task
from fewtable.errors import ConfigError
from fewtable.families import token_metric
from fewtable.training.encoder import Encoder
from fewtable.training.episode import Episode
from fewtable.training.metric import Distance, EpisodeLoss
from fewtable.training.neighbours import NeighbourLoss

SUPPORT = (
    sentence(0, "anna saw new york", (0, 1, "per"), (2, 4, "loc")),
    sentence(1, "she likes paris", (2, 3, "loc")),
    sentence(2, "bob saw \u200b there", (0, 1, "per")),
    sentence(3, "\u200b"),
)
TYPES = ("per", "loc")
NAMES = ("O", "B-per", "I-per", "B-loc", "I-loc")
MASS = {"head": "mass", "layers": "last", "normalise": False}
MEANS = {"head": "prototype", "layers": "last", "normalise": False}
RECALL = {"neighbours": 2, "epochs": 3, "batch_size": 2, "lr": 1e-3}
EPISODES = {"episodes": 3, "batch_size": 2, "lr": 1e-3, "sentences": 3, "dropout": 0.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("bert"), [w for s in SUPPORT for w in s.words], hidden=32)


def session(folder: Path, train: dict[str, Any], **decode: Any) -> Any:
    return token_metric.load(job(folder, "token-metric", train, decode, tags="bio"))


def answer(folder: Path, work: Path, train: dict[str, Any], task: Task, **decode: Any) -> list[list[str]]:
    opened = session(folder, train, **decode)
    opened.fit(task, fit(work))
    return list(opened.decode(task, work / "model"))


def states(folder: Path, text: Sentence) -> torch.Tensor:
    encoder = Encoder(folder, "float32")
    with torch.no_grad():
        return torch.cat([encoder.states([w]) for w in encoder.windows(text.words)])


def gold(text: Sentence) -> list[str]:
    return {"train-000000": ["B-per", "O", "B-loc", "I-loc"], "train-000001": ["O", "O", "B-loc"],
            "train-000002": ["B-per", "O", "O"]}[text.id]  # fmt: skip


def test_a_word_copies_the_tag_with_the_largest_share_among_its_neighbours(folder: Path, tmp_path: Path) -> None:
    query = tuple(sentence(i, t, split="test") for i, t in enumerate(("new anna saw paris", "bob likes york there")))
    outputs = answer(folder, tmp_path, MASS, Task(1, TYPES, SUPPORT, query), neighbours=2)
    known = [states(folder, s) for s in SUPPORT[:3]]
    for text, tags in zip(query, outputs, strict=True):
        asked = states(folder, text)
        order = sorted(range(3), key=lambda i: -float(torch.cosine_similarity(asked.mean(0), known[i].mean(0), 0)))
        near = order[:2]
        labels = [tag for i in near for tag in gold(SUPPORT[i])]
        for vector, tag in zip(asked, tags, strict=True):
            shares = torch.softmax(torch.cat([known[i] for i in near]) @ vector, 0).tolist()
            mass = {name: sum(s for s, n in zip(shares, labels, strict=True) if n == name) for name in NAMES}
            assert tag == max(mass, key=lambda name: mass[name])


def test_the_loss_is_the_share_of_the_gold_tag_over_the_other_sentences(folder: Path) -> None:
    encoder = Encoder(folder, "float32")
    loss = NeighbourLoss(encoder, SUPPORT, TYPES, 3)
    total, words = loss([0, 1, 2, 3])
    known = [states(folder, s) for s in SUPPORT[:3]]
    expected, count = 0.0, 0
    for i in range(3):
        others = [j for j in range(3) if j != i]
        labels = [tag for j in others for tag in gold(SUPPORT[j])]
        for vector, tag in zip(known[i], gold(SUPPORT[i]), strict=True):
            shares = torch.softmax(torch.cat([known[j] for j in others]) @ vector, 0).tolist()
            mass = sum(s for s, name in zip(shares, labels, strict=True) if name == tag)
            if tag in labels:
                expected, count = expected - math.log(mass), count + 1
    assert words == count == 9, "no other sentence holds an I-loc"
    assert float(total.detach()) == pytest.approx(expected, rel=1e-4)
    total.backward()  # type: ignore[no-untyped-call]
    alone = [NeighbourLoss(encoder, SUPPORT, TYPES, 3)([i]) for i in range(4)]
    assert float(total.detach()) == pytest.approx(sum(float(t.detach()) for t, _ in alone), rel=1e-5)
    assert alone[3][1] == 0


def test_the_loss_of_an_episode_is_by_the_distance_to_the_mean_of_each_tag(folder: Path) -> None:
    query = (sentence(4, "there likes york saw", (0, 1, "per"), (2, 4, "loc")),)
    scorer = Distance("prototype")
    loss = EpisodeLoss(Encoder(folder, "float32"), scorer, normalise=False, dropout=0.0, tags="bio")
    total, words = loss(Episode(TYPES, SUPPORT[:3], query))
    known = torch.cat([states(folder, s) for s in SUPPORT[:3]])
    tags = [tag for s in SUPPORT[:3] for tag in gold(s)]
    names = [name for name in NAMES if name in tags]
    means = {name: known[[i for i, tag in enumerate(tags) if tag == name]].mean(0) for name in names}
    expected = 0.0
    for vector, tag in zip(states(folder, query[0]), ("B-per", "O", "B-loc", "I-loc"), strict=True):
        near = {name: -float((vector - mean).square().sum()) for name, mean in means.items()}
        expected += math.log(sum(math.exp(score) for score in near.values())) - near[tag]
    assert words == 4
    assert float(total.detach()) == pytest.approx(expected, rel=1e-4)


def test_the_words_of_neighbours_carry_no_gradient(folder: Path) -> None:
    encoder = Encoder(folder, "float32")
    total, _ = NeighbourLoss(encoder, SUPPORT, TYPES, 3)([1])
    total.backward()  # type: ignore[no-untyped-call]
    words = encoder.model.get_parameter("embeddings.word_embeddings.weight").grad
    assert words is not None
    moved = {i for i, row in enumerate(words) if row.any()}
    assert moved == set(encoder.windows(SUPPORT[1].words)[0].ids)


def test_groups_average_the_probabilities_of_their_own_means(folder: Path, tmp_path: Path) -> None:
    support = (
        sentence(0, "anna saw paris", (0, 1, "per"), (2, 3, "loc")),
        sentence(1, "bob likes york there", (0, 1, "per"), (2, 3, "loc")),
    )
    query = (sentence(0, "she saw new york", split="test"), sentence(1, "anna likes paris", split="test"))
    task = Task(1, TYPES, support, query)
    opened = session(folder, MEANS, groups=2)
    vectors, places = opened._words([s.words for s in (*support, *query)])
    known = token_metric._Known(list(support), vectors[:2], places[:2])
    found = opened._scores(known, TYPES, NAMES, vectors[2:], Distance("prototype"))
    labels = [["B-per", "O", "B-loc"], ["B-per", "O", "B-loc", "O"]]
    for text, scores in zip(query, found, strict=True):
        expected = torch.zeros(len(text.words), 5)
        for member, tags in zip(support, labels, strict=True):
            own = states(folder, member)
            for row, vector in enumerate(states(folder, text)):
                distance = {}
                for name in ("O", "B-per", "B-loc"):
                    mean = own[[i for i, tag in enumerate(tags) if tag == name]].mean(0)
                    distance[name] = -float((vector - mean).square().sum())
                shares = torch.softmax(torch.tensor(list(distance.values())), 0)
                for name, share in zip(distance, shares, strict=True):
                    expected[row, NAMES.index(name)] += share / 2
        torch.testing.assert_close(scores.exp(), expected, atol=1e-4, rtol=1e-4)
    outputs = answer(folder, tmp_path, MEANS, task, groups=2)
    assert not {"I-per", "I-loc"} & {tag for tags in outputs for tag in tags}, "no mean, no answer"


def test_more_groups_than_sentences_are_as_many_as_there_are(folder: Path, tmp_path: Path) -> None:
    task = Task(1, TYPES, SUPPORT, SUPPORT)
    many, four = (answer(folder, tmp_path / str(n), MEANS, task, groups=n) for n in (50, 4))
    assert many == four
    assert [len(tags) for tags in many] == [4, 3, 4, 1]


def test_bio_tags_have_no_abstract_transitions(folder: Path) -> None:
    with pytest.raises(ConfigError, match="abstract transitions"):
        session(folder, MEANS, tau=0.3)


def test_training_is_by_episodes_or_by_neighbours() -> None:
    for wrong in ({**RECALL, "episodes": 3}, {"batch_size": 2, "lr": 1e-3}):
        with pytest.raises(ValueError, match="either 'episodes' or 'neighbours'"):
            token_metric.Adapt.model_validate(wrong)


@pytest.mark.parametrize(("train", "adapt"), [(MASS, RECALL), (MEANS, EPISODES)], ids=["neighbours", "episodes"])
def test_a_draw_does_not_depend_on_the_draws_before_it(
    folder: Path, tmp_path: Path, train: dict[str, Any], adapt: dict[str, Any]
) -> None:
    opened = session(folder, {**train, "adapt": adapt})
    opened.fit(Task(1, TYPES, SUPPORT, ()), fit(tmp_path / "first"))
    opened.fit(Task(2, TYPES, SUPPORT[:2], ()), fit(tmp_path / "other"))
    opened.fit(Task(1, TYPES, SUPPORT, ()), fit(tmp_path / "again"))
    first, other, again = (
        (tmp_path / r / "model" / "encoder.safetensors").read_bytes() for r in ("first", "other", "again")
    )
    assert first == again != other


@pytest.mark.parametrize(("train", "adapt"), [(MASS, RECALL), (MEANS, EPISODES)], ids=["neighbours", "episodes"])
def test_every_weight_gets_a_gradient_but_rows_of_other_words(
    folder: Path, tmp_path: Path, train: dict[str, Any], adapt: dict[str, Any]
) -> None:
    before = {k: v.clone() for k, v in Encoder(folder, "float32").model.state_dict().items()}
    session(folder, {**train, "adapt": {**adapt, "weight_decay": 0}}).fit(Task(1, TYPES, SUPPORT, ()), fit(tmp_path))
    after = load_file(tmp_path / "model" / "encoder.safetensors")
    still = [k for k in after if after[k].is_floating_point() and torch.equal(before[k], after[k])]
    # Softmax takes a shift of all keys away.
    assert [k for k in still if "key.bias" not in k] == []
    words = "embeddings.word_embeddings.weight"
    unused = (before[words] == after[words]).all(1)
    assert 0 < int(unused.sum()) < len(unused)


@pytest.mark.parametrize(("train", "adapt"), [(MASS, RECALL), (MEANS, EPISODES)], ids=["neighbours", "episodes"])
def test_a_killed_training_ends_with_the_same_weights(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, train: dict[str, Any], adapt: dict[str, Any]
) -> None:
    def dying(step: int, **values: float) -> None:
        if step == 2:
            raise Killed

    original = token_metric.Loop
    monkeypatch.setattr(token_metric, "Loop", lambda *a, **k: original(*a, **k, save_every=0))
    task, options = Task(1, TYPES, SUPPORT, ()), {**train, "adapt": adapt}
    session(folder, options).fit(task, fit(tmp_path / "whole"))
    with pytest.raises(Killed):
        session(folder, options).fit(task, fit(tmp_path / "cut", log=dying))
    steps: list[int] = []
    session(folder, options).fit(task, fit(tmp_path / "cut", log=lambda step, **values: steps.append(step)))
    assert steps[0] == 2
    whole, cut = (tmp_path / run / "model" / "encoder.safetensors" for run in ("whole", "cut"))
    assert whole.read_bytes() == cut.read_bytes()


def test_on_the_target_nothing_is_trained(folder: Path, tmp_path: Path) -> None:
    session(folder, {**MASS, "adapt": RECALL}).fit(Task(1, TYPES, SUPPORT, ()), fit(tmp_path / "source"))
    init = tmp_path / "source" / "model"
    target = (sentence(0, "she saw paris there", (2, 3, "city")),)
    steps: list[int] = []
    opened = session(folder, MASS, neighbours=100)
    task = Task(1, ("city",), target, target)
    opened.fit(task, fit(tmp_path / "target", init=init, log=lambda step, **values: steps.append(step)))
    left, right = (load_file(d / "encoder.safetensors") for d in (init, tmp_path / "target" / "model"))
    assert steps == []
    assert all(torch.equal(left[k], right[k]) for k in left)
    assert {tag for tags in opened.decode(task, tmp_path / "target" / "model") for tag in tags} <= {"O", "B-city"}


@pytest.mark.slow
@pytest.mark.shared
def test_neighbours_teach_real_sentences(mirror: Path, tmp_path: Path) -> None:
    sentences = restaurant(mirror, 150)
    known, asked = sentences[:100], sentences[100:]
    types = tuple(sorted({e.type for s in sentences for e in s.entities}))
    backbone = build(tmp_path / "bert", [w for s in sentences for w in s.words])
    adapt = {"neighbours": 50, "epochs": 12, "batch_size": 8, "lr": 2e-3}
    losses: list[float] = []
    opened = session(backbone, {**MASS, "adapt": adapt}, neighbours=100)
    task = Task(1, types, known, asked)
    opened.fit(task, fit(tmp_path, log=lambda step, **values: losses.append(values["loss"])))
    before = answer(backbone, tmp_path / "before", MASS, task, neighbours=100)
    untrained, trained = (micro_f1(task, tags, "bio") for tags in (before, opened.decode(task, tmp_path / "model")))
    assert losses[-1] < losses[0] / 4
    assert trained > untrained + 0.2


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize(
    ("train", "adapt"),
    [
        (MASS, {"neighbours": 49, "epochs": 40, "batch_size": 8, "lr": 3e-3}),
        (
            MEANS,
            {**EPISODES, "episodes": 300, "batch_size": 1, "lr": 3e-3, "shape": {"ways": 8, "shots": 3, "query": 2}},
        ),
    ],
    ids=["neighbours", "episodes"],
)
def test_fifty_real_sentences_are_learned(
    mirror: Path, tmp_path: Path, train: dict[str, Any], adapt: dict[str, Any]
) -> None:
    """Each is asked of the 49 others: beside its own words the untrained encoder finds the tags too."""
    sentences = restaurant(mirror, 50)
    types = tuple(sorted({e.type for s in sentences for e in s.entities}))
    backbone = build(tmp_path / "bert", [w for s in sentences for w in s.words])
    session(backbone, {**train, "adapt": adapt}).fit(Task(1, types, sentences, ()), fit(tmp_path))
    opened = session(backbone, train)
    scores = []
    for init in (None, tmp_path / "model"):
        answers = []
        for i, asked in enumerate(sentences):
            task = Task(1, types, (*sentences[:i], *sentences[i + 1 :]), (asked,))
            opened.fit(task, fit(tmp_path / "one", init=init))
            answers += opened.decode(task, tmp_path / "one" / "model")
        scores.append(micro_f1(Task(1, types, (), sentences), answers, "bio"))
    assert scores[0] < 0.2
    assert scores[1] >= 0.95


@pytest.mark.slow
def test_episodes_of_bio_tags_teach_what_a_trigger_word_means(tmp_path: Path) -> None:
    known, asked = trigger_corpus("train", 80, 1), trigger_corpus("test", 60, 2)
    backbone = build(tmp_path / "bert", [w for s in (*known, *asked) for w in s.words])
    task = Task(1, ("a", "b", "c", "d"), known, asked)
    shape = {"ways": 3, "shots": 2, "query": 2}
    adapt = {"episodes": 400, "batch_size": 1, "lr": 3e-3, "dropout": 0.0, "shape": shape}
    untrained = micro_f1(task, answer(backbone, tmp_path / "untrained", MEANS, task, groups=4), "bio")
    trained = micro_f1(task, answer(backbone, tmp_path / "trained", {**MEANS, "adapt": adapt}, task, groups=4), "bio")
    assert trained > max(0.8, untrained + 0.2)
