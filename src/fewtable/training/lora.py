"""A low-rank update: peft's layer, as exact and without a float32 copy of what it is added to.

peft computes updates in float32 whatever the backbone's dtype, and adds them in several passes over the output. On a
CPU that doubles the time of a forward of bfloat16 weights (docs/decisions/training.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig
from peft.tuners import lora
from torch.nn.functional import linear

LEVELS = 1 << 16
FEW = 64
"""Tokens below which float32 costs less than what stands in for it: an answer's next ones."""


@dataclass
class Shares:
    """Which adapter is for which tokens of a forward: (adapter, tokens, what its dropout draws from), in order."""

    of: Sequence[tuple[str, slice, torch.Generator | None]] = ()
    """Empty: the active adapter is for all."""


class Linear(lora.Linear):  # type: ignore[misc]  # peft has no types
    """A linear layer with a low-rank update, equal to peft's but for rounding; adapters may share a forward."""

    shares = Shares()

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Return base(x) + scaling * B(A(dropout(x))), by each token's own adapter; all else is left to peft."""
        active = [name for name in self.active_adapters if name in self.lora_A]
        plain = not (self.disable_adapters or self.merged or args or kwargs or self.lora_variant)
        if not plain or (len(active) != 1 and not self.shares.of):
            found: torch.Tensor = super().forward(x, *args, **kwargs)
            return found
        base: torch.Tensor = self.base_layer(x)
        flat, known = x.flatten(0, -2), base.flatten(0, -2)
        if not self.shares.of:
            return self._updated(active[0], flat, known, None).view(base.shape)
        parts = [self._updated(name, flat[own], known[own], source) for name, own, source in self.shares.of]
        return torch.cat(parts).view(base.shape)

    def _updated(self, name: str, x: torch.Tensor, base: torch.Tensor, source: torch.Generator | None) -> torch.Tensor:
        rate = getattr(self.lora_dropout[name], "p", 0.0) if self.training else 0.0
        if rate:
            x = x.masked_fill(_chosen(x.shape, rate, x.device, source), 0.0)
        down, up = linear(x.float(), self.lora_A[name].weight), self.lora_B[name].weight
        scaling: float = self.scaling[name] / (1 - rate)
        if base.dtype == torch.float32:
            return torch.addmm(base, down, up.T, alpha=scaling)
        if len(x) < FEW:
            found: torch.Tensor = base + linear(down, up) * scaling
            return found.to(base.dtype)
        # Each factor as its rounding and what that lost: small updates are seen, and nothing large is cast.
        first, second = down.to(base.dtype), up.to(base.dtype)
        downs = torch.cat([first, first, (down - first).to(base.dtype)], 1)
        ups = torch.cat([second, (up - second).to(base.dtype), second], 1)
        return torch.addmm(base, downs, ups.T, alpha=scaling)


def _chosen(shape: torch.Size, rate: float, device: torch.device, source: torch.Generator | None) -> torch.Tensor:
    """Return a mask that is True with probability ``rate`` (to 16 bits); it takes four entries from a random number."""
    count = shape.numel()
    every = -(1 << 63), None  # all 64 bits are random
    bits = torch.empty((count + 3) // 4, dtype=torch.int64, device=device).random_(*every, generator=source)
    return (bits.view(torch.int16)[:count] < round(rate * LEVELS) - LEVELS // 2).view(shape)


@contextmanager
def sharing(model: torch.nn.Module) -> Iterator[Shares]:
    """Let the adapters of a model share its forwards; what is set in the result holds until the next change."""
    layers = [module for module in model.modules() if isinstance(module, Linear)]
    shares = Shares()
    for layer in layers:
        layer.shares = shares
    try:
        yield shares
    finally:
        for layer in layers:
            del layer.shares


def with_our_layers(config: LoraConfig) -> LoraConfig:
    """Make peft put these layers in place of its own; what is saved is the same."""
    config._register_custom_module({torch.nn.Linear: Linear})
    return config
