"""The tagger: its loss by hand, its inventory, transfer, resume, and that it learns real sentences."""

from __future__ import annotations

import math
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_encoder import build, build_bart, fit, job, micro_f1, sentence

from fewtable.corpus import Sentence, Task, tags_to_entities
from fewtable.decoding.transitions import Counts, read_counts
from fewtable.errors import ConfigError
from fewtable.families import tagger
from fewtable.training.crf import Crf
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
KINDS = [("folder", None), ("folder", 100), ("bart", None)]
"""LC-BERT, LC-BERT-CRF and LC-BART: the fixture with the backbone, and the rate of the CRF."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("bert"), [w for s in SUPPORT for w in s.words], hidden=32)


@pytest.mark.parametrize(("kind", "words"), [("folder", 9), ("bart", 10)])
def test_the_loss_is_the_mean_over_labelled_words(kind: str, words: int, request: pytest.FixtureRequest) -> None:
    """BERT has no piece for the word of zero width; BART's words are unknown or not."""
    encoder = Encoder(request.getfixturevalue(kind), "float32")
    torch.manual_seed(1)
    model = TagModel(encoder, ["O", "B-per", "I-per", "B-loc", "I-loc"], dropout=0.0).eval()
    examples = model.prepare(SUPPORT)
    assert [e.labels for e in examples] == [(1, 0, 3, 4), (3,), (0, 0, 1, *[0] * (words - 8))]
    with torch.no_grad():
        total, count = model.loss(examples)
        expected = 0.0
        for example in examples:
            for row, gold in zip(model.head(encoder.states(example.windows)).tolist(), example.labels, strict=True):
                expected += math.log(sum(math.exp(x) for x in row)) - row[gold]
    assert count == words
    assert float(total) == pytest.approx(expected, rel=1e-5)


def test_the_crf_weighs_every_sequence_of_tags() -> None:
    """Against all sequences, one by one: a sentence of three words and one of one, three tags."""
    torch.manual_seed(2)
    crf = Crf(3, rate=10)
    for parameter in crf.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    start, table, end = (10 * p.detach() for p in (crf.start, crf.table, crf.end))
    emissions = [torch.randn(3, 3), torch.randn(1, 3)]
    gold = [torch.tensor([0, 2, 1]), torch.tensor([2])]

    def score(scores: torch.Tensor, path: tuple[int, ...]) -> float:
        total = start[path[0]] + end[path[-1]] + sum(float(scores[i, tag]) for i, tag in enumerate(path))
        return float(total + sum(float(table[a, b]) for a, b in pairwise(path)))

    expected, best = 0.0, []
    for scores, tags in zip(emissions, gold, strict=True):
        paths = {path: score(scores, path) for path in product(range(3), repeat=len(tags))}
        expected += math.log(sum(map(math.exp, paths.values()))) - paths[tuple(tags.tolist())]
        best.append(list(max(paths, key=lambda path: paths[path])))
    assert float(crf.loss(emissions, gold).detach()) == pytest.approx(expected, rel=1e-5)
    assert crf.best([*emissions, torch.zeros(0, 3)]) == [*best, []]


def test_a_new_crf_is_a_softmax_a_word(folder: Path) -> None:
    losses = []
    for crf in (None, 100.0):
        torch.manual_seed(1)
        model = TagModel(Encoder(folder, "float32"), ["O", "B-per", "I-per", "B-loc", "I-loc"], 0.0, crf).eval()
        total, words = model.loss(model.prepare(SUPPORT))
        losses.append((pytest.approx(float(total.detach()), rel=1e-5), words))
    assert losses[0] == losses[1]


def test_the_rate_moves_the_scores_and_leaves_their_gradient() -> None:
    moved = []
    for rate in (1.0, 50.0):
        crf = Crf(2, rate)
        optimiser = torch.optim.AdamW(crf.parameters(), lr=1e-3, weight_decay=0)
        crf.loss([torch.zeros(2, 2)], [torch.tensor([0, 1])]).backward()  # type: ignore[no-untyped-call]
        assert crf.table.grad is not None
        assert crf.table.grad[0].tolist() == pytest.approx([0.25, -0.75])
        optimiser.step()
        moved.append(crf.scores()[1].detach())
    torch.testing.assert_close(50 * moved[0], moved[1])


