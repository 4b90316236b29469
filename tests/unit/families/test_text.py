"""causal and seq2seq: the loss by hand, what is trained, restored, resumed, and that they learn real sentences."""

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
from safetensors.torch import load_file

from fewtable.corpus import Entity, Sentence, Task
from fewtable.data.normalise import normalise
from fewtable.errors import ConfigError
from fewtable.families import causal, seq2seq
from fewtable.formats.base import Example
from fewtable.predictions import entity_types, make_format
from fewtable.registry import Registry
from fewtable.training.packing import apart
from fewtable.training.sft import Pair, causal_loss, seq2seq_loss
from fewtable.training.weights import adapted

TYPES = {"per": "person", "loc": "location"}
SUPPORT = (
    Sentence("train-000000", ("anna", "saw", "new", "york"), (Entity(0, 1, "per"), Entity(2, 4, "loc"))),
    Sentence("train-000001", ("she", "left")),
    Sentence("train-000002", ("york", "and", "anna"), (Entity(0, 1, "loc"), Entity(2, 3, "per"))),
)
TASK = Task(1, tuple(TYPES), SUPPORT, SUPPORT)
FAMILIES = {"causal": causal, "seq2seq": seq2seq}
LORA = {"r": 4, "alpha": 8, "targets": ["q_proj", "down_proj"]}
TRAIN = {"epochs": 4, "batch_size": 2, "lr": 1e-2}
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("tiny")
    return {kind: tiny_text.build(root / kind, kind, SUPPORT, TYPES) for kind in FAMILIES}


def options(kind: str, **more: Any) -> dict[str, Any]:
    return {**TRAIN, **({"lora": LORA} if kind == "causal" else {}), **more}


def session(folders: dict[str, Path], kind: str, **more: Any) -> Any:
    return FAMILIES[kind].load(tiny_text.job(folders[kind], kind, TYPES, options(kind, **more)))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    (file,) = folder.glob("*.safetensors")
    return load_file(file)


def same(left: Path, right: Path) -> bool:
    a, b = weights(left), weights(right)
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_causal_loss_is_that_of_the_answer_tokens_alone(folders: dict[str, Path]) -> None:
    model = session(folders, "causal")._load(folders["causal"], "float32")
    rows = [tiny_text.row((5, 6, 7), (8, 1)), tiny_text.row((4,), (9, 3, 1))]
    with torch.no_grad():
        with apart(model):
            total, tokens = causal_loss(model, autocast=False)(rows)
        expected = 0.0
        for row in rows:
            logits = model(input_ids=torch.tensor([row.ids])).logits[0]
            for place in (place for place, learned in enumerate(row.learned) if learned):
                scores, gold = logits[place - 1].tolist(), row.ids[place]
                expected += math.log(sum(math.exp(x) for x in scores)) - scores[gold]
    assert tokens == 5 and total.shape == (2,)
    assert float(total.sum()) == pytest.approx(expected, rel=1e-5)


def test_seq2seq_loss_is_transformers_own_sum(folders: dict[str, Path]) -> None:
    model = session(folders, "seq2seq")._load(folders["seq2seq"], "float32")
    rows = [Pair((5, 6, 7, 1), (8, 1)), Pair((4, 1), (9, 3, 1))]
    with torch.no_grad():
        total, tokens = seq2seq_loss(model, 0, autocast=False)(rows)
        each = [
            float(model(input_ids=torch.tensor([r.prompt]), labels=torch.tensor([r.answer])).loss) * len(r.answer)
            for r in rows
        ]
    assert tokens == 5
    assert float(total) == pytest.approx(sum(each), rel=1e-5)


@pytest.mark.parametrize("kind", FAMILIES)
def test_accumulation_gives_the_same_gradient(folders: dict[str, Path], tmp_path: Path, kind: str) -> None:
    made = session(folders, kind, lora=None) if kind == "causal" else session(folders, kind)
    rows = tiny_text.rows(made, TASK)
    grads = []
    with made.start(tiny_text.fit(tmp_path)) as model:
        for size in (3, 1):
            model.zero_grad()
            made._device_batch = size
            split = made.split(rows)
            assert len(split) == 3 // size and sorted(map(id, rows)) == sorted(id(r) for part in split for r in part)
            parts = [made.loss(model)(part) for part in split]
            (sum(p.sum() for p, _ in parts) / sum(n for _, n in parts)).backward()
            grads.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
    assert all(torch.allclose(grads[0][n], grads[1][n], atol=1e-6) for n in grads[0])


