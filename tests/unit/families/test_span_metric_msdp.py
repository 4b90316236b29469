"""MSDP's pre-training: masked entities beside their labels, the contrast by hand, and what starts from it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_span_metric_proto import TWO
from test_tagger import Killed
from tiny_encoder import fit, sentence
from tiny_spans import ADAPT, SUPPORT, TASK, TYPES, build_masked, session
from transformers import BertForMaskedLM, DistilBertConfig, DistilBertModel

from fewtable.corpus import Task
from fewtable.errors import ConfigError, DataError
from fewtable.families import span_metric
from fewtable.training.encoder import Encoder
from fewtable.training.episode import Episode
from fewtable.training.msdp import Pretraining, class_contrast, masked, statements, word_head
from fewtable.training.span_proto import stretches

PRETRAINING = {"name": "msdp-pretraining"}
WORDS = [*(w for s in SUPPORT for w in s.words), "is", "loc", "per"]
EPISODE = Episode(TYPES, SUPPORT[:2], SUPPORT[2:])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_masked(tmp_path_factory.mktemp("bert"), WORDS, hidden=32)


@pytest.fixture
def model(folder: Path) -> Pretraining:
    torch.manual_seed(0)
    encoder = Encoder(folder, "float32")
    return Pretraining(encoder, word_head(folder, encoder), 0.5).eval()


def spelt(model: Pretraining, ids: tuple[int, ...]) -> str:
    return str(model.pieces._tokenizer.decode(ids))


def test_statements_name_an_entity_of_each_type_that_has_one(model: Pretraining) -> None:
    found = statements(model.pieces, EPISODE)
    assert [spelt(model, ids) for ids in found] == ["new york is loc [SEP]", "anna is per [SEP]"]
    (absent,) = statements(model.pieces, Episode(("city-town", *TYPES), SUPPORT[1:2]))
    assert spelt(model, absent) == "paris is loc [SEP]"
    (split,) = statements(model.pieces, Episode(("saw-there_she",), (sentence(0, "bob", (0, 1, "saw-there_she")),)))
    assert spelt(model, split) == "bob is saw there she [SEP]"


def test_every_masked_piece_has_its_label(model: Pretraining) -> None:
    (part,) = stretches(model.read([sentence(0, "she saw xyz there bob", (2, 3, "loc"), (4, 5, "per"))]), 1)
    after = statements(model.pieces, EPISODE)
    window, right = masked(part, model._mask, after, 64)
    assert spelt(model, window.ids) == (
        "[CLS] she saw [mask] [mask] [mask] there [mask] [SEP] new york is loc [SEP] anna is per [SEP]"
    )
    assert len(right) == len(window.first) == window.ids.count(model._mask) == 4
    assert spelt(model, tuple(right)) == "x ##y ##z bob"
    short, _ = masked(part, model._mask, after, len(part.window.ids) + len(after[1]))
    assert spelt(model, short.ids).endswith("[SEP] anna is per [SEP]"), "a statement that does not fit is left out"
    bare, _ = masked(part, model._mask, after, 4)
    assert len(bare.ids) == len(part.window.ids), "the sentence is never cut"


def test_the_contrast_is_that_of_the_definition() -> None:
    vectors = torch.randn(5, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels = [0, 1, 0, 0, 2]
    losses = []
    for i, label in enumerate(labels):
        weight = {
            j: math.exp(float(torch.cosine_similarity(vectors.detach()[i], vectors.detach()[j], 0)) / 0.5)
            for j in range(5)
            if j != i
        }
        same = [j for j in weight if labels[j] == label]
        if same:
            losses.append(-sum(math.log(weight[j] / sum(weight.values())) for j in same) / len(same))
    found = class_contrast(vectors, torch.tensor(labels), 0.5)
    assert float(found.detach()) == pytest.approx(sum(losses) / 3, rel=1e-5)
    found.backward()  # type: ignore[no-untyped-call]
    assert vectors.grad is not None
    assert torch.isfinite(vectors.grad).all()
    for size in (0, 1, 2):
        alone = class_contrast(vectors[:size], torch.arange(size), 0.5)
        (gradient,) = torch.autograd.grad(alone, vectors)
        assert (float(alone.detach()), bool(gradient.any())) == (0.0, False)


def test_the_loss_is_that_of_the_masked_pieces_and_of_the_contrast(model: Pretraining) -> None:
    total, weight = model.loss(EPISODE)
    known, asked = (stretches(model.read(s), 1) for s in (EPISODE.support, EPISODE.query))
    with torch.no_grad():
        losses = []
        for part in (p for p in asked if p.gold):
            window, right = masked(part, model._mask, statements(model.pieces, EPISODE), 64)
            logits = model.heads(model.pieces.model(input_ids=torch.tensor([window.ids])).last_hidden_state)[0]
            losses += [-float(logits[p].log_softmax(-1)[r]) for p, r in zip(window.first, right, strict=True)]
        vectors, labels = [], []
        for part in (*known, *asked):
            hidden = model.pieces.model(input_ids=torch.tensor([part.window.ids])).last_hidden_state[0]
            for e in part.gold:
                vectors.append(hidden[part.window.first[e.start] : part.last[e.end - 1] + 1].mean(0))
                labels.append(TYPES.index(e.type))
        contrast = float(class_contrast(torch.stack(vectors), torch.tensor(labels), 0.5))
    assert (len(losses), len(labels), weight) == (2, 5, 1.0)
    assert float(total.detach()) == pytest.approx(sum(losses) / 2 + contrast, rel=1e-4)


def test_every_weight_gets_a_gradient_and_the_matrix_of_words_is_one(model: Pretraining) -> None:
    names = [name for name, _ in model.named_parameters()]
    assert [n for n in names if n.startswith("heads.") and n.endswith("decoder.weight")] == []
    model.train().loss(EPISODE)[0].backward()  # type: ignore[no-untyped-call]
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert [name for name in still if "key.bias" not in name] == []
    words = model.pieces.model.get_input_embeddings().weight  # type: ignore[operator]
    assert model.get_submodule("heads.predictions.decoder").weight is words


@pytest.mark.parametrize(
    ("support", "query", "weight"),
    [(SUPPORT[3:], SUPPORT[3:], 0.0), (SUPPORT[1:2], SUPPORT[3:], 1.0), (SUPPORT[3:], SUPPORT[1:2], 1.0)],
)
def test_an_episode_may_lack_anything(model: Pretraining, support: tuple, query: tuple, weight: float) -> None:  # type: ignore[type-arg]
    total, found = model.loss(Episode(TYPES, support, query))
    total.backward()  # type: ignore[no-untyped-call]
    assert (bool(torch.isfinite(total)), found) == (True, weight)
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())


def test_the_head_is_the_backbones_own_where_it_has_one(folder: Path, tmp_path: Path) -> None:
    whole = BertForMaskedLM.from_pretrained(folder)
    with torch.no_grad():
        whole.cls.predictions.bias.copy_(torch.arange(len(whole.cls.predictions.bias)))
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    whole.save_pretrained(tmp_path)
    encoder = Encoder(tmp_path, "float32")
    head = word_head(tmp_path, encoder)
    assert head.get_submodule("predictions").bias.tolist() == list(range(len(head.get_submodule("predictions").bias)))


def test_a_backbone_that_is_no_masked_model_is_refused(folder: Path, tmp_path: Path) -> None:
    DistilBertModel(DistilBertConfig(vocab_size=9, dim=4, n_layers=1, n_heads=1, hidden_dim=4)).save_pretrained(
        tmp_path
    )
    with pytest.raises(ConfigError, match="no masked language model in one part"):
        word_head(tmp_path, Encoder(folder, "float32"))


def test_spans_are_learnt_from_the_pre_trained_encoder(folder: Path, tmp_path: Path) -> None:
    session(folder, PRETRAINING, ADAPT).fit(TASK, fit(tmp_path / "first"))
    init = tmp_path / "first" / "model"
    assert {p.name for p in init.iterdir()} == {"encoder.safetensors", "support.jsonl"}
    before = Encoder(folder, "float32").model.state_dict()
    learnt = load_file(init / "encoder.safetensors")
    still = [k for k, t in learnt.items() if t.is_floating_point() and torch.equal(before[k], t)]
    assert [k for k in still if "key.bias" not in k] == []
    none = {**ADAPT, "epochs": 0}
    session(folder, TWO, none).fit(TASK, fit(tmp_path / "second", init=init))
    assert (tmp_path / "second" / "model" / "encoder.safetensors").read_bytes() == (
        init / "encoder.safetensors"
    ).read_bytes()
    assert len(list(session(folder, TWO).decode(TASK, tmp_path / "second" / "model"))) == 4
    with pytest.raises(ConfigError, match="answers nothing"):
        list(session(folder, PRETRAINING).decode(TASK, init))
    with pytest.raises(DataError, match=r"has no heads\.safetensors"):
        session(folder, TWO).fit(TASK, fit(tmp_path / "third", init=init))


def test_a_draw_leaves_no_trace_and_a_kill_no_difference(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dying(step: int, **values: float) -> None:
        if step == 2:
            raise Killed

    def learnt(run: str) -> bytes:
        return (tmp_path / run / "model" / "encoder.safetensors").read_bytes()

    original = span_metric.Loop
    monkeypatch.setattr(span_metric, "Loop", lambda *a, **k: original(*a, **k, save_every=0))
    opened = session(folder, PRETRAINING, ADAPT)
    opened.fit(TASK, fit(tmp_path / "whole"))
    more = sentence(4, "bob likes york", (0, 1, "per"), (2, 3, "loc"))
    opened.fit(Task(2, TYPES, (*SUPPORT, more), ()), fit(tmp_path / "other"))
    opened.fit(TASK, fit(tmp_path / "again"))
    with pytest.raises(Killed):
        opened.fit(TASK, fit(tmp_path / "cut", log=dying))
    session(folder, PRETRAINING, ADAPT).fit(TASK, fit(tmp_path / "cut"))
    assert learnt("whole") == learnt("again") == learnt("cut") != learnt("other")


@pytest.mark.slow
def test_it_learns_to_tell_types_and_masked_words(folder: Path, tmp_path: Path) -> None:
    losses: list[float] = []
    adapt = {**ADAPT, "episodes": 150, "lr": 2e-3}
    log = fit(tmp_path, log=lambda step, **values: losses.append(values["loss"]))
    session(folder, PRETRAINING, adapt).fit(TASK, log)
    assert sum(losses[:5]) / 5 > 3.0 > 1.5 > sum(losses[-5:]) / 5
