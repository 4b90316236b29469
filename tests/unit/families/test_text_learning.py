"""What text methods train, conversations by hand among them, and that they learn real sentences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_text
import torch
from safetensors.torch import load_file
from test_text import FAMILIES, SUPPORT, TASK, TYPES
from tiny_encoder import build_bart
from transformers import BartConfig, BartForConditionalGeneration, LlamaConfig, LlamaForCausalLM

from fewtable.corpus import Sentence, Task
from fewtable.data.normalise import normalise
from fewtable.families import _text, causal
from fewtable.predictions import entity_types, make_format
from fewtable.registry import Registry

TOKENS = {"labels": "tokens"}
TRAIN = {"batch_size": 10, "weight_decay": 0.0, "warmup": 0.05}
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@pytest.mark.parametrize(
    ("kind", "form"),
    [("seq2seq", {}), ("seq2seq", TOKENS), ("bart", {}), ("causal", {}), ("causal", TOKENS)],
    ids=["t5", "t5-tokens", "bart", "llama", "llama-tokens"],
)
def test_every_weight_is_trained(tmp_path: Path, kind: str, form: dict[str, Any]) -> None:
    """The rows of the two labels among them; no method but one with adapters leaves a weight as it was."""
    family = "causal" if kind == "causal" else "seq2seq"
    if kind == "bart":
        folder = build_bart(tmp_path / "backbone", [w for s in SUPPORT for w in s.words], 32)
        loud(folder, BartConfig, BartForConditionalGeneration, max_position_embeddings=128)
    else:
        folder = tiny_text.build(tmp_path / "backbone", kind, SUPPORT, TYPES, 32, form)
    saved = []
    for epochs in (0, 3):
        train = {**TRAIN, "epochs": epochs, "lr": 1e-3, **({"lora": None} if family == "causal" else {})}
        made = FAMILIES[family].load(tiny_text.job(folder, family, TYPES, train, form=form))
        made.fit(TASK, tiny_text.fit(tmp_path / str(epochs)))
        saved.append(load_file(tmp_path / str(epochs) / "model" / "model.safetensors"))
    before, after = saved
    still = [k for k in before if torch.equal(before[k], after[k])]
    # A buffer; and softmax takes a shift of all keys away.
    assert [k for k in still if k != "final_logits_bias" and "k_proj.bias" not in k] == []
    (rows,) = (k for k in before if k in ("shared.weight", "model.shared.weight", "model.embed_tokens.weight"))
    labels = slice(len(made._plain), len(made._plain) + len(made.labels))
    assert len(made.labels) == (2 if form else 0)
    assert (before[rows][labels] != after[rows][labels]).any(1).all()


@pytest.fixture
def real(root: Path, mirror: Path) -> tuple[tuple[Sentence, ...], dict[str, str]]:
    """Fifty sentences, and the words of their types."""
    spec = Registry(root / "config").dataset("mit-restaurant")
    raw = {name: mirror / str(file.mirror) for name, file in spec.files.items()}
    return tuple(normalise("mit-restaurant", spec, "train", raw)[:50]), {n: t.words for n, t in spec.types.items()}


def loud(folder: Path, config: Any, model: Any, **options: Any) -> Path:
    """Make the random weights anew, five times as large: adapters learn on frozen ones only then."""
    made = config.from_pretrained(folder, **options)
    torch.manual_seed(0)
    model(made).save_pretrained(folder)
    return folder


def learned(job: Any, sentences: tuple[Sentence, ...], work: Path, times: int = 1) -> float:
    """Return micro F1 on the sentences that were trained on, each so many times in an epoch."""
    made = FAMILIES[job.spec.family].load(job)
    task = Task(1, tuple(job.spec.types), sentences * times, sentences)
    made.fit(task, tiny_text.fit(work))
    form = make_format(job.spec.format, entity_types(job.spec.types))
    right = found = 0
    for sentence, output in zip(sentences, made.decode(task, work / "model"), strict=True):
        predicted = set(form.parse(sentence.words, output).entities)
        right, found = right + len(predicted & set(sentence.entities)), found + len(predicted)
    return 2 * right / (found + sum(len(s.entities) for s in sentences))


@pytest.mark.shared
@pytest.mark.slow
def test_bart_learns_fifty_real_sentences(real: Any, tmp_path: Path) -> None:
    sentences, types = real
    form = make_format({"name": "instructionner"}, entity_types({n: {"words": w} for n, w in types.items()}))
    words = [w for e in form.examples(sentences, 1) for w in f"{e.prompt} {e.target}".split()]
    folder = build_bart(tmp_path / "bart", words)
    loud(folder, BartConfig, BartForConditionalGeneration, init_std=0.1, dropout=0.0, max_position_embeddings=256)
    train = {**TRAIN, "epochs": 30, "lr": 3e-3}
    job = tiny_text.job(folder, "seq2seq", types, train, batch_size=25, beams=2)
    assert learned(job, sentences, tmp_path) >= 0.95


@pytest.mark.shared
@pytest.mark.slow
def test_instructuie_learns_fifty_real_sentences(real: Any, tmp_path: Path) -> None:
    sentences, types = real
    form = {"name": "instructuie"}
    folder = tiny_text.build(tmp_path / "t5", "seq2seq", sentences, types, size=128, form=form)
    job = tiny_text.job(folder, "seq2seq", types, {**TRAIN, "epochs": 30, "lr": 3e-3}, form=form, batch_size=25)
    assert learned(job, sentences, tmp_path) >= 0.95


@pytest.mark.shared
@pytest.mark.slow
def test_adapters_and_label_tokens_learn_fifty_real_sentences(real: Any, tmp_path: Path) -> None:
    """The backbone is random and frozen; the adapters and the rows of the eight labels are all that is trained."""
    sentences, types = real
    folder = tiny_text.build(tmp_path / "llama", "causal", sentences, types, form=TOKENS)
    loud(folder, LlamaConfig, LlamaForCausalLM, initializer_range=0.1)
    lora = {"r": 16, "alpha": 32, "dropout": 0.0, "targets": TARGETS}
    train = {**TRAIN, "epochs": 60, "lr": 5e-3, "lora": lora}
    job = tiny_text.job(folder, "causal", types, train, form=TOKENS, batch_size=25)
    assert learned(job, sentences, tmp_path) >= 0.95


CONVERSATION = {"name": "uniner"}


@pytest.mark.shared
@pytest.mark.slow
def test_conversations_teach_fifty_real_sentences(real: Any, tmp_path: Path) -> None:
    """Asked for one type at a time, as decoding does: each sentence is trained with its questions in eight orders.

    In one order only, so small a model learns the answers in that order, and a question asked first may get another.
    """
    sentences, types = real
    form = {**CONVERSATION, "negatives": "inventory"}
    folder = tiny_text.build(tmp_path / "llama", "causal", sentences, types, size=96, form=form)
    loud(folder, LlamaConfig, LlamaForCausalLM, initializer_range=0.1)
    train = {**TRAIN, "epochs": 15, "lr": 3e-3, "lora": None, "template": "ie-as-qa"}
    job = tiny_text.job(folder, "causal", types, train, form=form, batch_size=64)
    assert learned(job, sentences, tmp_path, times=8) >= 0.95


def conversing(folder: Path, types: dict[str, str], **train: Any) -> Any:
    """A job that trains all weights on UniversalNER's conversations."""
    options = {**TRAIN, "lora": None, "template": "ie-as-qa", **train}
    return tiny_text.job(folder, "causal", types, options, form=CONVERSATION)


