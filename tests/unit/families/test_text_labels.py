"""Label tokens and auxiliary tasks in causal and seq2seq: new rows, what is trained, kept, resumed and learned."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_text
import torch
from test_text import FAMILIES, HERE, SUPPORT, TASK, TYPES, options
from tokenizers import AddedToken
from transformers import T5Tokenizer

from fewtable.corpus import Entity, Sentence, Task
from fewtable.data.normalise import normalise
from fewtable.errors import ConfigError
from fewtable.predictions import entity_types, make_format
from fewtable.random_tokenizers import byte_tokenizer
from fewtable.registry import Registry
from fewtable.training.labels import deviation, grow, read_labels, read_rows, with_labels
from fewtable.training.sft import causal_loss

TOKENS = {"labels": "tokens"}
BOTH = ("<per>", "<loc>")
ORG = {**TYPES, "org": "organization"}
VARIANTS = [("causal", True), ("causal", False), ("seq2seq", True), ("seq2seq", False)]
"""Family, and whether the head shares the embeddings' weights (T5 1.0) or not (T5 v1.1)."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, bool], Path]:
    root = tmp_path_factory.mktemp("labels")
    return {
        (kind, tied): tiny_text.build(root / f"{kind}-{tied}", kind, SUPPORT, TYPES, form=TOKENS, tied=tied)
        for kind, tied in VARIANTS
    }


def session(folder: Path, kind: str, types: dict[str, str] = TYPES, **more: Any) -> Any:
    return FAMILIES[kind].load(tiny_text.job(folder, kind, types, options(kind, **more), form=TOKENS))


def matrices(model: Any) -> list[torch.Tensor]:
    return [model.get_input_embeddings().weight.detach(), model.get_output_embeddings().weight.detach()]


@pytest.mark.parametrize("tied", [True, False])
def test_new_rows_are_random_by_the_seed_and_old_ones_stay(folders: dict[tuple[str, bool], Path], tied: bool) -> None:
    made = session(folders["seq2seq", tied], "seq2seq")
    first, seen = len(made.tokenizer), []
    for seed in (1, 1, 2):
        model = made._load(made.folder, "float32")
        before = [m.clone() for m in matrices(model)]
        grow(model, first, first + 40, seed)
        for old, new in zip(before, matrices(model), strict=True):
            assert torch.equal(new[:first], old[:first]) and len(new) % 64 == 0
        assert (model.get_input_embeddings().weight is model.get_output_embeddings().weight) == tied
        assert model.encoder.embed_tokens.weight is model.decoder.embed_tokens.weight is model.shared.weight
        seen.append([m[first : first + 40].clone() for m in matrices(model)])
        assert all(abs(float(rows.std()) - deviation(model.config)) < 0.05 for rows in seen[-1])
    assert torch.equal(seen[0][0], seen[1][0]) and torch.equal(seen[0][1], seen[1][1])
    assert not torch.equal(seen[0][0], seen[2][0])
    assert torch.equal(seen[0][0], seen[0][1]) == tied


def test_a_matrix_that_is_padded_is_neither_shrunk_nor_its_filler_kept(folders: dict[tuple[str, bool], Path]) -> None:
    made = session(folders["seq2seq", True], "seq2seq")
    model = made._load(made.folder, "float32")
    model.resize_token_embeddings(128)
    filler = matrices(model)[0].clone()
    grow(model, 50, 58, 1)
    (grown, _) = matrices(model)
    assert grown.shape == filler.shape
    assert torch.equal(grown[58:], filler[58:]) and not torch.isclose(grown[50:58], filler[50:58]).any()


