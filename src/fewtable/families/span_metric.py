"""Span-metric: spans are found, and get the type of the support spans that they are close to (methods/fs-05, 07, 08).

ESD (Wang et al. 2022) classifies every span of a few words, O by prototypes of its own. SpanProto (Wang et al. 2022)
finds spans by a global pointer and rejects those that are far from all prototypes; MSDP (Dong et al. 2023) also
compares the spans' surroundings. All learn on episodes of a source; on the target nothing is trained: the support is
what query spans are compared with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from fewtable.corpus import Entity, Sentence, Task, read_sentences, write_sentences
from fewtable.errors import ConfigError, DataError
from fewtable.families._episodes import Shape, from_source
from fewtable.families.base import Fit, Job, no_support
from fewtable.specs import Spec
from fewtable.training.loop import Loop, LoopOptions, train

if TYPE_CHECKING:
    from fewtable.training.encoder import Encoder
    from fewtable.training.esd import Esd
    from fewtable.training.msdp import Pretraining
    from fewtable.training.span_proto import SpanProto

BACKBONES = frozenset({"encoder"})
OUTPUT = "spans"
SUPPORT = "support.jsonl"


class EsdOptions(Spec):
    """ESD's spans."""

    name: Literal["esd"]
    longest: Annotated[int, Field(ge=1)] = 8
    """Most words of a span; longer entities are never found."""
    width: Annotated[int, Field(ge=1)] = 100
    """Of span vectors."""
    token_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """On the encoder's vectors."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Within a span's layers."""
    outside: Annotated[int, Field(ge=1)] | None = None
    """Most O spans of a support sentence in training, for memory; None: all."""


class SpanProtoOptions(Spec):
    """SpanProto's spans; MSDP's are compared by themselves and by their surroundings."""

    name: Literal["span-proto", "msdp"]
    inner: Annotated[int, Field(ge=2, multiple_of=2)] = 64
    """Width of the pointer's queries and keys."""
    margin: Annotated[float, Field(gt=0)] = 6.0
    """Distance from which on a span is no entity."""
    proposed: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Least probability of a span that is pushed from the prototypes in training."""
    most: Annotated[int, Field(ge=1)] = 50
    """Most spans of a window that are looked at, the likeliest."""
    alone: Annotated[int, Field(ge=0)] = 500
    """First steps of a training, in which the pointer learns alone."""


class PretrainingOptions(Spec):
    """MSDP's pre-training of the encoder, for a training of spans to start from."""

    name: Literal["msdp-pretraining"]
    temperature: Annotated[float, Field(gt=0)] = 0.5
    """Of the contrast between classes."""


class Adapt(LoopOptions):
    """Training on a source; ``batch_size`` counts episodes."""

    epochs: Annotated[int, Field(ge=0)] = 1
    episodes: Annotated[int, Field(ge=1)]
    """Episodes an epoch."""
    shape: Shape
    heads: Annotated[float, Field(gt=0)] = 1.0
    """How many times as fast as the encoder all other weights learn."""


class Train(Spec):
    """How spans are found and compared, and how that is learnt on a source."""

    model: Annotated[EsdOptions | SpanProtoOptions | PretrainingOptions, Field(discriminator="name")]
    window: Annotated[int, Field(ge=16)] = 128
    """Most pieces of a forward; longer sentences are cut at word borders."""
    adapt: Adapt | None = None
    """Train on episodes; None takes the weights of the run that this one starts from."""


