"""The training loop that families share: seeded, exact under accumulation, resumed to the bit.

Every step seeds torch, and every epoch its order, from (seed, number): a checkpoint needs no generator state,
only parameters, optimiser state and the step. It is one safetensors file, renamed into place.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, TypeVar

from pydantic import Field

from fewtable.errors import ConfigError
from fewtable.files import digest, stable_seed
from fewtable.specs import Spec
from fewtable.training.parallel import agreed, leads, rank, ranks, spread_like, summed, whole

if TYPE_CHECKING:
    import torch

E = TypeVar("E")
SAVING = 20
"""A checkpoint that took a second is followed by at least this many seconds of training."""


class LoopOptions(Spec):
    """Hyper-parameters of a training loop; a family's ``Train`` extends it."""

    epochs: Annotated[int, Field(ge=0)]
    min_steps: Annotated[int, Field(ge=0)] = 0
    """Fewest optimiser steps; tiny samples go through more epochs until they have made them."""
    max_steps: Annotated[int, Field(ge=1)] | None = None
    """Most optimiser steps; large samples are then seen in part."""
    batch_size: Annotated[int, Field(ge=1)]
    """Examples an optimiser step."""
    lr: Annotated[float, Field(gt=0)]
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Of AdamW; vectors (biases, layer norms) are never decayed."""
    warmup: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Fraction of the steps in which the rate rises from 0."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """What the rate does after the warm-up: fall to 0 along a line or half a cosine, or stay."""
    clip: Annotated[float, Field(gt=0)] | None = 1.0
    """Largest norm of the gradient."""


@dataclass(frozen=True)
class Loop:
    """One training: its hyper-parameters, seed and surroundings."""

    options: LoopOptions
    seed: int
    log: Callable[..., None]
    """Called as ``log(step, loss=..., lr=...)`` after each step, from 1. Steps after the last checkpoint of a
    killed job are logged again, with the same values."""
    checkpoint: Path
    """Folder that holds the last checkpoint."""
    device_batch: int
    """Most examples of a forward; larger batches accumulate gradients."""
    save_every: float = 60.0
    """Seconds between checkpoints; more where writing one takes long. 0: one after every step."""


def total_steps(options: LoopOptions, examples: int) -> int:
    """Return the number of optimiser steps over ``examples`` examples (0 when there are none)."""
    if not examples:
        return 0
    steps = max(options.epochs * math.ceil(examples / options.batch_size), options.min_steps)
    return steps if options.max_steps is None else min(steps, options.max_steps)


def rate(options: LoopOptions, step: int, total: int) -> float:
    """Return the learning rate of ``step`` (from 0) of ``total``; no step has the rate 0."""
    warm = math.ceil(options.warmup * total)
    if step < warm:
        return options.lr * (step + 1) / warm
    if options.schedule == "constant":
        return options.lr
    left = (total - step) / (total - warm)
    return options.lr * (left if options.schedule == "linear" else (1 - math.cos(math.pi * left)) / 2)


def batches(examples: Sequence[E], size: int, seed: int, first: int, total: int) -> Iterator[list[E]]:
    """Yield the batches of steps ``first`` to ``total`` - 1; every epoch has an order of its own."""
    an_epoch = math.ceil(len(examples) / size)
    order: list[int] = []
    for step in range(first, total):
        epoch, position = divmod(step, an_epoch)
        if not order or position == 0:
            order = list(range(len(examples)))
            random.Random(stable_seed("order", seed, epoch)).shuffle(order)
        yield [examples[i] for i in order[position * size : (position + 1) * size]]


def train(
    model: torch.nn.Module,
    examples: Sequence[E],
    loss: Callable[[Sequence[E]], tuple[torch.Tensor, float]],
    loop: Loop,
    split: Callable[[Sequence[E]], Sequence[Sequence[E]]] | None = None,
    before: Callable[[int, float], None] | None = None,
    rates: Mapping[str, float] | None = None,
) -> int:
    """Train the parameters of ``model`` that require a gradient, with AdamW.

    Args:
        model: put into training mode, and into evaluation mode at the end.
        examples: what an epoch goes through.
        loss: gives for some examples the **sum** of their losses (or each one's) and its weight (labelled tokens,
            examples). A step's loss is the sum over its batch divided by the weight of that, however it is split.
        loop: hyper-parameters and surroundings.
        split: says which examples of a batch make a forward together; None: ``device_batch`` in a row.
        before: told each step, from 0, and its learning rate before it.
        rates: prefix of parameters' names -> how many times as fast as the others these learn.

    Returns:
        The number of steps made in all, those before a resume among them.

    Several processes share a step's parts, and the result is that of one.

    Raises:
        ConfigError: the loss is not finite, or several processes are to train what is not spread over them.
    """
    import torch

    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    _check_spread(trained)
    training = Training(trained, examples, loop, rates)
    model.train()
    for batch in training.batches():
        torch.manual_seed(training.seed)
        if before is not None:
            before(training.step, training.lr)
        training.update(_gradients(split(batch) if split else slices(batch, loop.device_batch), loss, trained))
    model.eval()
    return training.total


class Training(Generic[E]):
    """A training that someone else computes the gradients of: its batches, rate, updates, log and checkpoints.

    Args:
        trained: the parameters, by names that a checkpoint knows them by.
        examples: what an epoch goes through.
        loop: hyper-parameters and surroundings.
        rates: as in ``train``.
    """

    def __init__(
        self,
        trained: dict[str, torch.nn.Parameter],
        examples: Sequence[E],
        loop: Loop,
        rates: Mapping[str, float] | None = None,
    ) -> None:
        options = loop.options
        self.total = total_steps(options, len(examples))
        """Steps in all, those before a resume among them."""
        self.trained = trained
        self._examples = examples
        self._loop = loop
        factors = {
            p: factor for prefix, factor in (rates or {}).items() for n, p in trained.items() if n.startswith(prefix)
        }
        self._optimizer = adamw(trained.values(), options.weight_decay, factors)
        key = digest([options.model_dump(mode="json"), loop.seed, len(examples), sorted(trained), rates or {}])
        self.step = _resume(loop.checkpoint, key, trained, self._optimizer)
        """Steps made."""
        self._checkpoints = _Checkpoints(loop, key, trained, self._optimizer)

    @property
    def seed(self) -> int:
        """What the next step's random numbers are seeded with."""
        return stable_seed("step", self._loop.seed, self.step)

    @property
    def lr(self) -> float:
        """The next step's learning rate."""
        return rate(self._loop.options, self.step, self.total)

    def batches(self) -> Iterator[list[E]]:
        """Yield the batch of each step that is left; ``update`` is called before the next."""
        if self.step < self.total:
            size = self._loop.options.batch_size
            yield from batches(self._examples, size, self._loop.seed, self.step, self.total)

    def update(self, loss: float) -> None:
        """Make a step with the gradients that the parameters have; ``loss`` is its mean loss.

        Raises:
            ConfigError: the loss is not finite.
        """
        import torch

        if not math.isfinite(loss):
            raise ConfigError(f"the loss is {loss} at step {self.step + 1}", where="train", fix="lower train.lr")
        lr = self.lr
        for group in self._optimizer.param_groups:
            group["lr"] = lr * group["factor"]
        if self._loop.options.clip is not None:
            torch.nn.utils.clip_grad_norm_(list(self.trained.values()), self._loop.options.clip)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self._loop.log(self.step, loss=loss, lr=lr)
        if self.step < self.total:
            self._checkpoints.may_be_due(self.step)


