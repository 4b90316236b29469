"""What a family is: the contract between the runner and the code that trains and decodes.

A family is one module of this package. It imports nothing heavy at its top (the plan loads it to validate
hyper-parameters); torch and transformers are imported inside functions. It defines

- ``Train`` and ``Decode``: pydantic specs of its hyper-parameters (``fewtable.specs.Spec`` subclasses),
- ``BACKBONES``: the kinds of backbone that it accepts,
- ``OUTPUT``: the kind of output that it writes, which its format must parse (``text``, ``bio``, ``io``, ``spans``,
  ``pointers``); a set of kinds when the format chooses among them,
- ``load(job)``: a Session,
- ``PARALLEL = True`` where its training shares the work of a job among several processes, one a GPU; others get one,
- ``oracle(train, decode)`` where options switch on faults of released code: the sentence that is printed with the
  cells, or None. It marks what starts from such a run too.

A session that can train several draws at once says how many under ``together`` and has ``fit_together(tasks, fits)``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from fewtable.corpus import Task
from fewtable.errors import ConfigError
from fewtable.specs import RunSpec


class TrainLog(Protocol):
    """Where training reports: one call a step."""

    def __call__(self, step: int, **values: float) -> None:
        """Record values (loss, lr, ...) at an optimiser step."""


@dataclass(frozen=True)
class Job:
    """What a family needs to load its backbone once for a block of draws."""

    spec: RunSpec
    backbone: Path | None
    """Folder of the pretrained weights in transformers' layout; None for backbone ``none``."""
    device_batch: int
    """Most sentences a training forward holds at once."""
    journal: Path | None = None
    """File for answers that cost money: it outlives a killed job, and the job's end. None keeps them nowhere."""
    gradient_checkpointing: bool = False
    """Whether text models compute activations again in the backward: slower, and less memory."""


@dataclass(frozen=True)
class Fit:
    """One draw's training."""

    model: Path
    """Empty folder to write the trained model to (safetensors, adapter, JSON). It appears only when complete."""
    checkpoint: Path
    """Folder that outlives a killed job; training resumes from what it finds there. The runner removes it."""
    init: Path | None
    """Model folder of the run to start from."""
    seed: int
    log: TrainLog


class Session(Protocol):
    """One backbone in memory, serving the draws of a block one after another."""

    def fit(self, task: Task, fit: Fit) -> None:
        """Train on ``task.support`` from the backbone's own weights (or ``fit.init``) and write ``fit.model``."""

    def decode(self, task: Task, model: Path) -> Iterator[Any]:
        """Yield one output (a JSON value the format can parse) for every sentence of ``task.query``, in order."""


def no_support(task: Task, why: str) -> ConfigError:
    """Return the error of a draw whose support has nothing that ``why`` asks for."""
    return ConfigError(
        f"{why} and the support has none",
        where=f"draw {task.draw}",
        fix="use a setting whose sampler draws sentences",
    )
