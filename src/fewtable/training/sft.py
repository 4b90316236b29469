"""Supervised fine-tuning of text models: token cross-entropy of the answer, the mean over a batch's answer tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch.nn.functional import cross_entropy

from fewtable.decoding.generate import pad
from fewtable.training.device import precision
from fewtable.training.packing import joined


@dataclass(frozen=True, slots=True)
class Row:
    """The tokens of a text that a decoder-only model goes on writing, and which of them it learns to write."""

    ids: tuple[int, ...]
    learned: tuple[bool, ...]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Pair:
    """The tokens that an encoder reads and those that a decoder learns to write, the token that ends answers last."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]


R = TypeVar("R")
Loss = Callable[[Sequence[R]], tuple[torch.Tensor, float]]
"""Examples -> the sum of the answer tokens' negative log-likelihoods in nats, and the number of answer tokens."""


def causal_loss(model: Any, *, autocast: bool) -> Loss[Row]:
    """Return the loss of a decoder-only model that reads rows ``apart``; its head sees answer positions only.

    Nothing is padded, so that an end token that also pads is still learned. A row's first token has nothing before it
    and is never learned.
    """

    def loss(rows: Sequence[Row]) -> tuple[torch.Tensor, float]:
        ids, positions = (t.to(model.device) for t in joined([row.ids for row in rows]))
        answers = torch.tensor([yes and place > 0 for row in rows for place, yes in enumerate(row.learned)])
        answers = answers.nonzero()[:, 0].to(model.device)
        with precision(model.device, autocast=autocast):
            logits = model(
                input_ids=ids,
                position_ids=positions,
                logits_to_keep=answers - 1,
                use_cache=False,
                lengths=[len(row) for row in rows],
            ).logits[0]
        return cross_entropy(logits.float(), ids[0, answers], reduction="sum"), float(len(answers))

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
