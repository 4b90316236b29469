"""Decomposed meta-learning (Ma et al. 2022; methods/fs-06): first where entities are, then of which type.

With ``meta`` two models learn from episodes of a source how to learn from a support. Without, both take their steps on
the support of the task, and the type of a span is that of the best prototype. One encoder is in memory: the models take
turns on it, and lie side by side in the model folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from fewtable.corpus import Task
from fewtable.families._episodes import Shape, from_source
from fewtable.families.base import Fit, Job, no_support
from fewtable.specs import Spec
from fewtable.training.loop import Loop, LoopOptions

if TYPE_CHECKING:
    from fewtable.training.decom import Part, SpanTagger, SpanTyper
    from fewtable.training.encoder import Encoder

BACKBONES = frozenset({"encoder"})
OUTPUT = "spans"
PROTOTYPES = "prototypes.safetensors"


class Inner(Spec):
    """Steps of a fresh AdamW on the support of a task."""

    steps: Annotated[int, Field(ge=0)]
    lr: Annotated[float, Field(gt=0)]
    weight_decay: Annotated[float, Field(ge=0)] = 0.01


class Spans(Inner):
    """The span model on a support."""

    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """On word vectors."""
    worst: Annotated[float, Field(ge=0)] = 0.0
    """Weight lambda of the mean over sentences of the largest loss of a word."""


class Types(Inner):
    """The type model on a support."""

    kappa: Annotated[float, Field(gt=0)] = 10.0
    """Scores are kappa * (span . prototype) / size of the encoder."""
    flow: bool = False
    """Let the gradient of the losses flow through the prototypes."""


class Outer(LoopOptions):
    """Meta steps; ``batch_size`` counts the episodes of one, whose gradients are added up."""

    epochs: Annotated[int, Field(ge=0)] = 1
    steps: Annotated[int, Field(ge=1)]
    """Meta steps an epoch."""


class OuterSpans(Outer):
    """Meta steps of the span model."""

    worst: Annotated[float, Field(ge=0)] = 0.0
    """Weight lambda in the loss of the query."""


class Meta(Spec):
    """Meta-training on a source."""

    shape: Shape
    spans: OuterSpans
    types: Outer


class Train(Spec):
    """The two models, and how they learn."""

    window: Annotated[int, Field(ge=8)] = 128
    """Most pieces of a forward; longer sentences are cut at word borders."""
    spans: Spans
    types: Types
    meta: Meta | None = None
    """Learn from episodes of the support, a whole source; None: learn from the support itself."""
    parity: tuple[Literal["stale-prototypes"], ...] = ()
    """Faults of the released code: prototypes from before the last step on the support."""


class Decode(Spec):
    """Which spans are answers."""

    threshold: float | None = None
    """A span whose best type scores this much or less is dropped."""


def oracle(train: Mapping[str, Any], decode: Mapping[str, Any]) -> str | None:
    """Say which faults of the released code resolved options switch on."""
    if "stale-prototypes" in train["parity"]:
        return "A fault of the released code: prototypes are from before the last step on the support."
    return None


class _Session:
    def __init__(self, job: Job, options: Train, encoder: Encoder) -> None:
        self._options = options
        self._threshold = Decode.model_validate(job.spec.decoding or {}).threshold
        self._encoder = encoder

    def _spans(self) -> SpanTagger:
        from fewtable.training.decom import SpanTagger

        meta = self._options.meta
        worst = (self._options.spans.worst, meta.spans.worst if meta else 0.0)
        return SpanTagger(self._encoder, self._options.spans.dropout, worst)

    def _types(self) -> SpanTyper:
        from fewtable.training.decom import SpanTyper

        types = self._options.types
        stale = "stale-prototypes" in self._options.parity
        return SpanTyper(self._encoder, types.kappa, flow=types.flow, stale=stale)

    def fit(self, task: Task, fit: Fit) -> None:
        import torch
        from safetensors.torch import save_file

        from fewtable.training.decom import lesson
        from fewtable.training.episode import Episode

        if not any(sentence.entities for sentence in task.support):
            raise no_support(task, "a type's prototype is the mean of its mentions in the support")
        meta = self._options.meta
        torch.manual_seed(fit.seed)
        spans = self._spans()
        done = self._learn(spans, task, fit, self._options.spans, meta.spans if meta else None, 0)
        types = self._types()
        self._learn(types, task, fit, self._options.types, meta.types if meta else None, done)
        with torch.no_grad():
            table = types.table(lesson(self._encoder, Episode(task.types, task.support)))
        save_file({"means": table.means, "present": table.present}, fit.model / PROTOTYPES)
        (fit.model / PROTOTYPES).chmod(0o644)

    def _learn(self, part: Part, task: Task, fit: Fit, inner: Inner, outer: Outer | None, done: int) -> int:
        """Train and save a model; its steps are logged from ``done`` + 1. Return the number of the last."""
        import torch

        from fewtable.training import meta
        from fewtable.training.decom import lesson
        from fewtable.training.episode import Episode

        part.start(fit.init)
        steps = meta.Inner(inner.steps, inner.lr, inner.weight_decay)
        if outer is None:
            part.train()
            torch.manual_seed(fit.seed)
            losses = meta.adapt(part, lesson(self._encoder, Episode(task.types, task.support)), steps, inner.lr)
            part.eval()
            for number, loss in enumerate(losses, done + 1):
                fit.log(number, loss=loss, lr=inner.lr)
            done += len(losses)
        else:
            assert self._options.meta is not None
            draw = from_source(task, self._options.meta.shape, fit.seed)
            loop = Loop(
                outer,
                fit.seed,
                lambda step, **values: fit.log(done + step, **values),
                fit.checkpoint / part.key,
                outer.batch_size,
            )
            episodes = outer.steps * outer.batch_size
            done += meta.meta_train(part, lambda n: lesson(self._encoder, draw(n)), episodes, steps, loop)
        part.save(fit.model)
        return done

    def decode(self, task: Task, model: Path) -> Iterator[Any]:
        from safetensors.torch import load_file

        from fewtable.training.decom import Table
        from fewtable.training.spans import read

        spans = self._spans()
        spans.start(model)
        found = spans.eval().find([read(self._encoder, sentence) for sentence in task.query])
        types = self._types()
        types.start(model)
        table = Table(**load_file(model / PROTOTYPES, device=str(self._encoder.device)))
        for text, kinds in zip(found, types.eval().name(found, table, self._threshold), strict=True):
            named = ((s, e, kind) for (s, e, _), kind in zip(text.gold, kinds, strict=True) if kind is not None)
            yield [list(text.entity(s, e, task.types[kind])) for s, e, kind in named]


def load(job: Job) -> _Session:
    """Load the encoder."""
    from fewtable.training.encoder import Encoder

    assert job.backbone is not None
    options = Train.model_validate(job.spec.train)
    return _Session(job, options, Encoder(job.backbone, job.spec.dtype, window=options.window))