def test_draws_are_trained_at_once_only_where_that_changes_nothing(folders: dict[str, Path]) -> None:
    made = session(folders, "causal")
    made._device_batch = 3 * made._train.batch_size
    assert made.together == 1, "on a CPU nothing is gained"
    made.device = torch.device("cuda")
    assert made.together == 3
    made._gradient_checkpointing = True  # the second forward would draw another dropout
    assert made.together == 1


def test_only_adapters_get_a_gradient(folders: dict[str, Path], tmp_path: Path) -> None:
    made = session(folders, "causal")
    before = {n: p.clone() for n, p in made._backbone().named_parameters()}
    with made.start(tiny_text.fit(tmp_path)) as model:
        total, _ = made.loss(model)(tiny_text.rows(made, TASK))
        total.sum().backward()
        touched = {n for n, p in model.named_parameters() if p.grad is not None}
        learned = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert touched and all("lora_" in n for n in touched)
    # B starts at zero, so at the first step only B's gradient differs from zero: for both layers of both targets.
    assert learned == {n for n in touched if "lora_B" in n} and len(learned) == 4
    assert all(torch.equal(before[n], p) for n, p in made._backbone().named_parameters())


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_draw_leaves_no_trace_on_the_next(folders: dict[str, Path], tmp_path: Path, kind: str) -> None:
    busy, fresh = session(folders, kind), session(folders, kind)
    busy.fit(TASK, tiny_text.fit(tmp_path / "1", seed=1))
    first = list(busy.decode(TASK, tmp_path / "1" / "model"))
    busy.fit(TASK, tiny_text.fit(tmp_path / "2", seed=2))
    fresh.fit(TASK, tiny_text.fit(tmp_path / "3", seed=2))
    assert same(tmp_path / "2" / "model", tmp_path / "3" / "model")
    assert not same(tmp_path / "1" / "model", tmp_path / "2" / "model")
    assert list(fresh.decode(TASK, tmp_path / "1" / "model")) == first


def test_a_model_folder_names_no_place_and_needs_no_pickle(folders: dict[str, Path], tmp_path: Path) -> None:
    session(folders, "causal").fit(TASK, tiny_text.fit(tmp_path))
    files = {f.name for f in (tmp_path / "model").iterdir()}
    assert files == {"adapter_config.json", "adapter_model.safetensors"}
    assert str(folders["causal"].parent) not in (tmp_path / "model" / "adapter_config.json").read_text()


@pytest.mark.parametrize("kind", FAMILIES)
def test_training_goes_on_from_a_run(folders: dict[str, Path], tmp_path: Path, kind: str) -> None:
    made = session(folders, kind, batch_size=3)
    losses: list[float] = []
    made.fit(TASK, tiny_text.fit(tmp_path / "1", log=lambda step, loss, lr: losses.append(loss)))
    start = tmp_path / "1" / "model"
    made.fit(TASK, tiny_text.fit(tmp_path / "2", init=start, log=lambda step, loss, lr: losses.append(loss)))
    assert len(losses) == 8
    assert losses[0] > losses[3] > losses[4] > losses[7]


def test_an_adapter_of_another_shape_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    session(folders, "causal").fit(TASK, tiny_text.fit(tmp_path / "1"))
    other = session(folders, "causal", lora={**LORA, "r": 2})
    with pytest.raises(ConfigError, match="adapter"):
        other.fit(TASK, tiny_text.fit(tmp_path / "2", init=tmp_path / "1" / "model"))


@pytest.mark.parametrize("kind", FAMILIES)
def test_an_empty_support_is_refused(folders: dict[str, Path], tmp_path: Path, kind: str) -> None:
    with pytest.raises(ConfigError, match="support has none"):
        session(folders, kind).fit(Task(1, tuple(TYPES), (), SUPPORT), tiny_text.fit(tmp_path))


def test_a_query_never_shows_its_entities(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = session(folders, "causal", epochs=1)
    made.fit(TASK, tiny_text.fit(tmp_path))
    seen: list[Example] = []
    monkeypatch.setattr(type(made), "prompt", lambda self, example: seen.append(example) or (1, 2, 3))
    list(made.decode(TASK, tmp_path / "model"))
    assert [example.target for example in seen] == ["."] * len(SUPPORT)


def test_chat_wraps_the_turns_and_learns_the_end_of_one(folders: dict[str, Path], tmp_path: Path) -> None:
    plain = session(folders, "causal")
    with pytest.raises(ConfigError, match="chat template"):
        session(folders, "causal", template="chat")
    plain.tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role + ' ' + m.content + ' </s> ' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant ' }}{% endif %}"
    )
    plain.tokenizer.save_pretrained(tmp_path)
    made = causal.load(tiny_text.job(tmp_path, "causal", TYPES, options("causal", template="chat")))
    example = Example("anna", "anna is a person.")
    assert made.tokenizer.decode(made.prompt(example)).split() == ["<unk>", "anna", "</s>", "<unk>"]
    (row,) = made.rows([example])
    learned = [i for i, yes in zip(row.ids, row.learned, strict=True) if yes]
    assert made.tokenizer.decode(learned).split() == ["anna", "is", "a", "person.", "</s>"]
    assert made._dialogue.end == 1


