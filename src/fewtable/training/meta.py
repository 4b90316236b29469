"""First-order MAML (Finn et al. 2017, section 5.2), as the release of DecomMeta makes it (methods/fs-06).

For each task of a meta step the weights take some steps on its support; the gradient of the query's loss at the weights
reached counts as one of the weights before. A fresh AdamW makes the inner steps: its first one is about
lr * sign(gradient), so that its rate is the length of a step in each coordinate and no rate of SGD.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

from fewtable.errors import ConfigError
from fewtable.training.loop import Loop, adamw, train

T = TypeVar("T")


class Learner(torch.nn.Module, ABC, Generic[T]):
    """A model that learns tasks ``T``. The parameters that require a gradient are trained."""

    @abstractmethod
    def support_loss(self, task: T) -> torch.Tensor:
        """Return the loss on a task's support, 0 with a gradient where there is nothing to learn."""

    @abstractmethod
    def query_loss(self, task: T) -> torch.Tensor:
        """Return the loss on a task's query after the steps on its support, 0 as there."""

    def trained(self) -> list[torch.nn.Parameter]:
        """Return the parameters that are trained."""
        return [p for p in self.parameters() if p.requires_grad]


@dataclass(frozen=True, slots=True)
class Inner:
    """The steps on the support of a task."""

    steps: int
    lr: float
    weight_decay: float


def adapt(learner: Learner[T], task: T, inner: Inner, lr: float) -> list[float]:
    """Take ``inner.steps`` steps at the rate ``lr`` on the support of a task; return the loss before each.

    Gradients that the parameters had are lost.

    Raises:
        ConfigError: a loss is not finite.
    """
    optimizer = adamw(learner.trained(), inner.weight_decay)
    for group in optimizer.param_groups:
        group["lr"] = lr
    losses = []
    for _ in range(inner.steps):
        optimizer.zero_grad(set_to_none=True)
        loss = learner.support_loss(task)
        losses.append(float(loss.detach()))
        if not math.isfinite(losses[-1]):
            raise ConfigError(
                f"the loss on a support is {losses[-1]} after {len(losses) - 1} steps",
                where="train",
                fix="lower its lr",
            )
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return losses


def meta_gradient(learner: Learner[T], tasks: Sequence[T], inner: Inner, lr: float) -> tuple[float, list[torch.Tensor]]:
    """Return the mean of the tasks' query losses, and the sum of their gradients at the adapted weights.

    The weights are those of before again, to the bit. ``lr`` is the rate of the inner steps.
    """
    trained = learner.trained()
    kept = [p.detach().clone() for p in trained]
    sums = [torch.zeros_like(p) for p in trained]
    total = 0.0
    for task in tasks:
        adapt(learner, task, inner, lr)
        loss = learner.query_loss(task)
        total += float(loss.detach())
        gradients = torch.autograd.grad(loss, trained, allow_unused=True)
        with torch.no_grad():
            for parameter, before, own, gradient in zip(trained, kept, sums, gradients, strict=True):
                parameter.copy_(before)
                if gradient is not None:
                    own += gradient
    return total / len(tasks), sums


def meta_train(learner: Learner[T], draw: Callable[[int], T], episodes: int, inner: Inner, loop: Loop) -> int:
    """Train on the tasks of the numbers below ``episodes``, ``batch_size`` a step; return the number of steps.

    The rate of the inner steps rises and falls with that of the outer ones. The sum of the tasks' gradients is put on
    the parameters as it is: what a library's ``zero_grad`` leaves there plays no part.
    """
    scale = 1.0

    def before(step: int, lr: float) -> None:
        nonlocal scale
        scale = lr / loop.options.lr

    def loss(numbers: Sequence[int]) -> tuple[torch.Tensor, float]:
        value, sums = meta_gradient(learner, [draw(number) for number in numbers], inner, inner.lr * scale)
        # A number whose gradient is the sums: the loop asks for a loss.
        changes = ((p - p.detach()).mul(own).sum() for p, own in zip(learner.trained(), sums, strict=True))
        return torch.stack(list(changes)).sum() + value, 1.0

    return train(learner, range(episodes), loss, loop, split=lambda batch: [batch], before=before)
