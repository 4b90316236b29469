"""Several trainings of adapters on one backbone, in forwards that they share: its weights are read once for all.

Each keeps its own batches, rate, optimiser, dropout and checkpoints, so that it learns what it would learn alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch

from fewtable.training.loop import Loop, Training
from fewtable.training.lora import Shares, sharing
from fewtable.training.packing import laid
from fewtable.training.sft import Loss, Row
from fewtable.training.weights import adapted, add_adapter

ALONE = "default"
"""peft's name of a single adapter."""


@dataclass(frozen=True)
class Part:
    """One training."""

    rows: Sequence[Row]
    loop: Loop


def adapter_name(part: int) -> str:
    """Return the name of a training's adapter."""
    return f"{part}-of-several" if part else ALONE


@contextmanager
def several(base: Any, lora: Mapping[str, Any], starts: Sequence[tuple[int, Path | None]]) -> Iterator[Any]:
    """Put an adapter a training on ``base``, as ``adapted`` does, from (seed, init); take them off at the end."""
    first, *others = starts
    with adapted(base, lora, *first) as model:
        for number, (seed, init) in enumerate(others, 1):
            add_adapter(model, adapter_name(number), lora, seed, init)
        model.base_model.set_adapter([adapter_name(number) for number in range(len(starts))])
        yield model


def train_together(
    model: Any, parts: Sequence[Part], loss: Loss[Row], split: Callable[[Sequence[Row]], Sequence[Sequence[Row]]]
) -> None:
    """Train the adapters of ``several``; a loss that is not finite is a ConfigError, as in ``loop.train``.

    Args:
        model: put into training mode, and into evaluation mode at the end.
        parts: the trainings, in the order of their adapters.
        loss: gives each row's loss. A step of a training is the mean over its learned tokens.
        split: says which rows of a training's batch make a forward together.
    """
    trainings = [Training(_parameters(model, adapter_name(n)), part.rows, part.loop) for n, part in enumerate(parts)]
    sources = [torch.Generator(model.device) for _ in parts]
    going = {number: training.batches() for number, training in enumerate(trainings)}
    model.train()
    with sharing(model) as shares:
        while True:
            found = {number: next(batches, None) for number, batches in going.items()}
            batches = {n: [replace(row, part=n) for row in batch] for n, batch in found.items() if batch is not None}
            if not batches:
                break
            going = {number: going[number] for number in batches}
            for number in batches:
                sources[number].manual_seed(trainings[number].seed)
            values = _gradients([split(batch) for batch in batches.values()], loss, shares, sources)
            for number, batch in batches.items():
                tokens = sum(len(row.places) for row in batch) or 1
                for parameter in trainings[number].trained.values():
                    if parameter.grad is not None:
                        parameter.grad.div_(tokens)
                trainings[number].update(values[number] / tokens)
    model.eval()


def _gradients(
    splits: Sequence[Sequence[Sequence[Row]]], loss: Loss[Row], shares: Shares, sources: Sequence[torch.Generator]
) -> list[float]:
    """Leave the gradients of the summed losses on the parameters; return each training's sum."""
    values = [0.0] * len(sources)
    for forward in zip_longest(*splits, fillvalue=()):
        rows = [row for part in forward for row in part]
        lie = sorted(laid(rows).parts.items(), key=lambda item: item[1].start)
        shares.of = [(adapter_name(number), own, sources[number]) for number, own in lie]
        each, _ = loss(rows)
        each.sum().backward()  # type: ignore[no-untyped-call]
        for row, value in zip(rows, each.tolist(), strict=True):
            values[row.part] += value
    return values


def _parameters(model: Any, name: str) -> dict[str, torch.nn.Parameter]:
    """Return the parameters of an adapter, by the names that they would have alone."""
    named = ((key, p) for key, p in model.named_parameters() if f".{name}." in key)
    return {key.replace(f".{name}.", f".{ALONE}."): p.requires_grad_(True) for key, p in named}
