"""Fine-tuning with the attention contrast: logged, learns real sentences, goes on after a kill, refused elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_text
from test_text import SUPPORT, TASK, TYPES
from test_text_learning import TARGETS, learned, loud, real
from transformers import LlamaConfig, LlamaForCausalLM

from fewtable.corpus import Sentence, Task
from fewtable.errors import ConfigError
from fewtable.families import _text, causal
from fewtable.registry import Registry
from fewtable.resolve import Run, resolve
from fewtable.specs import UserConfig

__all__ = ["real"]

FORM = {"name": "brackets"}
LORA = {"r": 8, "alpha": 16, "dropout": 0.05, "targets": TARGETS}
TRAIN = {"epochs": 3, "batch_size": 4, "lr": 1e-3, "lora": LORA, "template": "bare", "contrast": {"weight": 0.5}}
WAYS = {
    "obp-llm": {"contrast": {"weight": 0.01}},
    "cllmfs": {
        "contrast": {
            "features": "hidden", "form": "infonce", "positives": "ends", "neighbours": 2, "temperature": 0.1,
            "per_entity": True,
        },
        "noise": 5.0,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_text.build(tmp_path_factory.mktemp("tiny") / "llama", "causal", SUPPORT, TYPES, form=FORM)


def fitted(backbone: Path, work: Path, log: Any = None, task: Task = TASK, **more: Any) -> bytes:
    job = tiny_text.job(backbone, "causal", TYPES, {**TRAIN, **more}, form=FORM)
    causal.load(job).fit(task, tiny_text.fit(work, log=log))
    return (work / "model" / "adapter_model.safetensors").read_bytes()


def test_the_log_has_the_contrast_as_its_own_column(backbone: Path, tmp_path: Path) -> None:
    seen: list[dict[str, float]] = []
    with_it = fitted(backbone, tmp_path / "1", lambda step, **values: seen.append(values), epochs=8, lr=1e-2)
    assert all(entry.keys() == {"loss", "lr", "contrast"} for entry in seen)
    assert seen[-1]["contrast"] < min(entry["contrast"] for entry in seen[:2])
    alone: list[dict[str, float]] = []
    without = fitted(backbone, tmp_path / "2", lambda step, **v: alone.append(v), epochs=8, lr=1e-2, contrast=None)
    assert with_it != without and all(entry.keys() == {"loss", "lr"} for entry in alone)
    # One batch an epoch holds all: its loss is the sum of the two before any step.
    assert seen[0]["loss"] > alone[0]["loss"]


def test_sentences_without_entities_train_as_if_there_were_no_contrast(backbone: Path, tmp_path: Path) -> None:
    none = Task(1, tuple(TYPES), tuple(Sentence(s.id, s.words) for s in SUPPORT), ())
    seen: list[float] = []
    one = fitted(backbone, tmp_path / "1", lambda step, **values: seen.append(values["contrast"]), none)
    assert one == fitted(backbone, tmp_path / "2", task=none, contrast=None) and set(seen) == {0.0}


@pytest.mark.parametrize("way", WAYS)
def test_a_killed_training_goes_on_to_the_same_bytes(
    backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(_text, "SAVE_EVERY", 0.0)

    class Killed(Exception):
        pass

    def dying(step: int, **_: float) -> None:
        if step == 3:
            raise Killed

    whole: list[Any] = []
    one = fitted(backbone, tmp_path / "whole", lambda step, **v: whole.append((step, v)), **WAYS[way])
    with pytest.raises(Killed):
        fitted(backbone, tmp_path / "killed", dying, **WAYS[way])
    (tmp_path / "killed" / "model").rmdir()
    rest: list[Any] = []
    assert fitted(backbone, tmp_path / "killed", lambda step, **v: rest.append((step, v)), **WAYS[way]) == one
    assert rest == whole[2:]


def test_a_format_without_marks_has_no_contrast(tmp_path: Path) -> None:
    folder = tiny_text.build(tmp_path / "llama", "causal", SUPPORT, TYPES)
    job = tiny_text.job(folder, "causal", TYPES, {**TRAIN, "template": "plain"})
    with pytest.raises(ConfigError, match="does not say where types and entities stand") as caught:
        causal.load(job).fit(TASK, tiny_text.fit(tmp_path))
    assert caught.value.where == "train.contrast"


def test_the_ladder_differs_in_one_thing_a_step(root: Path) -> None:
    """Each ablation is the row above it but for what it names."""
    registry = Registry(root / "config")
    base, pre, sft, whole, without = (
        registry.method(n) for n in ("llama-sft", "llama-pre-sft", "obp-llm-sft", "obp-llm", "obp-llm-no-contrast")
    )
    same = {"family", "format", "train", "decode", "when"}
    assert base.model_dump(include=same) == pre.model_dump(include=same)
    assert (base.init, pre.init and pre.init.method, pre.init and pre.init.source) == (None, "obp-llm-source", True)
    assert sft.init == pre.init
    assert {k: v for k, v in sft.train.items() if k != "contrast"} == pre.train
    assert sft.model_dump(include=same - {"train"}) == pre.model_dump(include=same - {"train"})
    assert whole.model_dump(include=same) == without.model_dump(include=same)
    assert whole.init and without.init
    assert (whole.init.method, without.init.method) == ("obp-llm-sft", "llama-pre-sft")
    assert not whole.init.source and not without.init.source
    assert whole.train["answers"] == whole.decode == sft.decode
    assert whole.train["lora"] == sft.train["lora"] == registry.method("obp-llm-source").train["lora"]


@pytest.mark.parametrize("backbone", ["llama-3.1-8b", "smollm2-135m"])
@pytest.mark.parametrize(
    ("setting", "large", "small"), [("5-way-1-shot-20", "all", 1.0), ("5-way-1-shot-pooled", "none", "none")]
)
def test_the_stages_on_the_target_ask_about_the_same_types(
    root: Path, backbone: str, setting: str, large: Any, small: Any
) -> None:
    registry = Registry(root / "config")
    for name in ("llama-sft", "llama-pre-sft", "obp-llm-sft", "obp-llm", "obp-llm-no-contrast"):
        method = resolve(registry, UserConfig(), Run("fewnerd-inter-open", setting, name, backbone))
        assert method.format_options["negatives"] == (small if backbone == "smollm2-135m" else large), name
        assert method.format_options["label"] == "name"
        assert {**method.decode, **method.train.get("answers", {})}["max_new_tokens"] == 128


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_brackets_and_a_contrast_learn_fifty_real_sentences(real: Any, tmp_path: Path, way: str) -> None:
    """Each sentence is asked about all eight types; all weights of a small random backbone are trained.

    On embeddings this small the paper's noise hides the words, so there is a fifth of it.
    """
    sentences, types = real
    form = {**FORM, "wording": "obp" if way == "obp-llm" else "cllmfs"}
    folder = tiny_text.build(tmp_path / "llama", "causal", sentences, types, size=96, form=form)
    loud(folder, LlamaConfig, LlamaForCausalLM, initializer_range=0.1)
    train = {
        "epochs": 25, "batch_size": 20, "lr": 3e-3, "weight_decay": 0.0, "warmup": 0.05, "template": "bare",
        "lora": None, **WAYS[way], "noise": 0.0 if way == "obp-llm" else 1.0,
    }  # fmt: skip
    job = tiny_text.job(folder, "causal", types, train, form=form, batch_size=64)
    assert learned(job, sentences, tmp_path) >= 0.95
