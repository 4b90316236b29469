"""Token-metric: a word gets the class of the support words that it is close to (methods/fs-01, 08, 10).

NNShot and StructShot follow Yang & Katiyar 2020: normalised last layer, nearest word, no training on the target; with
``init`` the encoder is that of a tagger trained on a source. ProtoBERT follows Few-NERD: sum of the last four layers,
class means, episodic training. Neigh.Tag. (Wiseman & Stratos 2019) sums the shares of a softmax over the words of
neighbouring sentences, and learns to on a source. MP-NSP (Huang et al. 2020) averages over groups of the support, each
with class means of its own. The format says what the classes are: types (``io``), or B and I tags of each (``bio``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from fewtable.corpus import Sentence, Task, read_sentences, write_sentences
from fewtable.decoding.transitions import count, expand, log_floored, read_counts, viterbi, write_counts
from fewtable.errors import ConfigError
from fewtable.families._episodes import Shape, from_source, leave_one_out
from fewtable.families.base import Fit, Job, no_support
from fewtable.specs import Spec
from fewtable.training.loop import Loop, LoopOptions, train

if TYPE_CHECKING:
    import torch

    from fewtable.training.encoder import Encoder
    from fewtable.training.metric import Tags

BACKBONES = frozenset({"encoder"})
OUTPUT = frozenset({"io", "bio"})
SUPPORT = "support.jsonl"


class Adapt(LoopOptions):
    """Training on the support, in episodes (``batch_size`` counts them) or by neighbours (it counts sentences)."""

    epochs: Annotated[int, Field(ge=0)] = 1
    episodes: Annotated[int, Field(ge=1)] | None = None
    """Episodes an epoch."""
    neighbours: Annotated[int, Field(ge=1)] | None = None
    """Ask each sentence of this many others, the nearest by mean word vector, whose words carry no gradient."""
    shape: Shape | None = None
    """None: an episode is some sentences of the support, each asked of the others (leave-one-out)."""
    sentences: Annotated[int, Field(ge=2)] = 32
    """Sentences of a leave-one-out episode."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """On word vectors, in episodes."""

    @model_validator(mode="after")
    def _one_way(self) -> Adapt:
        if (self.episodes is None) == (self.neighbours is None):
            raise ValueError("give either 'episodes' or 'neighbours'")
        return self


class Train(Spec):
    """How words are seen and compared."""

    head: Literal["prototype", "nearest", "mass"]
    """Distance to the mean of a class, or to its nearest word, or its share of a softmax over all words."""
    layers: Literal["last", "sum4"]
    """Word vectors: the last hidden layer, or the sum of the last four."""
    normalise: bool
    """Bring word vectors to length 1."""
    window: Annotated[int, Field(ge=8)] = 128
    """Most pieces of a forward; longer sentences are cut at word borders."""
    transitions: Literal["support", "source"] = "support"
    """Where abstract transitions are counted: the support, or the run that this one starts from."""
    adapt: Adapt | None = None
    """Train the encoder; None leaves it as it is."""


class Decode(Spec):
    """How classes become a path."""

    tau: Annotated[float, Field(gt=0)] | None = None
    """Power of the transition probabilities in Viterbi decoding; None: the best class of each word.

    It holds for one scale of distances only: choose it anew when ``normalise`` changes."""
    neighbours: Annotated[int, Field(ge=1)] | None = None
    """Compare a sentence with this many of the support, the nearest by mean word vector; None: with all."""
    groups: Annotated[int, Field(ge=1)] = 1
    """Deal the support into so many groups and average the probabilities that each gives."""

    @model_validator(mode="after")
    def _one_part(self) -> Decode:
        if self.neighbours is not None and self.groups > 1:
            raise ValueError(
                "'neighbours' compares each sentence with a part of the support of its own, 'groups' with all parts "
                "of one deal: give neighbours: null, or leave groups at 1"
            )
        return self


class _Session:
    def __init__(self, job: Job, encoder: Encoder) -> None:
        self._options = Train.model_validate(job.spec.train)
        self._decode = Decode.model_validate(job.spec.decoding or {})
        self._tags: Tags = job.spec.format["name"]
        self._device_batch = job.device_batch
        self._encoder = encoder
        if self._tags == "bio" and self._decode.tau is not None:
            raise ConfigError(
                "abstract transitions are those of io tags",
                where="decode.tau",
                fix="take format: {name: io}, or no tau",
            )

    def fit(self, task: Task, fit: Fit) -> None:
        if not any(sentence.words for sentence in task.support):
            raise no_support(task, "words are compared with those of the support")
        if self._options.transitions == "source" and fit.init is None:
            raise ConfigError(
                "transitions are to come from a source and the method starts from none",
                where="train.transitions",
                fix="give the method an 'init', or take transitions: support",
            )
        self._encoder.start(fit.init)
        if self._options.adapt is not None:
            self._adapt(task, fit, self._options.adapt)
        if fit.init is not None or self._options.adapt is not None:
            self._encoder.save(fit.model)
        source = fit.init if self._options.transitions == "source" else None
        write_counts(fit.model, read_counts(source) if source else count(task.support))
        write_sentences(fit.model / SUPPORT, task.support)

    def _adapt(self, task: Task, fit: Fit, options: Adapt) -> None:
        from fewtable.training.metric import EpisodeLoss
        from fewtable.training.neighbours import NeighbourLoss

        if options.neighbours is not None:
            asked = NeighbourLoss(self._encoder, task.support, task.types, options.neighbours)
            loop = Loop(options, fit.seed, fit.log, fit.checkpoint, self._device_batch)
            train(self._encoder.model, range(len(task.support)), asked, loop)
            return
        assert options.episodes is not None
        if options.shape is None:
            draw = leave_one_out(task, options.sentences, fit.seed)
        else:
            draw = from_source(task, options.shape, fit.seed)
        of = EpisodeLoss(self._encoder, self._options.head, self._options.normalise, options.dropout, self._tags)
        loop = Loop(options, fit.seed, fit.log, fit.checkpoint, device_batch=1)
        train(self._encoder.model, range(options.episodes), lambda numbers: of(draw(numbers[0])), loop)

    def decode(self, task: Task, model: Path) -> Iterator[Any]:
        from fewtable.training.encoder import WEIGHTS
        from fewtable.training.metric import class_names

        self._encoder.start(model if (model / WEIGHTS).exists() else None)
        names = class_names(task.types, self._tags)
        asked, places = self._encode([s.words for s in task.query])
        scores = self._scores(read_sentences(model / SUPPORT), task.types, names, asked)
        for sentence, at, path in zip(task.query, places, self._paths(scores, model, len(names)), strict=True):
            tags = ["O"] * len(sentence.words)
            for word, number in zip(at, path, strict=True):
                tags[word] = names[number]
            yield tags

    def _scores(
        self, support: list[Sentence], types: tuple[str, ...], names: tuple[str, ...], asked: list[torch.Tensor]
    ) -> list[torch.Tensor]:
        """Return the log probabilities (words, classes) of each query sentence."""
        import torch

        from fewtable.training.metric import deal, logits, word_classes

        known, places = self._encode([s.words for s in support])
        labels = [
            torch.tensor(word_classes(s, names, at, self._tags), dtype=torch.long, device=self._encoder.device)
            for s, at in zip(support, places, strict=True)
        ]
        groups = [
            (torch.cat([known[i] for i in group]), torch.cat([labels[i] for i in group]))
            for group in deal(support, types, self._decode.groups)
            if any(len(labels[i]) for i in group)
        ]
        found = []
        for query, near in zip(asked, self._near(asked, known), strict=True):
            if near is not None:
                groups = [(torch.cat([known[i] for i in near]), torch.cat([labels[i] for i in near]))]
            parts = [logits(self._options.head, query, v, c, len(names)).log_softmax(-1) for v, c in groups]
            found.append(torch.stack(parts).logsumexp(0) - math.log(len(parts)))
        return found

    def _near(self, asked: list[torch.Tensor], known: list[torch.Tensor]) -> Sequence[list[int] | None]:
        """Return the support sentences that each query sentence is compared with; None: all."""
        from fewtable.training.neighbours import means, nearest

        if self._decode.neighbours is None or not asked:
            return [None] * len(asked)
        return nearest(means(asked), means(known), self._decode.neighbours)

    def _encode(self, sentences: list[tuple[str, ...]]) -> tuple[list[torch.Tensor], list[list[int]]]:
        """Return each sentence's word vectors and the indices of the words that have one."""
        from torch.nn.functional import normalize

        windows = [self._encoder.windows(words) for words in sentences]
        found = dict(self._encoder.vectors(windows))
        vectors = [found[i] for i in range(len(sentences))]
        if self._options.normalise:
            vectors = [normalize(v, dim=-1) for v in vectors]
        return vectors, [[i for w in ws for i in w.words] for ws in windows]

    def _paths(self, scores: list[torch.Tensor], model: Path, size: int) -> list[list[int]]:
        if self._decode.tau is None:
            return [s.argmax(-1).tolist() for s in scores]
        start, table = expand(read_counts(model), size - 1, self._decode.tau)
        emissions = [s.double().cpu().numpy() for s in scores]
        return viterbi(emissions, log_floored(start), log_floored(table))


def load(job: Job) -> _Session:
    """Load the encoder."""
    from fewtable.training.encoder import Encoder

    assert job.backbone is not None
    options = Train.model_validate(job.spec.train)
    return _Session(job, Encoder(job.backbone, job.spec.dtype, options.layers, options.window))