def test_a_long_prompt_keeps_its_end_in_causal_and_its_beginning_in_seq2seq(folders: dict[str, Path]) -> None:
    example = Example("anna " * 30 + "york", "anna")
    short = session(folders, "causal", prompt_length=16).prompt(example)
    assert len(short) == 16 and short[-2:] == session(folders, "causal").prompt(example)[-2:]
    short = session(folders, "seq2seq", source_length=16).prompt(example)
    assert len(short) == 16 and len(set(short[:-1])) == 1 and short[-1] == 1


CHILD = """
import os, signal, sys
from pathlib import Path
import test_text, tiny_text, torch
from fewtable.families import _text
torch.set_num_threads(1)
kind, folder, work = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
_text.SAVE_EVERY = 0.0
def log(step, **values):
    if step == 5:
        os.kill(os.getpid(), signal.SIGKILL)
test_text.session({kind: folder}, kind).fit(test_text.TASK, tiny_text.fit(work, log=log))
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", FAMILIES)
def test_a_killed_training_ends_with_the_same_weights(folders: dict[str, Path], tmp_path: Path, kind: str) -> None:
    torch.set_num_threads(1)
    session(folders, kind).fit(TASK, tiny_text.fit(tmp_path / "whole"))
    command = [sys.executable, "-c", CHILD, kind, str(folders[kind]), str(tmp_path / "killed")]
    killed = subprocess.run(command, cwd=HERE, check=False, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not list((tmp_path / "killed" / "model").glob("*.safetensors"))
    steps: list[int] = []
    (tmp_path / "killed" / "model").rmdir()
    again = tiny_text.fit(tmp_path / "killed", log=lambda step, **values: steps.append(step))
    session(folders, kind).fit(TASK, again)
    assert steps == [5, 6, 7, 8]
    assert same(tmp_path / "whole" / "model", tmp_path / "killed" / "model")


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize("kind", FAMILIES)
def test_50_real_sentences_are_learned(root: Path, mirror: Path, tmp_path: Path, kind: str) -> None:
    spec = Registry(root / "config").dataset("mit-restaurant")
    raw = {name: mirror / str(file.mirror) for name, file in spec.files.items()}
    sentences = tuple(normalise("mit-restaurant", spec, "train", raw)[:50])
    types = {name: t.words for name, t in spec.types.items()}
    tiny_text.build(tmp_path / "backbone", kind, sentences, types, size=128)
    train = {"epochs": 40, "batch_size": 10, "lr": 3e-3, "weight_decay": 0.0, "warmup": 0.05}
    if kind == "causal":
        train["lora"] = None
    job = tiny_text.job(tmp_path / "backbone", kind, types, train, batch_size=25, beams=2)
    made = FAMILIES[kind].load(job)
    task = Task(1, tuple(types), sentences, sentences)
    made.fit(task, tiny_text.fit(tmp_path))
    form = make_format({"name": "instructionner"}, entity_types({n: {"words": w} for n, w in types.items()}))
    right = found = 0
    for sentence, output in zip(sentences, made.decode(task, tmp_path / "model"), strict=True):
        predicted = set(form.parse(sentence.words, output).entities)
        right, found = right + len(predicted & set(sentence.entities)), found + len(predicted)
    gold = sum(len(s.entities) for s in sentences)
    assert 2 * right / (found + gold) >= 0.95


@pytest.mark.gpu
@pytest.mark.parametrize("kind", FAMILIES)
def test_on_a_gpu_the_same_answers_come_twice(folders: dict[str, Path], tmp_path: Path, kind: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    for name in ("1", "2"):
        session(folders, kind).fit(TASK, tiny_text.fit(tmp_path / name))
    assert same(tmp_path / "1" / "model", tmp_path / "2" / "model")


def test_the_seed_alone_decides_a_new_adapter(folders: dict[str, Path]) -> None:
    base = session(folders, "causal")._backbone()
    seen = []
    for seed in (1, 1, 2):
        with adapted(base, {**LORA, "dropout": 0.0}, seed, None) as model:
            seen.append(next(p.detach().clone() for n, p in model.named_parameters() if "lora_A" in n))
    assert torch.equal(seen[0], seen[1]) and not torch.equal(seen[0], seen[2])