@pytest.mark.parametrize("tied", [True, False])
def test_rows_beside_a_backbone_are_rows_of_a_grown_model(
    folders: dict[tuple[str, bool], Path], tmp_path: Path, tied: bool
) -> None:
    made = session(folders["causal", tied], "causal")
    made._speak(BOTH)
    first = len(made._plain)
    grown = made._load(made.folder, "float32")
    grow(grown, first, first + 2, 1)
    rows = [tiny_text.row((5, first, 7), (first + 1, 1)), tiny_text.row((4,), (9, first, 1))]
    with torch.no_grad():
        for matrix, new in zip(matrices(grown), (1.0, 1.0 if tied else 2.0), strict=True):
            matrix[first : first + 2] = new * torch.arange(64) / 64
        logits = [grown(input_ids=torch.tensor([r.ids])).logits[0, :, : first + 2] for r in rows]
        expected = 0.0
        for row, scores in zip(rows, logits, strict=True):
            for place in (place for place, learned in enumerate(row.learned) if learned):
                values, gold = scores[place - 1].tolist(), row.ids[place]
                expected += math.log(sum(math.exp(x) for x in values)) - values[gold]
    with made.start(tiny_text.fit(tmp_path)) as model, torch.no_grad():
        base = model.get_base_model()
        base.get_input_embeddings().rows.copy_(matrices(grown)[0][first : first + 2])
        base.get_output_embeddings().rows.copy_(matrices(grown)[1][first : first + 2])
        total, tokens = causal_loss(base, autocast=False)(rows)
    assert tokens == 5
    assert float(total.sum()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("tied", [True, False])
def test_adapters_and_new_rows_alone_are_trained(
    folders: dict[tuple[str, bool], Path], tmp_path: Path, tied: bool
) -> None:
    made = session(folders["causal", tied], "causal")
    base = made._backbone()
    modules, before = dict(base.named_modules()), {n: p.clone() for n, p in base.named_parameters()}
    made._speak(BOTH)
    with made.start(tiny_text.fit(tmp_path / "1")) as model:
        total, _ = made.loss(model)(tiny_text.rows(made, TASK))
        total.sum().backward()
        touched = {n for n, p in model.named_parameters() if p.grad is not None}
        rows = {n for n in touched if "lora_" not in n}
        assert all(float(p.grad.abs().sum()) > 0 for n, p in model.named_parameters() if n in rows)
    assert len(rows) == (1 if tied else 2) and all(n.endswith(".rows") for n in rows)
    made.fit(TASK, tiny_text.fit(tmp_path / "2"))
    list(made.decode(TASK, tmp_path / "2" / "model"))
    assert dict(base.named_modules()) == modules
    assert all(torch.equal(before[n], p) for n, p in base.named_parameters())
    files = {f.name for f in (tmp_path / "2" / "model").iterdir()}
    assert files == {"adapter_config.json", "adapter_model.safetensors", "labels.json", "labels.safetensors"}
    assert set(read_rows(tmp_path / "2" / "model")) == ({"input"} if tied else {"input", "output"})


def alike(left: Path, right: Path) -> bool:
    pairs = [(file, right / file.name) for file in sorted(left.iterdir()) if file.suffix != ".jsonl"]
    return all(a.read_bytes() == b.read_bytes() for a, b in pairs)


@pytest.mark.parametrize(("kind", "tied"), VARIANTS)
def test_a_draw_with_other_types_leaves_no_trace(
    folders: dict[tuple[str, bool], Path], tmp_path: Path, kind: str, tied: bool
) -> None:
    busy, fresh = session(folders[kind, tied], kind), session(folders[kind, tied], kind)
    one = tuple(Sentence(s.id, s.words, tuple(e for e in s.entities if e.type == "loc")) for s in SUPPORT)
    busy.fit(Task(1, ("loc",), one, one), tiny_text.fit(tmp_path / "1", seed=1))
    busy.fit(TASK, tiny_text.fit(tmp_path / "2", seed=2))
    fresh.fit(TASK, tiny_text.fit(tmp_path / "3", seed=2))
    assert read_labels(tmp_path / "1" / "model") == ("<loc>",)
    assert read_labels(tmp_path / "2" / "model") == BOTH
    assert alike(tmp_path / "2" / "model", tmp_path / "3" / "model")
    assert list(busy.decode(TASK, tmp_path / "2" / "model")) == list(fresh.decode(TASK, tmp_path / "3" / "model"))
    assert len(fresh.tokenizer) == len(fresh._plain) + 2


@pytest.mark.parametrize(("kind", "tied"), VARIANTS)
def test_going_on_keeps_the_labels_that_a_run_knew(
    folders: dict[tuple[str, bool], Path], tmp_path: Path, kind: str, tied: bool
) -> None:
    first = session(folders[kind, tied], kind)
    first.fit(TASK, tiny_text.fit(tmp_path / "1"))
    source = tmp_path / "1" / "model"
    start = tiny_text.fit(tmp_path / "2", seed=2, init=source)
    more = session(folders[kind, tied], kind, ORG)
    task = Task(1, ("org", "per"), SUPPORT[1:2], SUPPORT[1:2])
    more._speak((*read_labels(source), *more._format(task).tokens))
    assert more.labels == (*BOTH, "<org>")
    place = slice(len(more._plain), len(more._plain) + 2)
    with more.start(start) as model:
        if kind == "causal":
            rows = model.get_base_model().get_input_embeddings().rows
            assert rows.shape[0] == 3 and torch.equal(rows[:2], read_rows(source)["input"])
        else:
            with first.trained(source) as trained:
                kept = [m[place].clone() for m in matrices(trained)]
            assert all(torch.equal(m[place], old) for m, old in zip(matrices(model), kept, strict=True))
    more.fit(task, start)
    assert read_labels(tmp_path / "2" / "model") == (*BOTH, "<org>")
    assert len(list(more.decode(TASK, tmp_path / "2" / "model"))) == 3


@pytest.mark.parametrize("tied", [True, False])
def test_all_weights_go_on_from_adapters_with_their_rows(
    folders: dict[tuple[str, bool], Path], tmp_path: Path, tied: bool
) -> None:
    session(folders["causal", tied], "causal").fit(TASK, tiny_text.fit(tmp_path / "1"))
    source = tmp_path / "1" / "model"
    whole = session(folders["causal", tied], "causal", lora=None)
    whole._speak(BOTH)
    place = slice(len(whole._plain), len(whole._plain) + 2)
    with whole.start(tiny_text.fit(tmp_path / "2", init=source)) as model:
        found, rows = matrices(model), read_rows(source)
        assert torch.equal(found[0][place], rows["input"])
        assert torch.equal(found[1][place], rows.get("output", rows["input"]))


@pytest.mark.parametrize("kind", FAMILIES)
def test_natural_runs_can_be_gone_on_from_with_labels(
    folders: dict[tuple[str, bool], Path], tmp_path: Path, kind: str
) -> None:
    plain = FAMILIES[kind].load(tiny_text.job(folders[kind, True], kind, TYPES, options(kind)))
    plain.fit(TASK, tiny_text.fit(tmp_path / "1"))
    assert read_labels(tmp_path / "1" / "model") == ()
    made = session(folders[kind, True], kind)
    made.fit(TASK, tiny_text.fit(tmp_path / "2", init=tmp_path / "1" / "model"))
    assert read_labels(tmp_path / "2" / "model") == BOTH


def t5_tokenizer() -> Any:
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [(c, -3.0) for c in "abcdefghijklmnopqrstuvwxyz.,$"]
    return T5Tokenizer(vocab=[*pieces, ("▁is", -1.0), ("▁a", -1.0)], extra_ids=0)


@pytest.mark.parametrize("made", [t5_tokenizer(), byte_tokenizer(), byte_tokenizer(start=True)])
@pytest.mark.parametrize("mode", ["paper", "robust"])
def test_tokens_survive_the_way_to_ids_and_back(made: Any, mode: str) -> None:
    form = make_format(
        {"name": "instructionner", "parse": mode, **TOKENS}, entity_types({n: {} for n in ("P", "a.b_c")})
    )
    sentence = Sentence("x-0", ("anna", "paid", "$a"), (Entity(0, 1, "P"), Entity(2, 3, "a.b_c")))
    speaker = with_labels(made, form.tokens)
    target = form.render(sentence)[0].target
    ids = speaker(target)["input_ids"]
    assert {len(made), len(made) + 1} < set(ids)
    written = speaker.batch_decode([ids], skip_special_tokens=True, clean_up_tokenization_spaces=False)[0]
    assert "<p>" in written and "<a.b_c>" in written
    parsed = form.parse(sentence.words, written)
    assert (parsed.entities, parsed.dropped) == (sentence.entities, ())
    assert len(made.get_vocab()) + 2 == len(speaker.get_vocab())


def test_a_token_that_the_backbone_has_is_refused() -> None:
    known = byte_tokenizer()
    known.add_tokens([AddedToken("<per>")])
    with pytest.raises(ConfigError, match="'<per>' of its own"):
        with_labels(known, BOTH)


CHILD = """
import os, signal, sys
from pathlib import Path
import fewtable.families._text, test_text_labels, tiny_text, torch
torch.set_num_threads(1)
kind, folder, work = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
fewtable.families._text.SAVE_EVERY = 0.0
def log(step, **values):
    if step == 5:
        os.kill(os.getpid(), signal.SIGKILL)
test_text_labels.session(folder, kind).fit(test_text_labels.TASK, tiny_text.fit(work, log=log))
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", FAMILIES)
def test_a_killed_training_ends_with_the_same_rows(
    folders: dict[tuple[str, bool], Path], tmp_path: Path, kind: str
) -> None:
    torch.set_num_threads(1)
    folder = folders[kind, True]
    session(folder, kind).fit(TASK, tiny_text.fit(tmp_path / "whole"))
    command = [sys.executable, "-c", CHILD, kind, str(folder), str(tmp_path / "killed")]
    killed = subprocess.run(command, cwd=HERE, check=False, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    (tmp_path / "killed" / "model").rmdir()
    steps: list[int] = []
    session(folder, kind).fit(TASK, tiny_text.fit(tmp_path / "killed", log=lambda step, **values: steps.append(step)))
    assert steps == [5, 6, 7, 8]
    assert alike(tmp_path / "whole" / "model", tmp_path / "killed" / "model")


LEARNED = {
    "auxiliary": {"auxiliary": ["et", "ee"], "ratio": 0.5},
    "tokens": TOKENS,
    "natural": {"shown": "sentence"},
}


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize("form", LEARNED)
@pytest.mark.parametrize("kind", FAMILIES)
def test_50_real_sentences_are_learned(root: Path, mirror: Path, tmp_path: Path, kind: str, form: str) -> None:
    spec = Registry(root / "config").dataset("mit-restaurant")
    raw = {name: mirror / str(file.mirror) for name, file in spec.files.items()}
    sentences = tuple(normalise("mit-restaurant", spec, "train", raw)[:50])
    types = {name: t.words for name, t in spec.types.items()}
    tiny_text.build(tmp_path / "backbone", kind, sentences, types, size=128, form=LEARNED[form])
    train = {
        "epochs": 25 if form == "auxiliary" else 40,
        "batch_size": 10,
        "lr": 3e-3,
        "weight_decay": 0.0,
        "warmup": 0.05,
    }
    if kind == "causal":
        train["lora"] = None
    made = FAMILIES[kind].load(
        tiny_text.job(tmp_path / "backbone", kind, types, train, form=LEARNED[form], batch_size=25)
    )
    task = Task(1, tuple(types), sentences, sentences)
    made.fit(task, tiny_text.fit(tmp_path))
    reader = made._format(task)
    right = found = 0
    for sentence, output in zip(sentences, made.decode(task, tmp_path / "model"), strict=True):
        predicted = set(reader.parse(sentence.words, output).entities)
        right, found = right + len(predicted & set(sentence.entities)), found + len(predicted)
    gold = sum(len(s.entities) for s in sentences)
    assert 2 * right / (found + gold) >= 0.95