def _check_spread(trained: dict[str, torch.nn.Parameter]) -> None:
    """Refuse several processes for what is not spread over them: each would train a model of its own."""
    from torch.distributed.tensor import DTensor

    if ranks() > 1 and not all(isinstance(p, DTensor) for p in trained.values()):
        raise ConfigError(
            "several GPUs train all weights of causal backbones only",
            where="gpu of the backbone",
            fix="set it to 1, or train.lora of a causal method to null",
        )


def adamw(
    parameters: Iterable[torch.nn.Parameter],
    weight_decay: float,
    factors: Mapping[torch.nn.Parameter, float] | None = None,
) -> torch.optim.Optimizer:
    """Return AdamW over ``parameters``; vectors are not decayed. ``factors`` says whose rate is multiplied by what."""
    import torch

    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for parameter in parameters:
        decay = weight_decay if parameter.ndim >= 2 else 0.0
        groups.setdefault(((factors or {}).get(parameter, 1.0), decay), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": own, "factor": factor, "weight_decay": decay} for (factor, decay), own in groups.items()]
    )


def slices(batch: Sequence[E], size: int) -> list[Sequence[E]]:
    """Return the examples of a batch, ``size`` at a time."""
    return [batch[start : start + size] for start in range(0, len(batch), size)]