class Decode(Spec):
    """Which spans are answers."""

    threshold: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Least probability of a span."""
    parity: Literal["beam", "lowered-threshold"] | None = None
    """A rule of the released code: ESD's search by mean score in place of the better span first, or SpanProto's
    threshold that falls until it has four spans in place of ``threshold``."""


RULES = {
    "beam": "A rule of the released code: spans are chosen by a beam search over their mean score.",
    "lowered-threshold": "A rule of the released code: the threshold falls until four spans are found, right or not.",
}


def oracle(train: Mapping[str, Any], decode: Mapping[str, Any]) -> str | None:
    """Say which rule of the released code resolved options switch on."""
    return RULES.get(decode.get("parity") or "")


Stamp = tuple[tuple[int, int, int, int], ...]


class _Session:
    def __init__(self, job: Job, options: Train, encoder: Encoder) -> None:
        self._options = options
        self._decode = Decode.model_validate(job.spec.decoding or {})
        self._encoder = encoder
        self._backbone = job.backbone
        self._ready: tuple[Stamp, Esd | SpanProto] | None = None
        own = "beam" if options.model.name == "esd" else "lowered-threshold"
        if self._decode.parity not in (None, own):
            raise ConfigError(
                f"'{self._decode.parity}' is no rule of {options.model.name}'s code",
                where="decode.parity",
                fix=f"take {own}, or null",
            )

    def _model(self, seed: int) -> Esd | SpanProto | Pretraining:
        """Return the model with random heads; those of the pre-training are the backbone's own where it has them."""
        import torch

        from fewtable.training.esd import Esd, EsdHeads
        from fewtable.training.global_pointer import Rule
        from fewtable.training.msdp import Pretraining, word_head
        from fewtable.training.span_proto import Options, SpanProto, SpanProtoHeads

        torch.manual_seed(seed)
        own, size = self._options.model, self._encoder.size
        if isinstance(own, EsdOptions):
            return Esd(
                self._encoder, EsdHeads(size, own.width, own.token_dropout, own.dropout), own.longest, own.outside
            )
        if isinstance(own, PretrainingOptions):
            assert self._backbone is not None
            return Pretraining(self._encoder, word_head(self._backbone, self._encoder), own.temperature)
        both = own.name == "msdp"
        options = Options(1 + both, own.margin, Rule(own.proposed, own.most), own.alone)
        return SpanProto(self._encoder, SpanProtoHeads(size, own.inner, mean=both), options)

    def fit(self, task: Task, fit: Fit) -> None:
        if not any(sentence.entities for sentence in task.support):
            raise no_support(task, "spans are compared with the entities of the support")
        if self._options.adapt is not None:
            self._adapt(task, fit, self._options.adapt)
        else:
            _carry(fit)
        write_sentences(fit.model / SUPPORT, task.support)

    def _adapt(self, task: Task, fit: Fit, options: Adapt) -> None:
        """Train; of the run that this one starts from come the encoder, and the heads where it has any."""
        from fewtable.training.spans import HEADS

        self._ready = None
        self._encoder.start(fit.init)
        model = self._model(fit.seed)
        if fit.init is not None and (fit.init / HEADS).exists():
            model.take(fit.init)
        draw = from_source(task, options.shape, fit.seed)
        loop = Loop(options, fit.seed, fit.log, fit.checkpoint, device_batch=1)
        train(
            model,
            range(options.episodes),
            lambda numbers: model.loss(draw(numbers[0])),
            loop,
            before=model.before,
            rates={"heads.": options.heads},
        )
        model.save(fit.model)

    def decode(self, task: Task, model: Path) -> Iterator[Any]:
        from fewtable.decoding.spans import beam, greedy

        choose = beam if self._decode.parity == "beam" else greedy
        for found in self._candidates(self._trained(model), task, read_sentences(model / SUPPORT)):
            yield [list(span) for span in choose(found)]

    def _candidates(
        self, model: Esd | SpanProto, task: Task, support: list[Sentence]
    ) -> Iterator[list[tuple[float, Entity]]]:
        from fewtable.training.esd import Esd
        from fewtable.training.global_pointer import Rule

        if isinstance(model, Esd):
            for found in model.candidates(task.types, support, task.query):
                yield [pair for pair in found if pair[0] >= self._decode.threshold]
        else:
            assert isinstance(self._options.model, SpanProtoOptions)
            lowered = self._decode.parity == "lowered-threshold"
            rule = Rule(self._decode.threshold, self._options.model.most, lowered)
            yield from model.candidates(task.types, support, task.query, rule)

    def _trained(self, folder: Path) -> Esd | SpanProto:
        """Return the model of a folder; draws that start from one source have one model, and it is read once."""
        from fewtable.training.encoder import WEIGHTS
        from fewtable.training.msdp import Pretraining
        from fewtable.training.spans import HEADS

        files = [(folder / name).stat() for name in (WEIGHTS, HEADS) if (folder / name).exists()]
        stamp = tuple((f.st_dev, f.st_ino, f.st_size, f.st_mtime_ns) for f in files)
        if self._ready is None or self._ready[0] != stamp:
            model = self._model(0)
            if isinstance(model, Pretraining):
                raise ConfigError(
                    "a pre-training answers nothing", where="train.model", fix="ask a method that starts from it"
                )
            model.take(folder)
            model.eval()
            self._ready = stamp, model
        return self._ready[1]


def _carry(fit: Fit) -> None:
    """Give the weights of the run that this one starts from a second name."""
    from fewtable.training.encoder import WEIGHTS
    from fewtable.training.spans import HEADS
    from fewtable.training.words import hand_on

    if fit.init is None:
        raise ConfigError(
            "nothing is trained, and there is no run to start from",
            where="train.adapt",
            fix="give the method an 'init', or episodes to train on",
        )
    for name in (WEIGHTS, HEADS):
        if not (fit.init / name).exists():
            raise DataError(
                f"the run to start from has no {name}", where=str(fit.init), fix="start from a run of this method"
            )
    hand_on(fit.init, fit.model, WEIGHTS, HEADS)


def load(job: Job) -> _Session:
    """Load the encoder."""
    from fewtable.training.encoder import Encoder

    assert job.backbone is not None
    options = Train.model_validate(job.spec.train)
    return _Session(job, options, Encoder(job.backbone, job.spec.dtype, window=options.window))
