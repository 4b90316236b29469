"""template: what it learns, its loss, that its search equals scoring all, resume, and that it learns real sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import tiny_text
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BartConfig, BartForConditionalGeneration, PreTrainedTokenizerFast

from fewtable.corpus import Entity, Sentence, Task
from fewtable.data.normalise import normalise
from fewtable.decoding import shared_prefix
from fewtable.decoding import template as template_search
from fewtable.decoding.template import resolve
from fewtable.errors import ConfigError
from fewtable.families import template
from fewtable.families.base import Job
from fewtable.registry import Registry
from fewtable.specs import RunSpec
from fewtable.training.sft import Pair, seq2seq_loss
from fewtable.training.template import labelled_spans, spans

TYPES = {"per": "person", "org": "organization", "name": "restaurant name", "city": "restaurant city"}
SUPPORT = (
    Sentence("train-000000", ("anna", "saw", "new", "york"), (Entity(0, 1, "per"), Entity(2, 4, "name"))),
    Sentence("train-000001", ("she", "left")),
    Sentence("train-000002", ("york", "and", "anna"), (Entity(0, 1, "org"), Entity(2, 3, "per"))),
)
TASK = Task(1, tuple(TYPES), SUPPORT, SUPPORT)
TRAIN = {"epochs": 3, "batch_size": 4, "lr": 1e-3, "weight_decay": 0.0}
FRAME = ("is", "a", "an", "not", "named", "entity", ".")


def build(folder: Path, sentences: Sequence[Sentence], types: dict[str, str], size: int = 32) -> Path:
    """Write a BART of two layers whose vocabulary is that of the sentences and their statements."""
    words = {w for s in sentences for w in s.words} | {w for t in types.values() for w in t.split()} | set(FRAME)
    vocabulary = {w: i for i, w in enumerate(["<s>", "<pad>", "</s>", "<unk>", *sorted(words)])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    ends = [(t, vocabulary[t]) for t in ("<s>", "</s>")]
    inner.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = BartConfig(
        vocab_size=len(vocabulary), d_model=size, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=2 * size, decoder_ffn_dim=2 * size, max_position_embeddings=128,
        dropout=0.0, init_std=0.1, decoder_start_token_id=2,
    )  # fmt: skip
    model = BartForConditionalGeneration(config)
    model.final_logits_bias.normal_()
    model.save_pretrained(folder)
    return folder


def session(folder: Path, types: dict[str, str] = TYPES, train: Any = None, **decode: Any) -> Any:
    spec = RunSpec(
        dataset="toy", setting="5-shot", method="m", backbone="tiny", draws=(1,),
        types={n: {"words": w} for n, w in types.items()}, family="template", format={"name": "template"},
        train={**TRAIN, **(train or {})}, dtype="float32", decoding=decode, code="",
    )  # fmt: skip
    return template.load(Job(spec, folder, device_batch=32))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("bart"), SUPPORT, TYPES)


def restaurants(root: Path, mirror: Path, split: str, count: int) -> tuple[tuple[Sentence, ...], dict[str, str]]:
    spec = Registry(root / "config").dataset("mit-restaurant")
    raw = {name: mirror / str(file.mirror) for name, file in spec.files.items()}
    types = {name: t.words for name, t in spec.types.items()}
    return tuple(normalise("mit-restaurant", spec, split, raw)[:count]), types


def plain(made: Any, model: Any, task: Task, words: tuple[str, ...]) -> dict[tuple[int, int], list[float]]:
    """Score every statement of a sentence on its own through transformers' forward."""
    form = made._format(task)
    kinds = [None, *(name for name in made._spec.types if name in set(task.types))]
    found = {}
    for start, end in spans(len(words), 8):
        found[start, end] = []
        for kind in kinds:
            target = made._ended(made._pieces((*words[start:end], *form.tail(kind))))
            source = torch.tensor([made.source(made._pieces(words))])
            with torch.no_grad():
                logits = model(input_ids=source, labels=torch.tensor([target])).logits[0]
            chosen = logits.log_softmax(-1)[torch.arange(len(target)), torch.tensor(target)]
            size = len(target) - (3 if made._decode.code_cut else 0)
            found[start, end].append(float(chosen[:size].sum()))
    return found


