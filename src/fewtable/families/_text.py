"""What the families of text models share: examples through the format, training, and answers to the query."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewtable.corpus import Sentence, Task
from fewtable.decoding.generate import Generation
from fewtable.errors import ConfigError
from fewtable.families.base import Fit, Job, TrainLog
from fewtable.formats.base import Example, Format
from fewtable.predictions import entity_types, formats_of, make_format, task_types
from fewtable.specs import RunSpec
from fewtable.training.loop import Loop, LoopOptions, train
from fewtable.training.parallel import leads

if TYPE_CHECKING:
    from fewtable.training.sft import Loss

log = logging.getLogger(__name__)

SAVE_EVERY = 30.0
"""Seconds between checkpoints."""


class TextSession(ABC):
    """A session of a family whose model reads a prompt and writes an answer."""

    def __init__(self, job: Job, options: LoopOptions, generation: Generation) -> None:
        from transformers import AutoTokenizer
        from transformers.utils import logging as progress

        from fewtable.training.device import pick_device

        assert job.backbone is not None
        progress.disable_progress_bar()
        self.folder = job.backbone
        self.spec = job.spec
        self.device = pick_device()
        self.tokenizer: Any = AutoTokenizer.from_pretrained(job.backbone, use_fast=True)
        self.labels: tuple[str, ...] = ()
        self._plain = self.tokenizer
        self._options = options
        self._generation = generation
        self._device_batch = job.device_batch
        self._gradient_checkpointing = job.gradient_checkpointing

    @abstractmethod
    def rows(self, examples: Sequence[Example]) -> Sequence[Any]:
        """Return the tokens of what the model is trained on."""

    @abstractmethod
    def prompt(self, example: Example) -> tuple[int, ...]:
        """Return the ids of what the model reads."""

    @abstractmethod
    def answers(
        self, model: Any, groups: Sequence[Sequence[tuple[int, ...]]], form: Format, sentences: Sequence[Sentence]
    ) -> Sequence[Sequence[str]]:
        """Return the model's answers to the prompts of each sentence, in a format."""

    @abstractmethod
    def start(self, fit: Fit) -> AbstractContextManager[Any]:
        """Give a model to train, from the backbone's own weights or ``fit.init``."""

    @abstractmethod
    def loss(self, model: Any) -> Loss[Any]:
        """Return the loss of ``model``."""

    @abstractmethod
    def split(self, rows: Sequence[Any]) -> Sequence[Sequence[Any]]:
        """Return the rows of a step as its forwards: no more tokens in each than ``device_batch`` of the longest."""

    def heard(self, log: TrainLog, part: int = 0) -> TrainLog:
        """Return a log that hears also what else a step has to say; of trainings at once, that of one."""
        return log

    @abstractmethod
    def save(self, model: Any, folder: Path) -> None:
        """Write the trained weights."""

    @abstractmethod
    def trained(self, folder: Path) -> AbstractContextManager[Any]:
        """Give a model that ``save`` wrote, to generate with."""

    def fit(self, task: Task, fit: Fit) -> None:
        """Train on the support.

        Raises:
            ConfigError: the support is empty, or the loss is not finite.
        """
        from fewtable.training.labels import read_labels, write_labels

        form = self._format(task)
        self._speak((*read_labels(fit.init), *form.tokens))
        rows = self.learned(form, task)
        with self.start(fit) as model:
            with self._checkpointed(model):
                train(model, rows, self.loss(model), self._loop(fit), self.split)
            self.save(model, fit.model)
            if self.labels and leads():
                write_labels(fit.model, self.labels, model.config)

    def learned(self, form: Format, task: Task) -> Sequence[Any]:
        """Return the tokens of what the model is trained on for a task; raise ConfigError where there is nothing."""
        rows = self.rows(form.examples(_sourced(task.support, self.spec.dataset), task.draw))
        if not rows:
            raise ConfigError(
                f"family '{self.spec.family}' learns from examples and the support has none",
                where=f"draw {task.draw}",
                fix="use a setting whose sampler draws sentences",
            )
        return rows

    def decode(self, task: Task, model: Path) -> Iterator[Any]:
        """Answer the query; the answers are yielded when all are there, since batches go by length."""
        from fewtable.training.labels import read_labels

        form = self._format(task)
        self._speak(read_labels(model))
        groups = [[self.prompt(query) for query in of_one] for of_one in queries(self.spec, task)]
        with self.trained(model) as trained:
            for answers in self.answers(trained, groups, form, task.query):
                yield list(answers) if form.several else answers[0]

    def _loop(self, fit: Fit, part: int = 0) -> Loop:
        log = self.heard(fit.log, part)
        return Loop(self._options, fit.seed, log, fit.checkpoint, self._device_batch, SAVE_EVERY)

    @contextmanager
    def _checkpointed(self, model: Any) -> Iterator[None]:
        """Compute activations again in the backward, where the user's config says so."""
        if self._gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        try:
            yield
        finally:
            if self._gradient_checkpointing:
                model.gradient_checkpointing_disable()

    def _format(self, task: Task) -> Format:
        return format_of(self.spec, task)

    def _speak(self, labels: Sequence[str]) -> None:
        """Make the tokenizer that of a model with these label tokens, the first of each kind."""
        from fewtable.training.labels import with_labels

        self.labels = tuple(dict.fromkeys(labels))
        self.tokenizer = with_labels(self._plain, self.labels) if self.labels else self._plain

    def _grown(self, model: Any, known: Sequence[str], seed: int) -> Any:
        """Return a model whose weights are all its own with random rows for the labels after the ``known`` ones."""
        from fewtable.training.labels import grow

        if len(known) < len(self.labels):
            grow(model, len(self._plain) + len(known), len(self.tokenizer), seed)
        return model


def format_of(spec: RunSpec, task: Task) -> Format:
    """Return a run's format for a task's types."""
    return make_format(spec.format, task_types(entity_types(spec.types), task.types))


def queries(spec: RunSpec, task: Task) -> list[Sequence[Example]]:
    """Return the queries of each sentence, rendered without its gold entities, so that none can reach a prompt.

    They ask about the task's types, or those that the task says are asked about the sentence.
    """
    forms = formats_of(task, lambda names: make_format(spec.format, task_types(entity_types(spec.types), names)))
    asked = (replace(sentence, entities=()) for sentence in _sourced(task.query, spec.dataset))
    return [form.render(sentence) for form, sentence in zip(forms, asked, strict=True)]


def _sourced(sentences: Sequence[Sentence], dataset: str) -> list[Sentence]:
    """Return sentences that know their dataset, which a format may show."""
    return [replace(sentence, source=sentence.source or dataset) for sentence in sentences]


def cut(ids: Sequence[int], limit: int, *, keep_end: bool) -> tuple[int, ...]:
    """Return at most ``limit`` ids; say so when some are lost."""
    if len(ids) <= limit:
        return tuple(ids)
    log.warning("a text of %d tokens is cut to %d", len(ids), limit)
    return tuple(ids[-limit:] if keep_end else ids[:limit])
