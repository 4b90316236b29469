"""Example-based NER: marked texts, scores and loss by hand, sources, resume, and learning."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from test_tagger import Killed, restaurant
from tiny_encoder import build, fit, job, sentence

from fewtable.corpus import Entity, EntityType, Sentence, Task, sentence_id
from fewtable.errors import ConfigError
from fewtable.families import example
from fewtable.formats import spans as spans_format
from fewtable.training.encoder import Encoder, Window
from fewtable.training.example import Episode, Episodes, ExampleLoss, Memory, mark, scores, targets

SUPPORT = (
    sentence(0, "anna saw new york", (0, 1, "per"), (2, 4, "loc")),
    sentence(1, "she likes paris", (2, 3, "loc")),
    sentence(2, "bob saw anna there", (0, 1, "per"), (2, 3, "per")),
    sentence(3, "she saw there"),
)
TYPES = ("per", "loc")
TASK = Task(1, TYPES, SUPPORT, SUPPORT)
ADAPT = {"episodes": 6, "supports": 2, "batch_size": 2, "lr": 1e-3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("bert"), [w for s in SUPPORT for w in s.words], hidden=32)


@pytest.fixture
def encoder(folder: Path) -> Encoder:
    return Encoder(folder, "float32", markers=2)


def session(folder: Path, train: dict[str, Any] | None = None, **decode: Any) -> Any:
    return example.load(job(folder, "example", train or {}, decode, tags="spans"))


def test_a_mention_stands_between_the_markers(encoder: Encoder) -> None:
    opening, closing = encoder.markers
    (window,) = encoder.windows(SUPPORT[0].words)
    cls, anna, saw, new, york, sep = window.ids
    for entity, ids, markers in (
        (Entity(2, 4, "loc"), (cls, anna, saw, opening, new, york, closing, sep), (3, 6)),
        (Entity(0, 1, "per"), (cls, opening, anna, closing, saw, new, york, sep), (1, 3)),
    ):
        text = mark(encoder, SUPPORT[0], entity)
        assert text is not None
        assert (text.window.ids, text.markers) == (ids, markers)
        assert text.window.first == tuple(range(8))
    assert mark(encoder, sentence(0, "she saw \u200b there"), Entity(2, 3, "per")) is None


def test_a_mention_is_marked_in_the_window_it_begins_in(folder: Path) -> None:
    encoder = Encoder(folder, "float32", window=8, markers=2)
    text = mark(encoder, sentence(0, "she saw bob saw anna there new york"), Entity(3, 6, "x"))
    assert text is not None
    assert len(text.window.ids) == 8
    assert text.markers == (4, 6)


def test_scores_are_those_of_the_definition() -> None:
    torch.manual_seed(0)
    query, texts, openings, closings = torch.randn(5, 4), torch.randn(3, 4), torch.randn(3, 4), torch.randn(3, 4)
    memory = Memory(torch.nn.functional.normalize(texts, dim=-1), openings, closings)
    members = torch.tensor([[True, False, True], [False, True, False]])
    found = scores(query, (0, 2, 3), memory, members)
    assert found.shape == (2, 2, 3)
    likeness = [math.exp(float(torch.cosine_similarity(query.sum(0), text, 0))) for text in texts]
    for side, anchors in enumerate((openings, closings)):
        for kind, own in enumerate(((0, 2), (1,))):
            for column, position in enumerate((0, 2, 3)):
                weights = [likeness[i] / sum(likeness[j] for j in own) for i in own]
                products = [float(query[position] @ anchors[i]) for i in own]
                expected = sum(w * p for w, p in zip(weights, products, strict=True))
                assert float(found[side, kind, column]) == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_all_mentions_are_right_or_else_the_first_position() -> None:
    window = Window((2, 5, 6, 7, 8, 3), (1, 2, 3, 4), (0, 1, 2, 3))
    assert targets(window, Episode(SUPPORT[2], "per", ())) == [[0, 1, 0, 1, 0], [0, 1, 0, 1, 0]]
    assert targets(window, Episode(SUPPORT[0], "loc", ())) == [[0, 0, 0, 1, 0], [0, 0, 0, 0, 1]]
    assert targets(window, Episode(SUPPORT[0], "org", ())) == [[1, 0, 0, 0, 0], [1, 0, 0, 0, 0]]


def test_the_loss_is_the_cross_entropy_of_starts_and_ends(encoder: Encoder) -> None:
    episodes = [
        Episode(SUPPORT[2], "per", ((SUPPORT[0], Entity(0, 1, "per")),)),
        Episode(SUPPORT[1], "per", ((SUPPORT[0], Entity(0, 1, "per")), (SUPPORT[2], Entity(2, 3, "per")))),
        Episode(SUPPORT[1], "per", ()),
    ]
    loss = ExampleLoss(encoder)
    total, count = loss(episodes)
    assert count == 2 * (1 + 4) + 2 * (1 + 3)
    expected = 0.0
    with torch.no_grad():
        for episode in episodes[:2]:
            (window,) = encoder.windows(episode.query.words)
            states = encoder.states([Window(window.ids, tuple(range(len(window.ids))), ())])
            texts = [mark(encoder, s, e) for s, e in episode.support]
            known = [encoder.states([t.window]) for t in texts if t]
            likeness = torch.stack([torch.cosine_similarity(states.sum(0), k.sum(0), 0) for k in known]).softmax(0)
            for side, row in enumerate(targets(window, episode)):
                anchor = sum(a * k[t.markers[side]] for a, k, t in zip(likeness, known, texts, strict=True) if t)
                for position, gold in zip((0, *window.first), row, strict=True):
                    chance = 1 / (1 + math.exp(-float(states[position] @ anchor)))
                    expected -= math.log(chance if gold else 1 - chance)
    assert float(total.detach()) == pytest.approx(expected, rel=1e-3)


def test_episodes_hold_the_type_or_not_and_never_support_themselves() -> None:
    draw = Episodes(SUPPORT, supports=2, negatives=0.25, seed=7)
    found = [draw(number) for number in range(400)]
    assert found == [draw(number) for number in range(400)]
    holds = [any(e.type == f.type for e in f.query.entities) for f in found]
    assert 0.7 < sum(holds) / 400 < 0.95, "a sentence that holds every type cannot be a negative"
    assert any(not f.query.entities for f in found)
    for episode in found:
        assert all(s is not episode.query and e.type == episode.type for s, e in episode.support)
        assert len(episode.support) <= 2


def test_the_order_of_the_support_and_the_batch_change_no_answer(folder: Path, tmp_path: Path) -> None:
    query = tuple(sentence(i, f"{w} saw new york there", split="test") for i, w in enumerate(("anna", "bob", "she")))
    answers = []
    for number, support in enumerate((SUPPORT, SUPPORT[::-1])):
        opened = session(folder, threshold=0.1)
        opened.fit(Task(1, TYPES, support, query), fit(tmp_path / str(number)))
        answers.append(list(opened.decode(Task(1, TYPES, support, query), tmp_path / str(number) / "model")))
    (alone,) = opened.decode(Task(1, TYPES, SUPPORT, query[1:2]), tmp_path / "0" / "model")
    assert answers[0] == answers[1]
    assert alone == answers[0][1]
    assert any(answers[0])


def test_a_type_without_support_is_never_answered(folder: Path, tmp_path: Path) -> None:
    opened = session(folder, threshold=0.0)
    task = Task(1, ("absent", *TYPES), SUPPORT, (*SUPPORT, sentence(4, "\u200b")))
    opened.fit(task, fit(tmp_path))
    outputs = list(opened.decode(task, tmp_path / "model"))
    assert outputs[4] == []
    assert {kind for output in outputs for _, _, kind in output} <= set(TYPES)


def test_a_support_without_mentions_is_an_error_a_person_can_mend(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the support has none"):
        session(folder).fit(Task(3, TYPES, SUPPORT[3:], ()), fit(tmp_path))


def test_every_weight_that_is_seen_moves_the_markers_too(folder: Path, tmp_path: Path) -> None:
    before = {k: v.clone() for k, v in Encoder(folder, "float32", markers=2).model.state_dict().items()}
    session(folder, {"adapt": {**ADAPT, "weight_decay": 0}}).fit(TASK, fit(tmp_path))
    after = load_file(tmp_path / "model" / "encoder.safetensors")
    still = [k for k in after if after[k].is_floating_point() and torch.equal(before[k], after[k])]
    assert [k for k in still if "key.bias" not in k] == []
    words = "embeddings.word_embeddings.weight"
    assert (before[words] != after[words]).any(1)[-2:].tolist() == [True, True]


def test_a_draw_does_not_depend_on_the_draws_before_it(folder: Path, tmp_path: Path) -> None:
    opened = session(folder, {"adapt": ADAPT})
    opened.fit(TASK, fit(tmp_path / "first"))
    opened.fit(Task(2, TYPES, SUPPORT[:2], ()), fit(tmp_path / "other"))
    opened.fit(TASK, fit(tmp_path / "again"))
    first, other, again = (
        (tmp_path / r / "model" / "encoder.safetensors").read_bytes() for r in ("first", "other", "again")
    )
    assert first == again != other


def test_a_killed_training_ends_with_the_same_weights(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dying(step: int, **values: float) -> None:
        if step == 2:
            raise Killed

    original = example.Loop
    monkeypatch.setattr(example, "Loop", lambda *a: original(*a, save_every=0))
    session(folder, {"adapt": ADAPT}).fit(TASK, fit(tmp_path / "whole"))
    with pytest.raises(Killed):
        session(folder, {"adapt": ADAPT}).fit(TASK, fit(tmp_path / "cut", log=dying))
    steps: list[int] = []
    again = fit(tmp_path / "cut", log=lambda step, **values: steps.append(step))
    session(folder, {"adapt": ADAPT}).fit(TASK, again)
    assert steps == [2, 3]
    whole, cut = (tmp_path / run / "model" / "encoder.safetensors" for run in ("whole", "cut"))
    assert whole.read_bytes() == cut.read_bytes()


def test_on_the_target_nothing_is_trained(folder: Path, tmp_path: Path) -> None:
    session(folder, {"adapt": ADAPT}).fit(TASK, fit(tmp_path / "source"))
    init = tmp_path / "source" / "model"
    steps: list[int] = []
    target = Task(1, ("city",), (sentence(0, "she saw paris there", (2, 3, "city")),), SUPPORT)
    session(folder).fit(target, fit(tmp_path / "target", init=init, log=lambda step, **values: steps.append(step)))
    left, right = (load_file(d / "encoder.safetensors") for d in (init, tmp_path / "target" / "model"))
    assert steps == []
    assert all(torch.equal(left[k], right[k]) for k in left)


def micro_f1(task: Task, outputs: list[Any]) -> float:
    reader = spans_format.FORMAT([EntityType(t, t, t) for t in task.types], spans_format.FORMAT.Options())
    right = found = gold = 0
    for text, output in zip(task.query, outputs, strict=True):
        parsed = reader.parse(text.words, output)
        assert not parsed.dropped
        right += len(set(parsed.entities) & set(text.entities))
        found, gold = found + len(parsed.entities), gold + len(text.entities)
    return 2 * right / (found + gold) if found + gold else 0.0


def names_corpus(split: str, count: int, seed: int) -> tuple[Sentence, ...]:
    """Sentences with a name of one or two of four types; each type has five names."""
    rng = random.Random(seed)
    found = []
    for number in range(count):
        words = [f"w{rng.randrange(20)}" for _ in range(rng.randint(2, 4))]
        names = [f"{kind}{rng.randrange(5)}" for kind in rng.sample("abcd", rng.choice((1, 2)))]
        words = rng.sample(words + names, len(words + names))
        entities = tuple(Entity(i, i + 1, word[0]) for i, word in enumerate(words) if word in names)
        found.append(Sentence(sentence_id(split, number), tuple(words), entities))
    return tuple(found)


def without_dropout(folder: Path, sentences: Sequence[Sentence], hidden: int) -> Path:
    build(folder, [w for s in sentences for w in s.words], hidden=hidden)
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.slow
def test_it_learns_to_find_what_is_like_the_marked_mentions(tmp_path: Path) -> None:
    """Until a marker's state tells its mention's type, all types look alike: that takes most of the steps."""
    known, asked = names_corpus("train", 80, 1), names_corpus("test", 60, 2)
    backbone = without_dropout(tmp_path / "bert", (*known, *asked), 64)
    task = Task(1, tuple("abcd"), known, (*known, *asked))
    plain = session(backbone)
    plain.fit(task, fit(tmp_path / "plain"))
    assert micro_f1(task, list(plain.decode(task, tmp_path / "plain" / "model"))) < 0.3
    opened = session(backbone, {"adapt": {"episodes": 6000, "supports": 3, "batch_size": 4, "lr": 1e-3}})
    opened.fit(task, fit(tmp_path))
    assert micro_f1(task, list(opened.decode(task, tmp_path / "model"))) >= 0.95


@pytest.mark.slow
@pytest.mark.shared
def test_it_learns_fifty_real_sentences(mirror: Path, tmp_path: Path) -> None:
    """What it misses stands beside another mention of its type: a softmax halves the probability of two starts."""
    sentences = restaurant(mirror, 50)
    backbone = without_dropout(tmp_path / "bert", sentences, 32)
    adapt = {"episodes": 12800, "supports": 3, "batch_size": 16, "lr": 5e-3}
    # All 64 texts of a step go through the encoder together, which is faster.
    opened = example.load(replace(job(backbone, "example", {"adapt": adapt}, {}, tags="spans"), device_batch=64))
    task = Task(1, tuple(sorted({e.type for s in sentences for e in s.entities})), sentences, sentences)
    opened.fit(task, fit(tmp_path))
    answers = list(opened.decode(task, tmp_path / "model"))
    assert micro_f1(task, answers) >= 0.95
    held = [{Entity(*span) for span in spans} for spans in answers]
    missed = [(s, e) for s, spans in zip(sentences, held, strict=True) for e in s.entities if e not in spans]
    assert sum([e.type for e in s.entities].count(entity.type) == 1 for s, entity in missed) <= 1