def assert_equal_to_plain(made: Any, model: Any, sentences: Sequence[Sentence], task: Task) -> int:
    """The scores of the best statements are those of plain scoring; return how many entities there are."""
    _, tails = made.tails(task)
    pieces = [made._pieces(s.words) for s in sentences]
    texts = [made.text(words, tails) for words in pieces]
    found = list(made.best(model, [made.source(words) for words in pieces], texts, tails))
    entities = 0
    for sentence, candidates in zip(sentences, found, strict=True):
        expected = plain(made, model, task, sentence.words)
        best = {span: max(range(len(row)), key=row.__getitem__) for span, row in expected.items()}
        if not made._decode.per_start:
            assert {(c.start, c.end): c.statement for c in candidates} == best
        for c in candidates:
            assert c.score == pytest.approx(expected[c.start, c.end][c.statement], abs=1e-4)
        whole = [template.Candidate(*span, n, expected[span][n]) for span, n in best.items()]
        rule = made._decode.per_start
        ours = [c[:3] for c in resolve(candidates, rule)]
        assert ours == [c[:3] for c in resolve(whole, rule)]
        entities += len(ours)
    return entities


@pytest.mark.parametrize("decode", [{}, {"per_start": True}, {"code_cut": True}, {"per_start": True, "code_cut": True}])
def test_the_search_equals_scoring_every_statement(folder: Path, decode: dict[str, bool]) -> None:
    made = session(folder, **decode)
    assert assert_equal_to_plain(made, made.model(folder, "float32"), SUPPORT, TASK) > 0


def test_sentences_are_scored_alike_alone_and_together(folder: Path) -> None:
    made, alone = session(folder), session(folder, batch_size=1)
    query = Task(1, TASK.types, (), (*SUPPORT, Sentence("test-000000", ()), Sentence("test-000001", ("york",))))
    outputs = list(made.decode(query, folder))
    assert outputs == list(alone.decode(query, folder))
    assert len(outputs) == 5 and outputs[3] == []