def test_every_type_has_both_tags_and_words_without_pieces_are_outside(folder: Path, tmp_path: Path) -> None:
    session = tagger.load(job(folder, "tagger", TRAIN))
    task = Task(1, ("per", "loc", "unseen"), SUPPORT, SUPPORT)
    session.fit(task, fit(tmp_path))
    assert load_file(tmp_path / "model" / "head.safetensors")["weight"].shape == (7, 32)
    outputs = list(session.decode(task, tmp_path / "model"))
    assert [len(o) for o in outputs] == [4, 1, 5]
    assert outputs[2][3] == "O"
    assert read_counts(tmp_path / "model") == Counts((1, 2), (2, 2), (2, 1, 0))


def test_a_crf_is_kept_with_the_head(folder: Path, tmp_path: Path) -> None:
    session = tagger.load(job(folder, "tagger", {**TRAIN, "crf": 100}))
    session.fit(TASK, fit(tmp_path))
    tensors = load_file(tmp_path / "model" / "head.safetensors")
    assert {k: tuple(t.shape) for k, t in tensors.items() if k.startswith("crf.")} == {
        "crf.start": (5,), "crf.table": (5, 5), "crf.end": (5,),
    }  # fmt: skip
    assert all(t.abs().max() > 0 for t in tensors.values())
    assert [len(o) for o in session.decode(TASK, tmp_path / "model")] == [4, 1, 5]


@pytest.fixture(scope="module")
def bart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_bart(tmp_path_factory.mktemp("bart"), [w for s in SUPPORT for w in s.words], size=32)


@pytest.mark.parametrize(("kind", "crf"), KINDS)
def test_a_draw_does_not_depend_on_the_draws_before_it(
    kind: str, crf: float | None, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(kind)
    session = tagger.load(job(folder, "tagger", {**TRAIN, "crf": crf}))
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


@pytest.mark.parametrize(("kind", "crf"), KINDS)
def test_every_weight_gets_a_gradient_but_rows_of_other_words(
    kind: str, crf: float | None, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(kind)
    words = "shared" if kind == "bart" else "embeddings.word_embeddings"
    session = tagger.load(job(folder, "tagger", {**TRAIN, "weight_decay": 0, "crf": crf}))
    before = {k: v.clone() for k, v in Encoder(folder, "float32").model.state_dict().items()}
    session.fit(TASK, fit(tmp_path))
    after = load_file(tmp_path / "model" / "encoder.safetensors")
    still = [k for k in after if after[k].is_floating_point() and torch.equal(before[k], after[k])]
    # Softmax takes a shift of all keys away.
    assert [k for k in still if "key.bias" not in k and "k_proj.bias" not in k] == []
    unused = (before[f"{words}.weight"] == after[f"{words}.weight"]).all(1)
    assert 0 < int(unused.sum()) < len(unused)
    head = load_file(tmp_path / "model" / "head.safetensors")
    assert {k for k in head if k.startswith("crf.")} == ({"crf.start", "crf.table", "crf.end"} if crf else set())
    assert all(t.any() for k, t in head.items() if k.startswith("crf."))  # zero before


class Killed(Exception):
    """Stands for a kill between two steps."""


@pytest.mark.parametrize(("kind", "crf"), KINDS)
def test_a_killed_training_ends_with_the_same_weights(
    kind: str, crf: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(kind)
    train = {**TRAIN, "crf": crf}

    def dying(step: int, **values: float) -> None:
        if step == 4:
            raise Killed

    original = tagger.Loop
    monkeypatch.setattr(tagger, "Loop", lambda *a: original(*a, save_every=0))
    tagger.load(job(folder, "tagger", train)).fit(TASK, fit(tmp_path / "whole"))
    with pytest.raises(Killed):
        tagger.load(job(folder, "tagger", train)).fit(TASK, fit(tmp_path / "cut", log=dying))
    steps: list[int] = []
    again = fit(tmp_path / "cut", log=lambda step, **values: steps.append(step))
    tagger.load(job(folder, "tagger", train)).fit(TASK, again)
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
@pytest.mark.parametrize(("make", "crf"), [(build, None), (build, 3), (build_bart, None)], ids=["bert", "crf", "bart"])
def test_it_learns_fifty_real_sentences(mirror: Path, tmp_path: Path, make: Any, crf: float | None) -> None:
    sentences = restaurant(mirror, 50)
    types = tuple(sorted({e.type for s in sentences for e in s.entities}))
    assert len(types) == 8
    backbone = make(tmp_path / "backbone", [w for s in sentences for w in s.words])
    session = tagger.load(job(backbone, "tagger", {"epochs": 60, "batch_size": 8, "lr": 3e-3, "crf": crf}))
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