def test_a_conversation_learns_its_answers_and_their_ends_alone(tmp_path: Path) -> None:
    """Two questions: the loss by hand from the logits of the whole conversation, read as one text."""
    folder = tiny_text.build(tmp_path / "llama", "causal", SUPPORT, TYPES, form=CONVERSATION)
    made = causal.load(conversing(folder, TYPES, epochs=1, lr=1e-3))
    words = (
        "A virtual assistant answers questions from a user based on the provided text. "
        "USER: Text: anna saw new york ASSISTANT: I've read this text.</s>"
        'USER: What describes person in the text? ASSISTANT: ["anna"]</s>'
        'USER: What describes location in the text? ASSISTANT: ["new york"]</s>'
    )
    form = make_format(CONVERSATION, entity_types({n: {"words": w} for n, w in TYPES.items()}))
    (row,) = made.rows(list(form.examples(SUPPORT[:1], 3)))
    spelled = made.tokenizer.convert_ids_to_tokens(list(row.ids))
    asked = " ".join(spelled)
    first, second = (asked.index(kind) for kind in ("person", "location"))
    turns = words.replace("</s>", " </s> ").split()
    assert sorted(spelled) == sorted(turns) and (spelled == turns) == (first < second)
    learned = [token for token, yes in zip(spelled, row.learned, strict=True) if yes]
    answers = [['["anna"]', "</s>"], ['["new', 'york"]', "</s>"]]
    assert learned == [token for answer in (answers if first < second else answers[::-1]) for token in answer]
    with made.start(tiny_text.fit(tmp_path)) as model:
        total, tokens = made.loss(model)([row])
    with torch.no_grad():
        scores = model(input_ids=torch.tensor([row.ids])).logits[0].log_softmax(-1)
    places = [place for place, yes in enumerate(row.learned) if yes]
    assert tokens == len(places) == 5
    expected = -sum(float(scores[place - 1, row.ids[place]]) for place in places)
    assert float(total.detach()) == pytest.approx(expected, rel=1e-5)


def test_a_killed_training_on_conversations_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny_text.build(tmp_path / "llama", "causal", SUPPORT, TYPES, form=CONVERSATION)
    monkeypatch.setattr(_text, "SAVE_EVERY", 0.0)

    class Killed(Exception):
        pass

    def dying(step: int, **_: float) -> None:
        if step == 3:
            raise Killed

    def train(work: Path, log: Any = None) -> None:
        causal.load(conversing(folder, TYPES, epochs=6, lr=1e-3)).fit(TASK, tiny_text.fit(work, log=log))

    train(tmp_path / "whole")
    with pytest.raises(Killed):
        train(tmp_path / "killed", dying)
    (tmp_path / "killed" / "model").rmdir()
    steps: list[int] = []
    train(tmp_path / "killed", lambda step, **_: steps.append(step))
    assert steps == [3, 4, 5, 6]
    one, other = (tmp_path / name / "model" / "model.safetensors" for name in ("whole", "killed"))
    assert one.read_bytes() == other.read_bytes()