def test_memory_is_bounded_and_the_answers_are_the_same(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many types and a long sentence, as on ATIS."""
    types = {f"t{i}": f"{a} {b}" for i, (a, b) in enumerate(product(("new", "york", "anna", "left"), repeat=2))}
    long = Sentence("test-000000", ("anna", "saw", "new", "york", "and", "left", "york", "and", "she", "saw", "anna"))
    task = Task(1, tuple(types), (), (*SUPPORT, long))
    made = session(build(tmp_path / "bart", SUPPORT, types), types)
    whole = list(made.decode(task, tmp_path / "bart"))
    sizes: list[tuple[int, int, int]] = []
    original = shared_prefix._Plan

    def watched(branches: Any, capacity: int, *rest: Any) -> Any:
        plan = original(branches, capacity, *rest)
        rows = len(branches)
        sizes.append((plan.place.numel(), max(plan.keys.numel(), rows * (len(long.words) + 2)), capacity))
        return plan

    monkeypatch.setattr(shared_prefix, "_Plan", watched)
    assert list(made.decode(task, tmp_path / "bart")) == whole
    assert max(sizes)[0] > 64 and max(keys for _, keys, _ in sizes) > 200 and sizes[0][2] > 150
    sizes.clear()
    monkeypatch.setattr(shared_prefix, "TOKENS", 64)
    monkeypatch.setattr(shared_prefix, "KEYS", 200)
    monkeypatch.setattr(template_search, "SLOTS", 150)
    assert list(made.decode(task, tmp_path / "bart")) == whole
    assert all(limit >= max(column) for limit, column in zip((64, 200, 150), zip(*sizes, strict=True), strict=True))


def test_what_is_learned_is_the_statements_of_entities_and_of_other_spans(folder: Path) -> None:
    made = session(folder)
    rows = made.rows(TASK, 1)
    texts = [(made._tokenizer.decode(r.prompt), made._tokenizer.decode(r.answer)) for r in rows]
    assert texts[:2] == [
        ("<s> anna saw new york </s>", "<s> anna is a person entity . </s>"),
        ("<s> anna saw new york </s>", "<s> new york is a restaurant name entity . </s>"),
    ]
    assert ("<s> york and anna </s>", "<s> york is an organization entity . </s>") in texts
    negatives = [(source, target) for source, target in texts if target.endswith(" is not a named entity . </s>")]
    assert len(negatives) == 3 + 1 + 3 and len(texts) == 4 + len(negatives)
    assert rows == made.rows(TASK, 1) != made.rows(TASK, 2)


def test_negatives_are_never_entities_and_follow_their_ratio() -> None:
    many = [Sentence(f"train-{i:06d}", tuple("abcdefghijkl"), (Entity(i % 10, i % 10 + 2, "x"),)) for i in range(101)]
    drawn = labelled_spans(many, 8, 1.5, 3)
    assert sum(kind is None for found in drawn for *_, kind in found) == 151  # 1.5 each, the half carried over
    assert all(end - start <= 8 for found in drawn for start, end, _ in found)
    assert all(len({(s, e) for s, e, _ in found}) == len(found) for found in drawn)
    counts: dict[tuple[int, int], int] = {}
    for seed in range(3000):
        (found,) = labelled_spans([Sentence("train-000000", tuple("abcd"), (Entity(0, 1, "x"),))], 8, 1.0, seed)
        counts[found[1][:2]] = counts.get(found[1][:2], 0) + 1
    assert len(counts) == 9
    assert sum((n - 3000 / 9) ** 2 / (3000 / 9) for n in counts.values()) < 35  # chi-square, 8 degrees: p < 1e-4
    assert labelled_spans([Sentence("train-000000", ("a",), (Entity(0, 1, "x"),))], 8, 1.5, 1) == [[(0, 1, "x")]]
    assert labelled_spans([Sentence("train-000000", ("a", "b"))], 8, 0, 1) == [[]]


def test_the_loss_is_the_cross_entropy_of_every_token_of_the_statement(folder: Path) -> None:
    model = session(folder).model(folder, "float32")
    rows = [Pair((0, 5, 6, 2), (0, 5, 7, 2)), Pair((0, 8, 2), (0, 8, 9, 10, 2))]
    with torch.no_grad():
        total, tokens = seq2seq_loss(model, 1, autocast=False)(rows)
        expected = 0.0
        for row in rows:
            given = torch.tensor([(2, *row.answer[:-1])])  # </s>, then all but the last token
            logits = model(input_ids=torch.tensor([row.prompt]), decoder_input_ids=given).logits[0]
            for scores, gold in zip(logits.tolist(), row.answer, strict=True):
                expected += math.log(sum(math.exp(x) for x in scores)) - scores[gold]
    assert tokens == 9
    assert float(total) == pytest.approx(expected, rel=1e-5)


def test_every_weight_is_trained(folder: Path, tmp_path: Path) -> None:
    session(folder).fit(TASK, tiny_text.fit(tmp_path))
    before, after = load_file(folder / "model.safetensors"), load_file(tmp_path / "model" / "model.safetensors")
    still = [k for k in before if torch.equal(before[k], after[k]) and "k_proj.bias" not in k]
    assert still == ["final_logits_bias"]  # a buffer; and softmax takes a shift of all keys away


def test_too_long_statements_are_neither_learned_nor_candidates(folder: Path, caplog: Any) -> None:
    made = session(folder, train={"target_length": 10})
    learned = [made._tokenizer.decode(row.answer) for row in made.rows(TASK, 1)]
    assert "<s> new york is a restaurant name entity . </s>" in learned  # ten tokens
    assert session(folder, train={"target_length": 9}).rows(TASK, 1) != made.rows(TASK, 1)
    assert "a statement of 10 tokens is left out" in caplog.text
    _, tails = made.tails(TASK)
    assert made.text([[5], [6, 7], [8]], tails).spans == [(0, 1), (1, 2), (2, 3)]


def test_other_decoders_are_refused(folder: Path, tmp_path: Path) -> None:
    tiny_text.build(tmp_path / "t5", "seq2seq", SUPPORT, TYPES)
    with pytest.raises(ConfigError, match="not by that of 't5'"):
        session(tmp_path / "t5")


def test_an_empty_support_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the support has none"):
        session(folder).fit(Task(1, tuple(TYPES), (), SUPPORT), tiny_text.fit(tmp_path))


def test_a_draw_leaves_no_trace_on_the_next_and_a_run_goes_on_from_another(folder: Path, tmp_path: Path) -> None:
    busy, fresh = session(folder), session(folder)
    losses: list[float] = []
    busy.fit(TASK, tiny_text.fit(tmp_path / "1", seed=1, log=lambda step, loss, lr: losses.append(loss)))
    busy.fit(TASK, tiny_text.fit(tmp_path / "2", seed=2))
    fresh.fit(TASK, tiny_text.fit(tmp_path / "3", seed=2))
    files = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in "123"]
    assert files[1] == files[2] != files[0]
    start = tmp_path / "1" / "model"
    busy.fit(TASK, tiny_text.fit(tmp_path / "4", init=start, log=lambda step, loss, lr: losses.append(loss)))
    assert losses[0] > losses[len(losses) // 2]


class Killed(Exception):
    """Stands for a kill between two steps."""


def test_a_killed_training_ends_with_the_same_weights(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dying(step: int, **values: float) -> None:
        if step == 4:
            raise Killed

    original = template.Loop
    monkeypatch.setattr(template, "Loop", lambda *a: original(*a, save_every=0))
    session(folder).fit(TASK, tiny_text.fit(tmp_path / "whole"))
    with pytest.raises(Killed):
        session(folder).fit(TASK, tiny_text.fit(tmp_path / "cut", log=dying))
    (tmp_path / "cut" / "model").rmdir()
    steps: list[int] = []
    session(folder).fit(TASK, tiny_text.fit(tmp_path / "cut", log=lambda step, **values: steps.append(step)))
    assert steps[0] == 4
    whole, cut = (tmp_path / run / "model" / "model.safetensors" for run in ("whole", "cut"))
    assert whole.read_bytes() == cut.read_bytes()


@pytest.mark.shared
@pytest.mark.slow
def test_50_real_sentences_are_learned_and_the_search_equals_scoring_all(
    root: Path, mirror: Path, tmp_path: Path
) -> None:
    sentences, types = restaurants(root, mirror, "train", 50)
    build(tmp_path / "bart", sentences, types, size=64)
    train = {"epochs": 30, "batch_size": 32, "lr": 4e-3, "warmup": 0.05, "negatives": 12}
    made = session(tmp_path / "bart", types, train)
    task = Task(1, tuple(types), sentences, sentences)
    made.fit(task, tiny_text.fit(tmp_path))
    right = found = 0
    for sentence, output in zip(sentences, made.decode(task, tmp_path / "model"), strict=True):
        predicted = {Entity(*entity) for entity in output}
        right, found = right + len(predicted & set(sentence.entities)), found + len(predicted)
    gold = sum(len(s.entities) for s in sentences)
    assert 2 * right / (found + gold) >= 0.95
    # Every one of the statements of some sentences, through transformers' own forward.
    assert assert_equal_to_plain(made, made.model(tmp_path / "model", "float32"), sentences[:6], task) > 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_the_same_entities_come_twice(folder: Path, tmp_path: Path) -> None:
    for run in ("a", "b"):
        session(folder).fit(TASK, tiny_text.fit(tmp_path / run))
    a, b = (list(session(folder).decode(TASK, tmp_path / run / "model")) for run in ("a", "b"))
    assert a == b
