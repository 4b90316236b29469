"""preference: which pairs, the loss by hand, a likelier right answer, and nothing left on the backbone."""

from __future__ import annotations

import logging
import math
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_text
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from test_text import SUPPORT, TASK, TYPES
from transformers import LlamaConfig, LlamaForCausalLM

from fewtable.corpus import Entity, Sentence, Task
from fewtable.errors import ConfigError
from fewtable.families import causal, preference
from fewtable.predictions import entity_types, make_format
from fewtable.random_tokenizers import byte_tokenizer
from fewtable.training.loop import Loop, LoopOptions
from fewtable.training.preference import Preference, Preferred, boundary_pairs, error_pairs, prefer, shifts
from fewtable.training.weights import adapted

LORA = {"r": 4, "alpha": 8, "dropout": 0.05, "targets": ["q_proj", "v_proj"]}
FORM = {"name": "brackets"}
TRAIN = {"epochs": 3, "batch_size": 8, "lr": 1e-3, "weight_decay": 0.0, "lora": LORA, "template": "bare"}
PAIRS = [
    Preferred((3, 4, 5), (6, 7, 1), (6, 1)),
    Preferred((8, 9), (10, 1), (11, 12, 1)),
    Preferred((3, 9, 4, 5, 6), (7, 1), (8, 8, 8, 1)),
]


def form() -> Any:
    return make_format(FORM, entity_types({n: {"words": w} for n, w in TYPES.items()}))


# --- pairs ----------------------------------------------------------------------------------------


@st.composite
def sentences(draw: st.DrawFn) -> Sentence:
    words = draw(st.lists(st.sampled_from(["a", "b", "the"]), min_size=1, max_size=6))
    spans = [(low, high) for low in range(len(words)) for high in range(low + 1, len(words) + 1)]
    chosen = draw(st.sets(st.tuples(st.sampled_from(spans), st.sampled_from(list(TYPES))), min_size=1, max_size=4))
    return Sentence("x-000000", tuple(words), tuple(sorted(Entity(*span, kind) for span, kind in chosen)))


@given(sentences())
def test_a_shifted_boundary_is_another_span_of_the_sentence_one_word_off(sentence: Sentence) -> None:
    for entity in sentence.entities:
        found = shifts(entity, sentence)
        assert len(set(found)) == len(found) <= 7
        gold = {(e.start, e.end) for e in sentence.entities if e.type == entity.type}
        near = {
            (low, high)
            for low in range(len(sentence.words))
            for high in range(low + 1, len(sentence.words) + 1)
            if abs(low - entity.start) <= 1 and abs(high - entity.end) <= 1
        }
        # Both ends outwards, one outwards, both the same way, one inwards: all but both inwards, and what is gold.
        assert set(found) == near - gold - {(entity.start + 1, entity.end - 1)}


@given(sentences(), st.integers(0, 3), st.integers(1, 3))
def test_a_boundary_pair_changes_one_entity_and_nothing_else(sentence: Sentence, count: int, seed: int) -> None:
    pairs = list(boundary_pairs(form(), sentence, count, seed))
    assert pairs == list(boundary_pairs(form(), sentence, count, seed))
    assert len(pairs) <= count * len(sentence.entities)
    asked = list(form().render(sentence))
    for right, wrong in pairs:
        assert right in asked and replace(wrong, target=right.target) == right and wrong.target != right.target
        assert wrong.target.count("<<<") == right.target.count("<<<")


def test_boundaries_of_the_papers_kind() -> None:
    sentence = Sentence("x-000001", ("see", "CTV", "Network", "when"), (Entity(1, 3, "per"),))
    assert shifts(sentence.entities[0], sentence) == [(0, 3), (2, 3), (1, 2), (1, 4), (0, 2), (2, 4), (0, 4)]
    pairs = list(boundary_pairs(form(), sentence, 7, 1))
    assert {right.target for right, _ in pairs} == {"The entities I extracted for you are <<< CTV Network >>>"}
    assert {wrong.target.removeprefix("The entities I extracted for you are ") for _, wrong in pairs} == {
        "<<< see CTV Network >>>", "<<< Network >>>", "<<< CTV >>>", "<<< CTV Network when >>>", "<<< see CTV >>>",
        "<<< Network when >>>", "<<< see CTV Network when >>>",
    }  # fmt: skip
    assert len(list(boundary_pairs(form(), sentence, 2, 1))) == 2
    drawn = {tuple(w.target for _, w in boundary_pairs(form(), sentence, 2, seed)) for seed in range(9)}
    assert len(drawn) > 1


