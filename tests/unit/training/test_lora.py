"""Our LoRA layer gives what peft's gives: outputs, gradients, saved files; dropout drops what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from fewtable.training.lora import FEW, Linear, _chosen, with_our_layers
from fewtable.training.weights import adapted, merged, save_adapter, wearing

CPU = torch.device("cpu")
LORA: dict[str, Any] = {"r": 4, "alpha": 8.0, "dropout": 0.0, "targets": ["q_proj", "down_proj"]}


def llama(dtype: torch.dtype = torch.float32) -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2,
    )  # fmt: skip
    return LlamaForCausalLM(config).to(dtype).requires_grad_(False)


def model_with(ours: bool, dtype: torch.dtype, dropout: float = 0.0) -> Any:
    config = LoraConfig(r=4, lora_alpha=8, lora_dropout=dropout, target_modules=LORA["targets"], task_type="CAUSAL_LM")
    torch.manual_seed(1)
    model = get_peft_model(llama(dtype), with_our_layers(config) if ours else config)
    assert any(isinstance(m, Linear) for m in model.modules()) == ours
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return model


@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_outputs_and_gradients_are_those_of_peft(dtype: torch.dtype, near: float) -> None:
    ids = torch.arange(24).view(2, 12)
    found = []
    for ours in (False, True):
        model = model_with(ours, dtype).train()
        out = model(input_ids=ids).logits.float()
        out.square().mean().backward()
        found.append((out.detach(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}))
    (theirs, expected), (own, gradients) = found
    torch.testing.assert_close(own, theirs, rtol=near, atol=near)
    assert gradients.keys() == expected.keys() and len(gradients) == 8
    for name, gradient in gradients.items():
        assert (gradient - expected[name]).norm() <= near * expected[name].norm(), name


def test_an_adapter_is_saved_merged_and_gone_on_with_as_ever(tmp_path: Path) -> None:
    base = llama()
    ids = torch.arange(12).view(1, 12)
    plain = base(input_ids=ids).logits
    with adapted(base, LORA, 3, None) as model:
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1)
        trained = model(input_ids=ids).logits
        save_adapter(model, tmp_path, "tiny")
    assert set(load_file(tmp_path / "adapter_model.safetensors")) == {
        f"base_model.model.model.layers.{n}.{place}.lora_{x}.weight"
        for n in (0, 1)
        for place in ("self_attn.q_proj", "mlp.down_proj")
        for x in "AB"
    }
    with adapted(base, LORA, 4, tmp_path) as model:
        assert torch.equal(model(input_ids=ids).logits, trained)
        assert sum(p.requires_grad for p in model.parameters()) == 8
    with wearing(base, tmp_path) as model:
        assert torch.equal(model(input_ids=ids).logits, trained)
        assert not any(p.requires_grad for p in model.parameters())
    assert torch.equal(base(input_ids=ids).logits, plain)
    torch.testing.assert_close(merged(llama(), tmp_path)(input_ids=ids).logits, trained, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tokens", [FEW - 1, FEW + 1])
def test_beside_bfloat16_weights_the_update_is_rounded_once(tokens: int) -> None:
    """Rounding the factors as well would double the error, and lose the small changes of preference training."""
    torch.manual_seed(2)
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["0"])
    model = get_peft_model(torch.nn.Sequential(torch.nn.Linear(64, 48, bias=False)).bfloat16(), with_our_layers(config))
    layer = model.base_model.model[0]
    layer.base_layer.weight.data.zero_()
    down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    torch.nn.init.normal_(up)
    x = torch.randn(tokens, 64).bfloat16()
    with torch.no_grad():
        exact = 2 * x.double() @ down.double().T @ up.double().T
        error = (model(x).double() - exact).norm() / exact.norm()
    assert 0.001 < float(error) < 0.002


def test_dropout_is_of_the_rate_and_only_in_training() -> None:
    torch.manual_seed(0)
    chosen = _chosen(torch.Size((1000, 333)), 0.05, CPU, None)
    assert float(chosen.float().mean()) == pytest.approx(0.05, abs=0.002)
    assert float(_chosen(torch.Size((401, 7)), 0.9, CPU, None).float().mean()) == pytest.approx(0.9, abs=0.03)
    ids = torch.arange(12).view(1, 12)
    model = model_with(True, torch.float32, dropout=0.5)
    with torch.no_grad():
        still = model.eval()(input_ids=ids).logits
        torch.manual_seed(5)
        first = model.train()(input_ids=ids).logits
        torch.manual_seed(5)
        again = model(input_ids=ids).logits
    assert torch.equal(first, again) and not torch.allclose(first, still)
    torch.testing.assert_close(
        still, model_with(False, torch.float32).eval()(input_ids=ids).logits, rtol=1e-4, atol=1e-5
    )


def test_a_layer_that_is_switched_off_is_the_base() -> None:
    model, ids = model_with(True, torch.float32), torch.arange(12).view(1, 12)
    with torch.no_grad(), model.disable_adapter():
        assert torch.equal(model(input_ids=ids).logits, llama()(input_ids=ids).logits)
