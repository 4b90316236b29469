"""The vLLM engine: what it is asked, and that its answers take the way of our own.

vLLM needs CUDA, so a stand-in with its interface generates here, by transformers, from the very folders it is given.
"""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest
import tiny_text
import torch
from peft import PeftModel
from test_text import SUPPORT, TASK, TYPES
from transformers import AutoModelForCausalLM, GenerationConfig

from fewtable.errors import ConfigError
from fewtable.families import causal

LORA = {"r": 4, "alpha": 8, "targets": ["q_proj", "down_proj"]}
SETTINGS: list[dict[str, Any]] = []


class Engine:
    def __init__(self, model: str, dtype: str, **options: Any) -> None:
        SETTINGS.append({"dtype": dtype, **options})
        self._model = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype))

    def generate(self, prompts: Any, settings: Any, lora_request: Any, use_tqdm: bool) -> list[Any]:
        model = PeftModel.from_pretrained(self._model, lora_request[2]) if lora_request else self._model
        options = GenerationConfig(
            max_new_tokens=settings["max_tokens"], do_sample=False, pad_token_id=0,
            eos_token_id=settings["stop_token_ids"],
        )  # fmt: skip
        found = []
        for prompt in prompts:
            ids = torch.tensor([prompt["prompt_token_ids"]])
            with torch.inference_mode():
                written = model.eval().generate(input_ids=ids, generation_config=options)[0, ids.shape[1] :]
            found.append(types.SimpleNamespace(outputs=[types.SimpleNamespace(token_ids=written.tolist())]))
        return found


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    module, lora, request = (types.ModuleType(f"vllm{end}") for end in ("", ".lora", ".lora.request"))
    module.LLM = Engine  # type: ignore[attr-defined]
    module.SamplingParams = dict  # type: ignore[attr-defined]
    request.LoRARequest = lambda *given: given  # type: ignore[attr-defined]
    for made in (module, lora, request):
        monkeypatch.setitem(sys.modules, made.__name__, made)


def session(folder: Path, engine: str, **more: Any) -> Any:
    train = {"epochs": 4, "batch_size": 2, "lr": 1e-2, "template": "ie-as-qa", **more}
    job = tiny_text.job(folder, "causal", TYPES, train, form={"name": "uniner"}, batch_size=3)
    spec = job.spec.model_copy(update={"engine": engine})
    return causal.load(type(job)(spec=spec, backbone=folder, device_batch=4))


@pytest.mark.parametrize("lora", [LORA, None], ids=["adapter", "whole"])
def test_answers_are_those_of_our_own_loop(vllm: None, tmp_path: Path, lora: Any) -> None:
    folder = tiny_text.build(tmp_path / "llama", "causal", SUPPORT, TYPES, form={"name": "uniner"})
    ours = session(folder, "transformers", lora=lora)
    ours.fit(TASK, tiny_text.fit(tmp_path))
    expected = list(ours.decode(TASK, tmp_path / "model"))
    SETTINGS.clear()
    assert list(session(folder, "vllm", lora=lora).decode(TASK, tmp_path / "model")) == expected
    (asked,) = SETTINGS
    assert asked["enable_prefix_caching"] and asked["skip_tokenizer_init"] and asked["dtype"] == "float32"
    assert asked.get("max_lora_rank") == (4 if lora else None)


def test_what_vllm_cannot_do_is_refused(vllm: None, tmp_path: Path) -> None:
    form = {"name": "uniner"}
    folder = tiny_text.build(tmp_path / "llama", "causal", SUPPORT, TYPES, form=form)
    session(folder, "transformers", lora=None).fit(TASK, tiny_text.fit(tmp_path))
    made = session(folder, "vllm", lora=None)
    made._decode = made._decode.model_copy(update={"beams": 2})
    with pytest.raises(ConfigError, match="greedily and freely"):
        list(made.decode(TASK, tmp_path / "model"))


def test_a_missing_package_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    folder = tiny_text.build(tmp_path / "llama", "causal", SUPPORT, TYPES, form={"name": "uniner"})
    session(folder, "transformers", lora=None).fit(TASK, tiny_text.fit(tmp_path))
    with pytest.raises(ConfigError, match="'vllm' is not installed"):
        list(session(folder, "vllm", lora=None).decode(TASK, tmp_path / "model"))
