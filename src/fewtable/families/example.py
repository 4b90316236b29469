"""Example: spans by their likeness to marked support mentions (Ziyadi et al. 2020; methods/09).

Nothing is trained on the target; with ``adapt`` the encoder and its two markers are trained on a source.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from fewtable.corpus import Task, read_sentences, write_sentences
from fewtable.decoding.example import answer
from fewtable.families.base import Fit, Job, no_support
from fewtable.specs import Spec
from fewtable.training.loop import Loop, LoopOptions, train

if TYPE_CHECKING:
    from fewtable.training.encoder import Encoder

BACKBONES = frozenset({"encoder"})
OUTPUT = "spans"
SUPPORT = "support.jsonl"


class Adapt(LoopOptions):
    """Training on a source; ``batch_size`` counts episodes, each a query and its support mentions."""

    epochs: Annotated[int, Field(ge=0)] = 1
    episodes: Annotated[int, Field(ge=1)]
    """Episodes an epoch."""
    supports: Annotated[int, Field(ge=1)] = 10
    """Most support mentions of an episode."""
    negatives: Annotated[float, Field(ge=0, le=1)] = 1 / 3
    """Share of the episodes that ask for a type that the query does not hold."""


class Train(Spec):
    """How texts are seen, and what is learnt on a source."""

    window: Annotated[int, Field(ge=16)] = 128
    """Most pieces of a forward; longer sentences are cut at word borders."""
    adapt: Adapt | None = None
    """Train the encoder; None leaves it as it is."""


class Decode(Spec):
    """Which spans are answers."""

    threshold: Annotated[float, Field(ge=0, le=1)] = 0.45
    """Least mean of a span's start and end probability."""
    longest: Annotated[int, Field(ge=1)] = 12
    """Most words of a span."""


class _Session:
    def __init__(self, job: Job, options: Train, encoder: Encoder) -> None:
        self._adapt = options.adapt
        self._decode = Decode.model_validate(job.spec.decoding or {})
        self._device_batch = job.device_batch
        self._encoder = encoder

    def fit(self, task: Task, fit: Fit) -> None:
        if not any(sentence.entities for sentence in task.support):
            raise no_support(task, "spans are compared with the mentions of the support")
        self._encoder.start(fit.init)
        if self._adapt is not None:
            self._train(task, fit, self._adapt)
        self._encoder.save(fit.model)
        write_sentences(fit.model / SUPPORT, task.support)

    def _train(self, task: Task, fit: Fit, options: Adapt) -> None:
        from fewtable.training.example import Episodes, ExampleLoss

        draw = Episodes(task.support, options.supports, options.negatives, fit.seed)
        of = ExampleLoss(self._encoder)
        together = max(1, self._device_batch // (options.supports + 1))
        loop = Loop(options, fit.seed, fit.log, fit.checkpoint, together)
        numbers = range(options.episodes)
        train(self._encoder.model, numbers, lambda batch: of([draw(number) for number in batch]), loop)

    def decode(self, task: Task, model: Path) -> Iterator[Any]:
        from fewtable.training.example import Known

        self._encoder.load(model)
        support = {
            name: [(s, e) for s in read_sentences(model / SUPPORT) for e in s.entities if e.type == name]
            for name in task.types
        }
        windows = [self._encoder.windows(sentence.words) for sentence in task.query]
        known = Known(self._encoder, support)
        for spans in answer(known, windows, self._decode.threshold, self._decode.longest):
            yield [list(span) for span in spans]


def load(job: Job) -> _Session:
    """Load the encoder and add its markers."""
    from fewtable.training.encoder import Encoder
    from fewtable.training.example import MARKERS

    assert job.backbone is not None
    options = Train.model_validate(job.spec.train)
    return _Session(job, options, Encoder(job.backbone, job.spec.dtype, window=options.window, markers=MARKERS))
