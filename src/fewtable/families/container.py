"""CONTaiNER: words as Gaussians, drawn together by label (Das et al. 2022; methods/fs-04).

On a source the encoder learns from batches of sentences, with all their words as a contrast to each other. On the
target it goes on with the support as one batch until the loss rises, and then takes for each word the class of the
nearest support word, with abstract transitions of the source. The Gaussians serve the loss alone: what is compared are
hidden states.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from fewtable.corpus import Sentence, Task, read_sentences, write_sentences
from fewtable.decoding.transitions import abstract_paths, count, read_counts, write_counts
from fewtable.families.base import Fit, Job, no_support
from fewtable.files import stable_seed
from fewtable.specs import Spec
from fewtable.training.loop import Loop, LoopOptions, train

if TYPE_CHECKING:
    from fewtable.training.encoder import Encoder

BACKBONES = frozenset({"encoder"})
OUTPUT = "io"
SUPPORT = "support.jsonl"


class Source(LoopOptions):
    """Training on a source; ``batch_size`` counts sentences that are a contrast to each other."""

    sentences: Annotated[int, Field(ge=1)] | None = None
    """Sentences of the source, drawn at random; None: all."""


class Finetune(Spec):
    """Training on a target's support, all of it in each step."""

    loss: Literal["kl", "euclidean"] = "kl"
    """Between Gaussians, or between their means at length 1: the paper's choice for one shot, where a variance cannot
    be known."""
    lr: Annotated[float, Field(gt=0)] = 5e-5
    clip: Annotated[float, Field(gt=0)] = 1.0
    """Largest norm of the gradient."""
    most: Annotated[int, Field(ge=0)] = 100
    """Steps, at most; the training ends before the first after which the loss is larger."""


class Train(Spec):
    """How words are seen, and what is learned from a source and from a support."""

    window: Annotated[int, Field(ge=8)] = 128
    """Most pieces of a forward; longer sentences are cut at word borders."""
    dimensions: Annotated[int, Field(ge=1)] = 128
    """Of the Gaussians."""
    source: Source | None = None
    """Train on batches of the support, a whole source, by the divergence of Gaussians."""
    finetune: Finetune | None = None
    """Train on the support of a target."""

    @model_validator(mode="after")
    def _one_support(self) -> Train:
        if self.source is not None and self.finetune is not None:
            raise ValueError("a support is a source or a target: give 'source' or 'finetune'")
        return self


class Decode(Spec):
    """How the nearest words become a path."""

    tau: Annotated[float, Field(gt=0)] | None = None
    """Power of the transition probabilities in Viterbi decoding; None: the class of the nearest word."""


class _Session:
    def __init__(self, job: Job, options: Train, encoder: Encoder) -> None:
        from fewtable.training.words import Words

        self._options = options
        self._tau = Decode.model_validate(job.spec.decoding or {}).tau
        self._words = Words(encoder, normalise=True)

    def fit(self, task: Task, fit: Fit) -> None:
        import torch

        from fewtable.training.encoder import WEIGHTS
        from fewtable.training.gaussian import ContrastLoss, Gaussians, finetune
        from fewtable.training.words import hand_on

        if not any(sentence.words for sentence in task.support):
            raise no_support(task, "words are compared with those of the support")
        options, encoder = self._options, self._words.encoder
        self._words.start(fit.init)
        torch.manual_seed(fit.seed)
        heads = Gaussians(encoder.size, options.dimensions).to(encoder.device)
        if fit.init is not None:
            heads.load(fit.init)
        both = torch.nn.ModuleDict({"encoder": encoder.model, "heads": heads})
        if options.source is not None or options.finetune is not None:
            self._words.changed()
        if options.source is not None:
            sentences = _some(task.support, options.source.sentences, fit.seed)
            # A word is a contrast to all words of its batch, so that a batch is one forward.
            loop = Loop(options.source, fit.seed, fit.log, fit.checkpoint, options.source.batch_size)
            train(both, sentences, ContrastLoss(encoder, heads, task.types, "kl"), loop)
        if (own := options.finetune) is not None:
            loss = ContrastLoss(encoder, heads, task.types, own.loss)
            finetune(
                both, lambda: loss(task.support), lr=own.lr, clip=own.clip, most=own.most, seed=fit.seed, log=fit.log
            )
        if options.source is None and options.finetune is None and fit.init is not None:
            hand_on(fit.init, fit.model, WEIGHTS)
        else:
            encoder.save(fit.model)
        if options.source is not None:
            heads.save(fit.model)
        write_counts(fit.model, count(task.support) if fit.init is None else read_counts(fit.init))
        write_sentences(fit.model / SUPPORT, task.support)

    def decode(self, task: Task, model: Path) -> Iterator[Any]:
        import torch

        from fewtable.training.metric import class_names, logits, word_classes
        from fewtable.training.words import tagged

        self._words.start(model)
        names = class_names(task.types, "io")
        support = read_sentences(model / SUPPORT)
        vectors, places = self._words([s.words for s in (*support, *task.query)])
        size = len(support)
        numbers = [n for s, at in zip(support, places[:size], strict=True) for n in word_classes(s, names, at, "io")]
        labels = torch.tensor(numbers, dtype=torch.long, device=self._words.encoder.device)
        with torch.inference_mode():
            known = torch.cat(vectors[:size])
            scores = [logits("nearest", v, known, labels, len(names)).log_softmax(-1) for v in vectors[size:]]
        if self._tau is None:
            paths = [s.argmax(-1).tolist() for s in scores]
        else:
            emissions = [s.double().cpu().numpy() for s in scores]
            paths = abstract_paths(emissions, read_counts(model), len(task.types), self._tau)
        yield from tagged(task.query, places[size:], paths, names)


def _some(sentences: Sequence[Sentence], count: int | None, seed: int) -> Sequence[Sentence]:
    if count is None or count >= len(sentences):
        return sentences
    return Random(stable_seed("source", seed)).sample(sentences, count)


def load(job: Job) -> _Session:
    """Load the encoder."""
    from fewtable.training.encoder import Encoder

    assert job.backbone is not None
    options = Train.model_validate(job.spec.train)
    return _Session(job, options, Encoder(job.backbone, job.spec.dtype, window=options.window))