def test_a_boundary_that_spells_the_same_answer_makes_no_pair() -> None:
    same = Sentence("x-000002", ("the", "the"), (Entity(0, 1, "per"),))
    assert [w.target[-14:] for _, w in boundary_pairs(form(), same, 7, 1)] == ["<<< the the >>>"[-14:]]
    alone = Sentence("x-000003", ("anna",), (Entity(0, 1, "per"),))
    assert list(boundary_pairs(form(), alone, 2, 1)) == []


def test_an_answer_that_gives_other_entities_is_an_error() -> None:
    """Absent types answered, wrong spans and what cannot be read; not what is written otherwise and reads the same."""
    sentence = SUPPORT[0]
    right = [example.target for example in form().render(sentence)]
    lead = "The entities I extracted for you are"
    assert list(error_pairs(form(), sentence, right)) == []
    assert list(error_pairs(form(), sentence, [f"{lead} <<<anna>>>", right[1]])) == []
    wrong = [f"{lead} <<< anna saw >>>", f"{lead} <<< new york >>> <<< anna >>>"]
    pairs = list(error_pairs(form(), sentence, wrong))
    assert [(one.target, other.target) for one, other in pairs] == list(zip(right, wrong, strict=True))
    ((one, other),) = error_pairs(form(), SUPPORT[1], [f"{lead} <<< she >>>", f"{lead} <<< >>>"])
    assert (one.target, other.target) == (f"{lead} <<< >>>", f"{lead} <<< she >>>")
    assert list(error_pairs(form(), sentence, [None, wrong[1]])) == pairs[1:]


# --- the loss ---------------------------------------------------------------------------------------


def llama() -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, attn_implementation="eager", initializer_range=0.2,
    )  # fmt: skip
    return LlamaForCausalLM(config).requires_grad_(False).eval()


def run(
    base: Any, work: Path, steps: int, *, lr: float = 1e-2, beta: float = 0.5, less: bool = False
) -> tuple[list[dict[str, float]], dict[str, torch.Tensor], list[float]]:
    """Train an adapter that does something already; return the log, the adapter and the reference's log-probs."""
    seen: list[dict[str, float]] = []
    options = LoopOptions(
        epochs=steps, batch_size=3, lr=lr, weight_decay=0.0, warmup=0.0, schedule="constant", clip=None
    )
    loop = Loop(options, 5, lambda step, **values: seen.append({"step": step, **values}), work, 1)
    with adapted(base, LORA, 1, None) as model:
        torch.manual_seed(4)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1)
        reference = log_probs(model)
        if less:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        prefer(model, PAIRS, Preference(beta=beta, sft=0.2), loop, byte_tokenizer())
        weights = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
        final = log_probs(model)
    return seen, weights, [*reference, *final]


def log_probs(model: Any) -> list[float]:
    """Sums over the answers' tokens: each pair's chosen, then its rejected."""
    found = []
    model.eval()
    for pair in PAIRS:
        for answer in (pair.chosen, pair.rejected):
            ids = torch.tensor([pair.prompt + answer])
            with torch.no_grad():
                scores = model(input_ids=ids).logits[0].log_softmax(-1)
            start = len(pair.prompt)
            found.append(sum(float(scores[start - 1 + n, token]) for n, token in enumerate(answer)))
    return found


def by_hand(reference: list[float], now: list[float], beta: float) -> tuple[float, float]:
    """Return the loss of all pairs and the mean margin."""
    margins = [beta * ((now[n] - reference[n]) - (now[n + 1] - reference[n + 1])) for n in range(0, len(reference), 2)]
    dpo = sum(math.log(1 + math.exp(-m)) for m in margins) / len(margins)
    tokens = sum(len(pair.chosen) for pair in PAIRS)
    return dpo - 0.2 * sum(now[::2]) / tokens, sum(margins) / len(margins)


def test_the_loss_is_the_one_by_hand(tmp_path: Path) -> None:
    """The first step's is log 2 + 0.2 of the cross-entropy; the second's is that of the adapter after one step."""
    base = llama()
    first, _, probs = run(base, tmp_path, 1)
    reference, after = probs[:6], probs[6:]
    assert first[0]["loss"] == pytest.approx(by_hand(reference, reference, 0.5)[0], rel=1e-5)
    sft = -sum(reference[::2]) / sum(len(pair.chosen) for pair in PAIRS)
    assert first[0]["loss"] == pytest.approx(math.log(2) + 0.2 * sft, rel=1e-5)
    assert first[0]["margin"] == 0.0
    second, _, _ = run(base, tmp_path, 2)
    loss, margin = by_hand(reference, after, 0.5)
    assert abs(margin) > 0.01
    assert (second[1]["loss"], second[1]["margin"]) == pytest.approx((loss, margin), rel=1e-4)
    assert [entry["step"] for entry in second] == [1, 2] and {entry["lr"] for entry in second} == {1e-2}


