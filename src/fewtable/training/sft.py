"""Supervised fine-tuning of text models: token cross-entropy of the answer, the mean over a batch's answer tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch.nn.functional import cross_entropy

from fewtable.decoding.generate import pad
from fewtable.errors import ConfigError
from fewtable.training.device import precision


@dataclass(frozen=True, slots=True)
class Row:
    """The tokens of a text that a decoder-only model goes on writing, and which of them it learns to write."""

    ids: tuple[int, ...]
    learned: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """The tokens that an encoder reads and those that a decoder learns to write, the token that ends answers last."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]


R = TypeVar("R")
Loss = Callable[[Sequence[R]], tuple[torch.Tensor, float]]
"""Examples -> the sum of the answer tokens' negative log-likelihoods in nats, and the number of answer tokens."""

RESCALED = ("final_logit_softcapping", "logit_scale", "logits_scaling")
"""Config keys of models that change the head's logits, which ``causal_loss`` would not see."""


def causal_loss(model: Any, filler: int, *, autocast: bool) -> Loss[Row]:
    """Return the loss of a decoder-only model; the head is computed at answer positions only.

    Padding is masked by attention and never by id, so that an end token that also pads is still learned.

    Raises:
        ConfigError: the model rescales its logits.
    """
    if found := [k for k in RESCALED if getattr(model.config, k, None) not in (None, 1, 1.0)]:
        raise ConfigError(f"backbones with '{found[0]}' cannot be trained", fix="use another causal backbone")

    def loss(rows: Sequence[Row]) -> tuple[torch.Tensor, float]:
        ids, mask = (t.to(model.device) for t in pad([r.ids for r in rows], filler, left=False))
        answers = pad([r.learned for r in rows], 0, left=False)[0].bool().to(model.device)
        with precision(model.device, autocast=autocast):
            hidden = model.get_decoder()(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
            logits = model.get_output_embeddings()(hidden[:, :-1][answers[:, 1:]])
        return cross_entropy(logits.float(), ids[answers], reduction="sum"), float(answers.sum())

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
