"""Supervised fine-tuning of text models: token cross-entropy of the answer, the mean over a batch's answer tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch.nn.functional import cross_entropy

from fewtable.decoding.generate import pad
from fewtable.training.device import precision
from fewtable.training.packing import laid

Range = tuple[int, int]
"""Tokens of a row: first, end (exclusive), counted from the row's own first token."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where a prompt about one type names it, shows the sentence, and in that the type's entities (gold)."""

    anchor: Range
    """The first mention of the type's name."""
    sentence: Range
    entities: tuple[Range, ...]
    share: float = 1.0
    """What a term of the contrast counts beside a learned token of the step (``training.contrast.shared``)."""


@dataclass(frozen=True, slots=True)
class Row:
    """The tokens of a text that a decoder-only model goes on writing, and which of them it learns to write."""

    ids: tuple[int, ...]
    learned: tuple[bool, ...]
    contrast: Places | None = None
    """What a contrast is taken between, where the example has marks and its prompt is whole."""
    part: int = 0
    """Which of the trainings that share a forward the row is of."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def places(self) -> list[int]:
        """Where the learned tokens stand; never at 0, where nothing is before them."""
        return [n for n, yes in enumerate(self.learned) if yes and n]


@dataclass(frozen=True, slots=True)
class Pair:
    """The tokens that an encoder reads and those that a decoder learns to write, the token that ends answers last."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]


R = TypeVar("R")
Loss = Callable[[Sequence[R]], tuple[torch.Tensor, float]]
"""Examples -> the answer tokens' negative log-likelihoods in nats, summed (over each row alone, where rows are causal),
and the number of answer tokens."""


def causal_loss(model: Any, *, autocast: bool) -> Loss[Row]:
    """Return the loss of each row (rows,) of a model that reads rows ``apart``; its head sees answer positions only.

    Nothing is padded, so that an end token that also pads is still learned. A row's first token has nothing before it
    and is never learned.
    """

    def loss(rows: Sequence[Row]) -> tuple[torch.Tensor, float]:
        pack = laid(rows)
        learned = [
            (at[n - 1], row.ids[n], number)
            for number, (at, row) in enumerate(zip(pack.at, rows, strict=True))
            for n in row.places
        ]
        after, wanted, owner = torch.tensor(learned, dtype=torch.long).view(-1, 3).T.to(model.device)
        with precision(model.device, autocast=autocast):
            logits = model(
                input_ids=pack.ids.to(model.device),
                position_ids=pack.positions.to(model.device),
                logits_to_keep=after,
                use_cache=False,
                branches=pack.branches,
            ).logits[0]
        each = cross_entropy(logits.float(), wanted, reduction="none")
        return each.new_zeros(len(rows)).index_add(0, owner, each), float(len(learned))

    return loss


def seq2seq_loss(model: Any, filler: int, *, autocast: bool) -> Loss[Pair]:
    """Return the loss of an encoder-decoder model over its target tokens."""

    def loss(rows: Sequence[Pair]) -> tuple[torch.Tensor, float]:
        ids, mask = pad([r.prompt for r in rows], filler, left=False)
        labels, real = pad([r.answer for r in rows], -100, left=False)
        labels = labels.to(model.device)
        with precision(model.device, autocast=autocast):
            output = model(
                input_ids=ids.to(model.device),
                attention_mask=mask.to(model.device),
                decoder_input_ids=model.prepare_decoder_input_ids_from_labels(labels=labels),
                use_cache=False,
            )
        return cross_entropy(output.logits.float().flatten(0, 1), labels.flatten(), reduction="sum"), float(real.sum())

    return loss