def _gradients(
    parts: Sequence[Sequence[E]],
    loss: Callable[[Sequence[E]], tuple[torch.Tensor, float]],
    trained: dict[str, torch.nn.Parameter],
) -> float:
    """Leave the gradient of the parts' weighted mean on the parameters; return that mean.

    Of several processes each takes every n-th part. All make as many forwards: one without examples counts nothing.
    """
    total = weight = 0.0
    for examples in parts[rank() :: ranks()]:
        each, heavy = loss(examples or parts[0])
        part = each.sum() if examples else 0 * each.sum()
        part.backward()  # type: ignore[no-untyped-call]
        total += float(part.detach())
        weight += heavy if examples else 0.0
    total, weight = summed(total, weight)
    scale = weight or 1.0
    for parameter in trained.values():
        if parameter.grad is not None:
            parameter.grad.div_(scale / ranks())  # backward left the mean over the processes
    return total / scale


class _Checkpoints:
    """Checkpoints of a training, one from time to time."""

    def __init__(
        self, loop: Loop, key: str, trained: dict[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer
    ) -> None:
        self._loop = loop
        self._of = key, trained, optimizer
        self._last, self._pause = time.monotonic(), loop.save_every

    def may_be_due(self, step: int) -> None:
        """Write one after ``step`` steps if the last is long ago."""
        if not agreed(time.monotonic() - self._last >= self._pause):
            return
        began = time.monotonic()
        _save(self._loop.checkpoint, step, *self._of)
        self._last = time.monotonic()
        if self._loop.save_every:
            self._pause = max(self._loop.save_every, SAVING * (self._last - began))


def _save(
    folder: Path,
    step: int,
    key: str,
    trained: dict[str, torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
) -> None:
    import torch
    from safetensors.torch import save_file

    tensors = {f"model/{name}": whole(p.detach()) for name, p in trained.items()}
    numbers: dict[str, Any] = {}
    for name, parameter in trained.items():
        for slot, value in optimizer.state[parameter].items():
            if isinstance(value, torch.Tensor):
                tensors[f"optimizer/{name}/{slot}"] = whole(value)
            else:
                numbers[f"optimizer/{name}/{slot}"] = value
    if not leads():
        return
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / ".last.safetensors.tmp"
    state = json.dumps({"key": key, "step": step, "numbers": numbers})
    save_file({k: v.contiguous() for k, v in tensors.items()}, temporary, metadata={"state": state})
    temporary.chmod(0o644)
    temporary.replace(folder / "last.safetensors")


def _resume(folder: Path, key: str, trained: dict[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer) -> int:
    """Load the checkpoint of this very training, if there is one; return the number of steps made."""
    import torch
    from safetensors import safe_open

    path = folder / "last.safetensors"
    if not path.exists():
        return 0
    with safe_open(path, framework="pt") as stream:
        state = json.loads(stream.metadata()["state"])
        if state["key"] != key:
            return 0
        with torch.no_grad():
            for name, parameter in trained.items():
                parameter.copy_(spread_like(stream.get_tensor(f"model/{name}"), parameter))
        for entry in stream.keys():  # noqa: SIM118  (the handle is no mapping)
            if entry.startswith("optimizer/"):
                name, slot = entry.removeprefix("optimizer/").rsplit("/", 1)
                tensor = stream.get_tensor(entry)
                if tensor.ndim:
                    tensor = spread_like(tensor.to(trained[name].device), trained[name])
                optimizer.state[trained[name]][slot] = tensor
    for entry, number in state["numbers"].items():
        name, slot = entry.removeprefix("optimizer/").rsplit("/", 1)
        optimizer.state[trained[name]][slot] = number
    return int(state["step"])
