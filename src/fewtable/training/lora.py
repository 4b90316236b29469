"""A low-rank update for training: peft's layer, computed in the arithmetic of the weights below it.

peft computes updates in float32 whatever the backbone's dtype, and adds them in several passes over the output. On a
CPU that doubles the time of a forward of bfloat16 weights (docs/decisions/training.md).
"""

from __future__ import annotations

from typing import Any

import torch
from peft import LoraConfig
from peft.tuners import lora
from torch.nn.functional import dropout, linear

LEVELS = 1 << 16


class Linear(lora.Linear):  # type: ignore[misc]  # peft has no types
    """A linear layer with a low-rank update, equal to peft's but for rounding."""

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Return base(x) + scaling * B(A(dropout(x))) of the one active adapter; all else is left to peft."""
        active = [name for name in self.active_adapters if name in self.lora_A]
        if self.disable_adapters or self.merged or args or kwargs or len(active) != 1 or self.lora_variant:
            found: torch.Tensor = super().forward(x, *args, **kwargs)
            return found
        name = active[0]
        base: torch.Tensor = self.base_layer(x)
        rate = getattr(self.lora_dropout[name], "p", 0.0) if self.training else 0.0
        dropped = x.flatten(0, -2)
        if rate and x.device.type == "cpu":
            dropped = dropped.masked_fill(_chosen(dropped.shape, rate), 0.0) / (1 - rate)
        elif rate:
            dropped = dropout(dropped, rate)
        down = linear(dropped, self.lora_A[name].weight.to(x.dtype))
        up = self.lora_B[name].weight.to(x.dtype).T
        return torch.addmm(base.flatten(0, -2), down, up, alpha=self.scaling[name]).view(base.shape)


def _chosen(shape: torch.Size, rate: float) -> torch.Tensor:
    """Return a mask that is True with probability ``rate`` (to 16 bits); it takes four entries from a random number."""
    count = shape.numel()
    every = -(1 << 63), None  # all 64 bits are random
    bits = torch.empty((count + 3) // 4, dtype=torch.int64).random_(*every).view(torch.int16)[:count]
    return (bits < round(rate * LEVELS) - LEVELS // 2).view(shape)


def with_our_layers(config: LoraConfig) -> LoraConfig:
    """Make peft put these layers in place of its own; what is saved is the same."""
    config._register_custom_module({torch.nn.Linear: Linear})
    return config
