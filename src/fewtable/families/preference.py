"""preference: an adapter goes on from another run's by DPO, on shifted boundaries and on its own errors."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from itertools import compress
from typing import TYPE_CHECKING, Literal

from fewtable.corpus import Task
from fewtable.errors import ConfigError
from fewtable.families import causal
from fewtable.families.base import Fit, Job
from fewtable.formats.base import Example
from fewtable.formats.brackets import Brackets
from fewtable.training.loop import Loop
from fewtable.training.preference import Preference

if TYPE_CHECKING:
    from fewtable.training.preference import Preferred

log = logging.getLogger(__name__)

BACKBONES = frozenset({"causal"})
OUTPUT = "text"
ADAPTER = ("adapter_config.json", "adapter_model.safetensors")


class Train(causal.Train, Preference):
    """Hyper-parameters of the preference training."""

    lora: causal.Lora = causal.Lora()
    """Those of the run that this one starts from."""
    contrast: None = None
    """A fine-tuning's."""
    noise: Literal[0] = 0
    """A fine-tuning's."""
    answers: causal.Decode = causal.Decode()
    """How the support is answered to find the errors of the run that this one starts from: as ``decode`` says."""


Decode = causal.Decode


class _Session(causal._Session):
    def __init__(self, job: Job, options: Train, decode: Decode) -> None:
        super().__init__(job, options, decode)
        self._preference = options

    @property
    def together(self) -> int:
        """One: TRL trains a draw at a time."""
        return 1

    def fit(self, task: Task, fit: Fit) -> None:
        """Train on pairs of answers to the support.

        Where there are no pairs, the adapter stays as it is.

        Raises:
            ConfigError: there is no run to start from, its weights are no adapter, TRL is not installed, the format
                is not ``brackets``, or the loss is not finite.
        """
        from fewtable.training.preference import prefer
        from fewtable.training.weights import check_init

        form = self._format(task)
        if not isinstance(form, Brackets):
            raise ConfigError(
                "answers are compared where each is about one type, in the tokenizer's own tokens",
                where="format",
                fix="take format brackets",
            )
        if fit.init is None:
            raise ConfigError(
                "family 'preference' goes on from a fine-tuned adapter and has none",
                where="init",
                fix="name the method that trains it: init: {method: ...}",
            )
        options = self._preference
        check_init(fit.init, options.lora.model_dump())
        pairs = self._pairs(form, task, fit)
        if not pairs:
            log.warning("draw %d: no pair of answers, the adapter stays as it is", task.draw)
            for name in ADAPTER:
                shutil.copyfile(fit.init / name, fit.model / name)
            return
        log.info("draw %d: %d pairs of answers", task.draw, len(pairs))
        loop = Loop(options, fit.seed, fit.log, fit.checkpoint, options.batch_size)
        with self._start_adapters(fit, options.lora) as model:
            with self._checkpointed(model):
                prefer(model, pairs, options, loop, self.tokenizer)
            self.save(model, fit.model)

    def _pairs(self, form: Brackets, task: Task, fit: Fit) -> list[Preferred]:
        """Return the pairs of the support's sentences, each once."""
        from fewtable.training.preference import boundary_pairs, error_pairs, preferred

        found: list[tuple[Example, Example]] = []
        for sentence, answers in zip(task.support, self._answered(form, task, fit), strict=True):
            found += boundary_pairs(form, sentence, self._preference.shifts, task.draw)
            found += error_pairs(form, sentence, answers)
        made = [preferred(*self.rows([right, wrong])) for right, wrong in found]
        return [pair for pair in dict.fromkeys(made) if pair.chosen != pair.rejected]

    def _answered(self, form: Brackets, task: Task, fit: Fit) -> list[list[str | None]]:
        """Return how the run that this one starts from answers what it was trained on; None where it was not asked."""
        assert fit.init is not None
        learned = set(form.questions(task.support, task.draw))
        asked = [[(sentence, name) in learned for name in form.names] for sentence in task.support]
        queries = (form.render(replace(sentence, entities=())) for sentence in task.support)
        groups = [
            [self.prompt(query) for query in compress(of_one, own)] for of_one, own in zip(queries, asked, strict=True)
        ]
        with self.trained(fit.init) as model:
            given = [iter(answers) for answers in self.answers(model, groups, form, task.support)]
        return [[next(own) if yes else None for yes in row] for row, own in zip(asked, given, strict=True)]


def load(job: Job) -> _Session:
    """Load the tokenizer; the weights are loaded when first used."""
    options = Train.model_validate(job.spec.train)
    return _Session(job, options, Decode.model_validate(job.spec.decoding) if job.spec.decoding else options.answers)
