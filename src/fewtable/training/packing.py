"""Rows of many lengths in one forward without padding: they lie end to end, and each attends to itself alone.

Attention is computed a row at a time, all else for all tokens at once. No token sees another row, for there is no
mask that could let it through, and no arithmetic goes to padding.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence, Sized
from contextlib import contextmanager
from itertools import accumulate
from typing import Any, TypeVar

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from fewtable.errors import ConfigError

S = TypeVar("S", bound=Sized)
NAME = "fewtable-rows"
ATTENTION = {"full_attention", "sliding_attention"}
"""Kinds of layers in which a row can be kept to itself."""


def packs(rows: Sequence[S], size: int, shares: int = 1) -> list[list[S]]:
    """Return the rows of a step in as few packs as fit, evenly filled (longest rows first, each to the emptiest pack).

    Args:
        rows: at least one.
        size: a pack holds at most the tokens that ``size`` rows, padded to the longest, would.
        shares: the number of packs is a multiple of it; a pack is empty only where there are fewer rows.
    """
    longest_first = sorted(rows, key=len, reverse=True)
    limit = size * len(longest_first[0])
    count = math.ceil(sum(map(len, rows)) / limit / shares) * shares
    while True:
        found: list[list[S]] = [[] for _ in range(count)]
        filled = [(0, number) for number in range(count)]
        for row in longest_first:
            tokens, number = filled[0]
            found[number].append(row)
            heapq.heapreplace(filled, (tokens + len(row), number))
        if max(filled)[0] <= limit:
            return found
        count += shares


def joined(rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and positions (1, tokens) of rows end to end; the positions of each begin at 0."""
    ids = torch.tensor([[i for row in rows for i in row]])
    return ids, torch.cat([torch.arange(len(row)) for row in rows])[None]


@contextmanager
def apart(model: Any) -> Iterator[None]:
    """Let a decoder-only model read rows that lie end to end; it must be told their ``lengths``.

    Raises:
        ConfigError: the model has layers that would carry one row into the next.
    """
    kinds = set(getattr(model.config, "layer_types", None) or ()) - ATTENTION
    if kinds or model._is_stateful or not model._supports_attention_backend:
        raise ConfigError(
            f"backbones of the kind '{model.config.model_type}' cannot be trained on packed rows",
            fix="use a causal backbone whose layers all attend",
        )
    AttentionInterface.register(NAME, _attention)
    before = model.config._attn_implementation
    model.set_attn_implementation(NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    lengths: Sequence[int],
    sliding_window: int | None = None,
    s_aux: torch.Tensor | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attend within each row; tensors are (1, heads, tokens, size), the result (1, tokens, heads, size)."""
    if s_aux is not None or options.get("softcap") is not None:
        raise ConfigError("backbones with attention sinks or capped scores cannot be trained on packed rows")
    answers = []
    for length, end in zip(lengths, accumulate(lengths), strict=True):
        own = slice(end - length, end)
        near = None
        if sliding_window is not None and length > sliding_window:
            near = torch.ones(length, length, dtype=torch.bool, device=query.device).tril().triu(1 - sliding_window)
        part, _ = sdpa_attention_forward(module, query[:, :, own], key[:, :, own], value[:, :, own], near, **options)
        answers.append(part)
    return torch.cat(answers, 1), None