def test_a_few_steps_make_the_chosen_answer_likelier(tmp_path: Path) -> None:
    seen, _, probs = run(llama(), tmp_path, 8)
    margins = [entry["margin"] for entry in seen]
    assert margins[-1] > margins[1] > 0 and seen[-1]["loss"] < seen[0]["loss"]
    assert by_hand(probs[:6], probs[6:], 0.5)[1] > margins[-1] * 0.9


def test_checkpointed_activations_give_the_same_adapter(tmp_path: Path) -> None:
    base = llama()
    one, other = run(base, tmp_path, 2)[1], run(base, tmp_path, 2, less=True)[1]
    assert all(torch.allclose(one[name], other[name], atol=1e-6) for name in one)


def test_nothing_of_it_stays_on_the_backbone(tmp_path: Path) -> None:
    base = llama()
    before = {name: value.clone() for name, value in base.state_dict().items()}
    own, hooks = set(vars(base)), [len(m._forward_hooks) for m in base.modules()]
    configs = base.config.to_dict(), base.generation_config.to_dict()
    once = run(base, tmp_path, 2)
    again = run(base, tmp_path, 2)
    assert once[0] == again[0] and all(torch.equal(once[1][name], again[1][name]) for name in once[1])
    assert all(torch.equal(before[name], value) for name, value in base.state_dict().items())
    assert hooks == [len(m._forward_hooks) for m in base.modules()]
    assert (base.config.to_dict(), base.generation_config.to_dict()) == configs
    assert "forward" not in vars(base) and set(vars(base)) - own <= {"model_tags", "peft_config"}


def test_a_loss_that_is_not_finite_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the loss is") as caught:
        run(llama(), tmp_path, 4, lr=1e30)
    assert caught.value.fix == "lower train.lr"


# --- the family -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_text.build(tmp_path_factory.mktemp("tiny") / "llama", "causal", SUPPORT, TYPES, form=FORM)


