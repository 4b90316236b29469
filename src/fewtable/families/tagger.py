"""Tagger: a linear classifier on word states, one BIO tag a word (LC-BERT, LC-BART; methods/04)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from fewtable.corpus import Task
from fewtable.decoding.transitions import count, write_counts
from fewtable.families.base import Fit, Job, no_support
from fewtable.specs import Spec
from fewtable.training.loop import Loop, LoopOptions, train

if TYPE_CHECKING:
    from fewtable.training.encoder import Encoder

BACKBONES = frozenset({"encoder", "seq2seq"})
OUTPUT = "bio"


class Train(LoopOptions):
    """Hyper-parameters of the fine-tuning."""

    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """On word states, before the linear layer."""
    window: Annotated[int, Field(ge=8)] = 128
    """Most pieces of a forward; longer sentences are cut at word borders."""
    crf: Annotated[float, Field(gt=0)] | None = None
    """Score the tags of a sentence together by a linear-chain CRF that learns this many times as fast as the rest."""


class Decode(Spec):
    """Decoding is the best tag of each word, with a CRF the best path; it has no options."""


class _Session:
    def __init__(self, job: Job, options: Train, encoder: Encoder) -> None:
        self._options = options
        self._device_batch = job.device_batch
        self._encoder = encoder

    def fit(self, task: Task, fit: Fit) -> None:
        import torch

        from fewtable.training.tagging import TagModel, tag_inventory

        self._encoder.start(fit.init)
        torch.manual_seed(fit.seed)
        model = TagModel(self._encoder, tag_inventory(task.types), self._options.dropout, self._options.crf)
        examples = model.prepare(task.support)
        if not examples:
            raise no_support(task, "a tagger learns from examples")
        loop = Loop(self._options, fit.seed, fit.log, fit.checkpoint, self._device_batch)
        train(model, examples, model.loss, loop)
        model.save(fit.model)
        write_counts(fit.model, count(task.support))

    def decode(self, task: Task, model: Path) -> Iterator[Any]:
        from fewtable.training.tagging import TagModel

        trained = TagModel.load(self._encoder, model, self._options.crf)
        yield from trained.tag([sentence.words for sentence in task.query])


def load(job: Job) -> _Session:
    """Load the encoder."""
    from fewtable.training.encoder import Encoder

    assert job.backbone is not None
    options = Train.model_validate(job.spec.train)
    return _Session(job, options, Encoder(job.backbone, job.spec.dtype, window=options.window))
