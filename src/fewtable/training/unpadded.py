"""Sentences end to end in one forward of an encoder: no padding, and each attends to itself alone.

What is done for all pieces at once is done row by row there, so that a sentence's vectors do not depend on its
neighbours: on the CPUs that this was tried on not in a single bit (a test compares them).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import AttentionInterface

from fewtable.training.encoder import Encoder, Window

NAME = "fewtable-sentences"
PACK = 512
"""Pieces of a forward, about: enough to use each weight that is fetched from memory many times."""
LEAST = 16
"""Fewest pieces of a forward; products with fewer rows are computed in another order."""


def reads(encoder: Encoder) -> bool:
    """Say whether ``encoder`` can read sentences end to end: BERT and what is built like it, on a CPU."""
    model: Any = encoder.model
    learned = getattr(getattr(model, "embeddings", None), "position_embeddings", None) is not None
    return encoder.device.type == "cpu" and learned and bool(model._supports_attention_backend)


@torch.inference_mode()
def states(encoder: Encoder, windows: Sequence[Window]) -> torch.Tensor:
    """Return what ``encoder.states`` does, the vectors (words, size) of all words, without gradient."""
    model: Any = encoder.model
    before = model.config._attn_implementation
    AttentionInterface.register(NAME, _attention)
    model.set_attn_implementation(NAME)
    try:
        found = [_forward(encoder, pack) for pack in _packs(windows)]
    finally:
        model.set_attn_implementation(before)
    return torch.cat(found) if found else torch.zeros(0, encoder.size)


def _packs(windows: Sequence[Window]) -> Iterator[list[Window]]:
    pack: list[Window] = []
    for window in windows:
        pack.append(window)
        if sum(len(w.ids) for w in pack) >= PACK:
            yield pack
            pack = []
    if pack:
        yield pack


def _forward(encoder: Encoder, pack: Sequence[Window]) -> torch.Tensor:
    model: Any = encoder.model
    padding = model.embeddings.position_embeddings.padding_idx  # RoBERTa's positions begin behind it
    first = 0 if padding is None else padding + 1
    lengths = [len(w.ids) for w in pack]
    filler = max(LEAST - sum(lengths), 0)
    ids = [i for w in pack for i in w.ids] + [pack[0].ids[0]] * filler
    lengths += [filler] * bool(filler)
    places = [first + p for length in lengths for p in range(length)]
    begins = [sum(lengths[:n]) for n in range(len(pack))]
    rows = torch.tensor([begin + f for begin, w in zip(begins, pack, strict=True) for f in w.first])
    return encoder.read(torch.tensor([ids]), None, position_ids=torch.tensor([places]), sentences=lengths)[
        0, rows
    ].float()


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    sentences: Sequence[int],
    scaling: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attend within each sentence; tensors are (1, heads, pieces, size), the result (1, pieces, heads, size)."""
    parts = zip(*(torch.split(t, list(sentences), 2) for t in (query, key, value)), strict=True)
    attend = torch.nn.functional.scaled_dot_product_attention
    return torch.cat([attend(q, k, v, scale=scaling) for q, k, v in parts], 2).transpose(1, 2), None