@pytest.fixture(scope="module")
def tuned(backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model folder of a fine-tuning."""
    work = tmp_path_factory.mktemp("tuned")
    train = {**TRAIN, "epochs": 2, "lr": 1e-2}
    causal.load(tiny_text.job(backbone, "causal", TYPES, train, form=FORM)).fit(TASK, tiny_text.fit(work))
    return work / "model"


def load(backbone: Path, **more: Any) -> Any:
    train = {**TRAIN, "answers": {"max_new_tokens": 8}, **more}
    return preference.load(tiny_text.job(backbone, "preference", TYPES, train, form=FORM))


def adapter(folder: Path) -> bytes:
    return (folder / "model" / "adapter_model.safetensors").read_bytes()


def test_a_draw_gives_the_same_bytes_and_leaves_no_trace_on_the_next(
    backbone: Path, tuned: Path, tmp_path: Path
) -> None:
    busy, fresh = load(backbone), load(backbone)
    seen: list[dict[str, float]] = []
    log = lambda step, **values: seen.append({"step": step, **values})  # noqa: E731
    busy.fit(TASK, tiny_text.fit(tmp_path / "1", 1, tuned, log))
    decoded = list(busy.decode(TASK, tmp_path / "1" / "model"))
    busy.fit(TASK, tiny_text.fit(tmp_path / "2", 2, tuned))
    fresh.fit(TASK, tiny_text.fit(tmp_path / "3", 2, tuned))
    fresh.fit(TASK, tiny_text.fit(tmp_path / "4", 1, tuned))
    assert adapter(tmp_path / "2") == adapter(tmp_path / "3") != adapter(tmp_path / "1") == adapter(tmp_path / "4")
    assert list(fresh.decode(TASK, tmp_path / "1" / "model")) == decoded
    files = {f.name for f in (tmp_path / "1" / "model").iterdir()}
    assert files == {"adapter_config.json", "adapter_model.safetensors"}
    assert seen[0]["margin"] == 0.0 and seen[-1]["margin"] > 0
    assert seen[0].keys() == {"step", "loss", "lr", "margin"}
    trained, before = (
        load_file(tmp_path / "1" / "model" / "adapter_model.safetensors"),
        load_file(tuned / "adapter_model.safetensors"),
    )
    assert trained.keys() == before.keys() and all(not torch.equal(trained[k], before[k]) for k in before)


def test_the_pairs_are_the_tokens_of_the_fine_tuning(backbone: Path, tuned: Path, tmp_path: Path) -> None:
    made = load(backbone)
    pairs = made._pairs(made._format(TASK), TASK, tiny_text.fit(tmp_path, 1, tuned))
    rows = {row.ids for row in made.rows(form().examples(SUPPORT, 1))}
    assert pairs and {pair.prompt + pair.chosen for pair in pairs} <= rows
    assert len(set(pairs)) == len(pairs) and all(pair.chosen[-1] == pair.rejected[-1] == 1 for pair in pairs)
    spelled = made.tokenizer.decode(pairs[0].chosen)
    assert spelled.startswith("The entities I extracted for you are <<<")
    learned = load(backbone)
    learned.spec = learned.spec.model_copy(update={"format": {**FORM, "skip_lead": True}})
    for pair in learned._pairs(learned._format(TASK), TASK, tiny_text.fit(tmp_path / "2", 1, tuned)):
        assert "<<<" in learned.tokenizer.decode(pair.prompt[-1:])


@pytest.mark.parametrize(("negatives", "count"), [("all", 9), ("none", 4), (1.0, 6)])
def test_errors_are_looked_for_where_the_fine_tuning_asked(
    backbone: Path, tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, negatives: Any, count: int
) -> None:
    """Pooled: present types alone. A type that the support does not mention: only where all are asked."""
    types = {**TYPES, "org": "new"}
    form = {**FORM, "negatives": negatives}
    made = preference.load(tiny_text.job(backbone, "preference", types, {**TRAIN, "shifts": 0}, form=form))
    task = replace(TASK, types=tuple(types))
    asked: list[list[str]] = []

    def answers(_: Any, groups: Any, *__: Any) -> list[list[str]]:
        texts = [[made.tokenizer.decode(ids) for ids in group] for group in groups]
        asked.extend([re.findall(r"extract (\w+) entities", text)[0] for text in group] for group in texts)
        return [["The entities I extracted for you are <<< saw >>> <<< left >>> <<< and >>>"] * len(g) for g in groups]

    monkeypatch.setattr(made, "answers", answers)
    pairs = made._pairs(made._format(task), task, tiny_text.fit(tmp_path, 1, tuned))
    shown = list(types.values())
    assert (
        asked
        == {
            "all": [shown, shown, shown],
            "none": [shown[:2], [], shown[:2]],
            1.0: [shown[:2], shown[:2], shown[:2]],
        }[negatives]
    )
    assert len(pairs) == count


@pytest.mark.parametrize("copied", [False, True])
def test_a_sentence_without_a_question_is_answered_nothing(
    backbone: Path, tuned: Path, tmp_path: Path, *, copied: bool
) -> None:
    train = {**TRAIN, "answers": {"max_new_tokens": 4, "copied": copied}}
    job = tiny_text.job(backbone, "preference", TYPES, train, form={**FORM, "negatives": "none"})
    made = preference.load(job)
    answers = made._answered(made._format(TASK), TASK, tiny_text.fit(tmp_path, 1, tuned))
    assert [[a is not None for a in row] for row in answers] == [[True, True], [False, False], [True, True]]


def test_without_a_pair_the_adapter_stays(
    backbone: Path, tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One word, and a model that makes no error."""
    task = Task(1, tuple(TYPES), (Sentence("train-000001", ("anna",), (Entity(0, 1, "per"),)),), ())
    made = load(backbone)
    right = [[example.target for example in form().render(task.support[0])]]
    monkeypatch.setattr(type(made), "answers", lambda *_: right)
    with caplog.at_level(logging.WARNING):
        made.fit(task, tiny_text.fit(tmp_path, 1, tuned))
    assert "no pair of answers" in caplog.text
    assert adapter(tmp_path) == (tuned / "adapter_model.safetensors").read_bytes()


def test_what_cannot_be_preferred_is_said(
    backbone: Path, tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="goes on from a fine-tuned adapter"):
        load(backbone).fit(TASK, tiny_text.fit(tmp_path / "1"))
    with pytest.raises(ConfigError, match=r"set train\.lora alike"):
        load(backbone, lora={**LORA, "r": 2}).fit(TASK, tiny_text.fit(tmp_path / "2", 1, tuned))
    one = preference.load(tiny_text.job(backbone, "preference", TYPES, {**TRAIN, "template": "plain"}))
    with pytest.raises(ConfigError, match="each is about one type"):
        one.fit(TASK, tiny_text.fit(tmp_path / "3", 1, tuned))
    monkeypatch.setitem(sys.modules, "trl.trainer.dpo_trainer", None)
    with pytest.raises(ConfigError, match="'trl' is not installed") as caught:
        load(backbone).fit(TASK, tiny_text.fit(tmp_path / "4", 1, tuned))
    assert caught.value.fix == "pip install 'fewtable[preference]'"
