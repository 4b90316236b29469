"""Prefix prompts: trained keys and values before those of every attention of a frozen BART (LightNER; methods/07).

They reach BART's attentions through transformers' attention interface: a model whose attention is ``IMPLEMENTATION``
takes a keyword ``prefix`` in each call of its encoder and decoder, and computes plain eager attention without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask
from transformers.models.bart.modeling_bart import eager_attention_forward

IMPLEMENTATION = "prefixed"

KeysValues = tuple[torch.Tensor, torch.Tensor]
"""Keys and values (1, heads, length, size of a head) of a layer."""


@dataclass(frozen=True, slots=True)
class Prefix:
    """The keys and values that come first, for each layer of the three kinds of attention."""

    encoder: tuple[KeysValues, ...]
    decoder: tuple[KeysValues, ...]
    cross: tuple[KeysValues, ...]

    def of(self, attention: Any) -> KeysValues:
        """Return those of a ``BartAttention``."""
        kind = self.encoder if not attention.is_decoder else self.decoder if attention.is_causal else self.cross
        return kind[attention.layer_idx]


def prefixed_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    prefix: Prefix | None = None,
    **options: Any,
) -> Any:
    """Return eager attention over the prefix and ``key``, ``value`` (batch, heads, n, size); all see the prefix."""
    if prefix is not None:
        keys, values = (part.to(key.dtype).expand(len(key), -1, -1, -1) for part in prefix.of(module))
        key, value = torch.cat([keys, key], 2), torch.cat([values, value], 2)
        if attention_mask is not None:  # added to the scores, so 0 leaves them as they are
            attention_mask = torch.nn.functional.pad(attention_mask, (keys.shape[2], 0), value=0.0)
    return eager_attention_forward(module, query, key, value, attention_mask, **options)


AttentionInterface.register(IMPLEMENTATION, prefixed_attention)
AttentionMaskInterface.register(IMPLEMENTATION, eager_mask)


class Prompts(torch.nn.Module):
    """Embedding -> Linear -> Tanh -> Linear for each kind of attention (methods/07, Model).

    Args:
        config: BART's.
        length: number of keys and values that every attention gets.
        width: units of the hidden layer.
    """

    def __init__(self, config: Any, length: int, width: int) -> None:
        super().__init__()
        self._length = length
        self._shapes = {
            "encoder": (config.encoder_layers, config.encoder_attention_heads),
            "decoder": (config.decoder_layers, config.decoder_attention_heads),
            "cross": (config.decoder_layers, config.decoder_attention_heads),
        }
        self.sets = torch.nn.ModuleDict(
            {
                name: torch.nn.Sequential(
                    torch.nn.Embedding(length, config.d_model),
                    torch.nn.Linear(config.d_model, width),
                    torch.nn.Tanh(),
                    torch.nn.Linear(width, 2 * layers * config.d_model),
                )
                for name, (layers, _) in self._shapes.items()
            }
        )

    def forward(self) -> Prefix:
        """Return the prefix as the weights stand now; keeps the gradient."""
        return Prefix(self._set("encoder"), self._set("decoder"), self._set("cross"))

    def _set(self, name: str) -> tuple[KeysValues, ...]:
        layers, heads = self._shapes[name]
        net = self.sets[name]
        device = next(net.parameters()).device
        flat = net(torch.arange(self._length, device=device)).float()
        size = flat.shape[1] // (2 * layers * heads)
        parts = flat.view(1, self._length, 2 * layers, heads, size).permute(2, 0, 3, 1, 4)
        return tuple((parts[2 * i], parts[2 * i + 1]) for i in range(layers))
