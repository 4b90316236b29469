"""Token-metric: a word gets the class of the support words that it is close to (methods/fs-01).

NNShot and StructShot follow Yang & Katiyar 2020: normalised last layer, nearest word, no training on the target; with
``init`` the encoder is that of a tagger trained on a source. ProtoBERT follows Few-NERD: sum of the last four layers,
class means, episodic training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from fewtable.corpus import Task, read_sentences, restrict, write_sentences
from fewtable.decoding.transitions import count, expand, log_floored, read_counts, viterbi, write_counts
from fewtable.errors import ConfigError
from fewtable.families.base import Fit, Job
from fewtable.files import stable_seed
from fewtable.sampling import episodes
from fewtable.sampling.pool import Pool
from fewtable.specs import SamplerSpec, Spec
from fewtable.training.loop import Loop, LoopOptions, train

if TYPE_CHECKING:
    import torch

    from fewtable.training.encoder import Encoder
    from fewtable.training.metric import Episode

BACKBONES = frozenset({"encoder"})
OUTPUT = "io"
SUPPORT = "support.jsonl"


class Shape(Spec):
    """N-way k~2k-shot episodes."""

    ways: Annotated[int, Field(ge=1)]
    shots: Annotated[int, Field(ge=1)]
    query: Annotated[int, Field(ge=1)]
    """Query shots."""


class Adapt(LoopOptions):
    """Episodic training on the support; its ``batch_size`` counts episodes."""

    epochs: Annotated[int, Field(ge=0)] = 1
    episodes: Annotated[int, Field(ge=1)]
    """Episodes an epoch."""
    shape: Shape | None = None
    """None: an episode is some sentences of the support, each asked of the others (leave-one-out)."""
    sentences: Annotated[int, Field(ge=2)] = 32
    """Sentences of a leave-one-out episode."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """On word vectors, in training."""


class Train(Spec):
    """How words are seen and compared."""

    head: Literal["prototype", "nearest"]
    """Distance to the mean of a class, or to its nearest word."""
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


def draw_episodes(task: Task, options: Adapt, seed: int) -> Callable[[int], Episode]:
    """Return what makes the episode of a number, the same one at every call."""
    from fewtable.training.metric import Episode

    if options.shape is None:
        size = min(options.sentences, len(task.support))

        def leave_one_out(number: int) -> Episode:
            rng = Random(stable_seed("leave-one-out", seed, number))
            return Episode(task.types, tuple(rng.sample(task.support, size)))

        return leave_one_out
    shape = options.shape
    pool = Pool(task.support, task.types)
    sampler = SamplerSpec(rule="episodes", n_way=shape.ways, k=shape.shots, q=shape.query)
    draw = episodes.prepare(pool, sampler)

    def from_source(number: int) -> Episode:
        choice = draw(Random(stable_seed("episode", seed, number)))
        types = tuple(sorted(choice.types or pool.types))
        support, query = (
            tuple(restrict(pool.sentences[i], types) for i in part) for part in (choice.support, choice.query or [])
        )
        return Episode(types, support, query)

    return from_source


class _Session:
    def __init__(self, job: Job, encoder: Encoder) -> None:
        self._options = Train.model_validate(job.spec.train)
        self._tau = Decode.model_validate(job.spec.decoding or {}).tau
        self._encoder = encoder

    def fit(self, task: Task, fit: Fit) -> None:
        if not any(sentence.words for sentence in task.support):
            raise ConfigError(
                "words are compared with the support and it has none",
                where=f"draw {task.draw}",
                fix="use a setting whose sampler draws sentences",
            )
        if self._options.transitions == "source" and fit.init is None:
            raise ConfigError(
                "transitions are to come from a source and the method starts from none",
                where="train.transitions",
                fix="give the method an 'init', or take transitions: support",
            )
        if fit.init is None:
            self._encoder.restore()
        else:
            self._encoder.load(fit.init)
        if self._options.adapt is not None:
            self._adapt(task, fit, self._options.adapt)
        if fit.init is not None or self._options.adapt is not None:
            self._encoder.save(fit.model)
        source = fit.init if self._options.transitions == "source" else None
        write_counts(fit.model, read_counts(source) if source else count(task.support))
        write_sentences(fit.model / SUPPORT, task.support)

    def _adapt(self, task: Task, fit: Fit, options: Adapt) -> None:
        from fewtable.training.metric import EpisodeLoss

        draw = draw_episodes(task, options, fit.seed)
        of = EpisodeLoss(self._encoder, self._options.head, self._options.normalise, options.dropout)
        loop = Loop(options, fit.seed, fit.log, fit.checkpoint, device_batch=1)
        train(self._encoder.model, range(options.episodes), lambda numbers: of(draw(numbers[0])), loop)

    def decode(self, task: Task, model: Path) -> Iterator[Any]:
        import torch

        from fewtable.training.encoder import WEIGHTS
        from fewtable.training.metric import logits, word_classes

        if (model / WEIGHTS).exists():
            self._encoder.load(model)
        else:
            self._encoder.restore()
        support = read_sentences(model / SUPPORT)
        known, places = self._encode([s.words for s in support])
        classes = [word_classes(s, task.types, at) for s, at in zip(support, places, strict=True)]
        labels = torch.tensor([c for cs in classes for c in cs], device=self._encoder.device)
        vectors = torch.cat(known)
        asked, places = self._encode([s.words for s in task.query])
        size = len(task.types) + 1
        scores = [logits(self._options.head, q, vectors, labels, size).log_softmax(-1) for q in asked]
        names = ("O", *task.types)
        for sentence, at, path in zip(task.query, places, self._paths(scores, model, size), strict=True):
            tags = ["O"] * len(sentence.words)
            for word, number in zip(at, path, strict=True):
                tags[word] = names[number]
            yield tags

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
        if self._tau is None:
            return [s.argmax(-1).tolist() for s in scores]
        start, table = expand(read_counts(model), size - 1, self._tau)
        emissions = [s.double().cpu().numpy() for s in scores]
        return viterbi(emissions, log_floored(start), log_floored(table))


def load(job: Job) -> _Session:
    """Load the encoder."""
    from fewtable.training.encoder import Encoder

    assert job.backbone is not None
    options = Train.model_validate(job.spec.train)
    return _Session(job, Encoder(job.backbone, job.spec.dtype, options.layers, options.window))
