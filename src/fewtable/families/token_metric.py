"""Token-metric: a word gets the class of the support words that it is close to (methods/fs-01 to fs-03, 08, 10).

NNShot and StructShot follow Yang & Katiyar 2020: normalised last layer, nearest word, no training on the target; with
``init`` the encoder is that of a tagger trained on a source. ProtoBERT follows Few-NERD: sum of the last four layers,
class means, episodic training. Neigh.Tag. (Wiseman & Stratos 2019) sums the shares of a softmax over the words of
neighbouring sentences, and learns to on a source. MP-NSP (Huang et al. 2020) averages over groups of the support, each
with class means of its own. A Matching Network (Vinyals et al. 2016) attends to all words with a learned sharpness;
L-TapNet+CDT (Hou et al. 2020) compares in a space of the episode's own and scores the tags of a sentence together.
The format says what the classes are: types (``io``), or B and I tags of each (``bio``, ``bio-words``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import Field, model_validator

from fewtable.corpus import Sentence, Task, read_sentences, write_sentences
from fewtable.decoding.transitions import abstract_paths, count, read_counts, write_counts
from fewtable.errors import ConfigError
from fewtable.families._episodes import Shape, from_source, leave_one_out
from fewtable.families.base import Fit, Job, no_support
from fewtable.specs import Spec
from fewtable.training.loop import Loop, LoopOptions, train

if TYPE_CHECKING:
    import torch

    from fewtable.training.encoder import Encoder
    from fewtable.training.metric import Scorer, Tags

BACKBONES = frozenset({"encoder"})
OUTPUT = frozenset({"io", "bio"})
SUPPORT = "support.jsonl"
CHUNK = 512
"""Words that are compared with the support at once."""


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


class Match(Spec):
    """Attention over the support words (head ``match``)."""

    scale: Annotated[float, Field(gt=0)] = 10.0
    """What the cosines are multiplied with at first; it is learned."""
    balance: bool = True
    """Divide each class's share by its number of support words."""
    rate: Annotated[float, Field(gt=0)] = 100.0
    """How many times as fast as the encoder the scale learns."""


class TapNet(Spec):
    """A space of the episode's own (head ``tapnet``)."""

    bank: Annotated[int, Field(ge=3)] = 120
    """Learned references; an episode uses one a tag."""
    references: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the reference in a tag's anchor; the rest is the vector of its text."""
    share: Annotated[float, Field(ge=0, le=1)] = 0.3
    """Share of the class mean in what words are compared with; the rest is the anchor."""
    dependencies: bool = True
    """Score the tags of a sentence together, by collapsed dependency transfer."""
    rate: Annotated[float, Field(gt=0)] = 100.0
    """How many times as fast as the encoder the scale and the dependencies learn."""


class Train(Spec):
    """How words are seen and compared."""

    head: Literal["prototype", "nearest", "mass", "match", "tapnet"]
    """Distance to the mean of a class, or to its nearest word, or its share of a softmax over all words, of their
    products or, learned, of their cosines; or the product with the class in a space of the episode's own."""
    match: Match | None = None
    tapnet: TapNet | None = None
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

    @model_validator(mode="after")
    def _own_options(self) -> Train:
        for name in ("match", "tapnet"):
            if (getattr(self, name) is not None) != (self.head == name):
                raise ValueError(f"'{name}' holds the options of head '{name}': give both or neither")
        if self.adapt is not None and self.adapt.neighbours is not None and self.head != "mass":
            raise ValueError("'adapt.neighbours' trains head 'mass'; the other heads are trained by 'adapt.episodes'")
        return self


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
        from fewtable.training.words import Words

        self._options = Train.model_validate(job.spec.train)
        self._decode = Decode.model_validate(job.spec.decoding or {})
        self._tags: Tags = "io" if job.spec.format["name"] == "io" else "bio"
        self._texts = {name: parts["words"] for name, parts in job.spec.types.items() if "words" in parts}
        self._device_batch = job.device_batch
        self._words = Words(encoder, normalise=self._options.normalise)
        self._check(job)

    def _check(self, job: Job) -> None:
        if self._tags == "bio" and self._decode.tau is not None:
            raise ConfigError(
                "abstract transitions are those of io tags",
                where="decode.tau",
                fix="take format: {name: io}, or no tau",
            )
        if self._options.head == "tapnet" and job.spec.format["name"] != "bio-words":
            raise ConfigError(
                "head 'tapnet' reads the words of the types and tags in BIO",
                where="format.name",
                fix="take format: {name: bio-words}",
            )
        chain = self._options.tapnet is not None and self._options.tapnet.dependencies
        if chain and (self._decode.neighbours is not None or self._decode.groups > 1):
            raise ConfigError(
                "dependencies score the tags of a sentence over one support",
                where="decode",
                fix="give neither neighbours nor groups, or train.tapnet.dependencies: false",
            )

    def fit(self, task: Task, fit: Fit) -> None:
        from fewtable.training.encoder import WEIGHTS
        from fewtable.training.scorers import FILE, save, start
        from fewtable.training.words import hand_on

        if not any(sentence.words for sentence in task.support):
            raise no_support(task, "words are compared with those of the support")
        if self._options.transitions == "source" and fit.init is None:
            raise ConfigError(
                "transitions are to come from a source and the method starts from none",
                where="train.transitions",
                fix="give the method an 'init', or take transitions: support",
            )
        self._words.start(fit.init)
        scorer = start(self._options, self._words.encoder, fit.init, fit.seed)
        if self._options.adapt is not None:
            self._words.changed()
            self._adapt(task, fit, self._options.adapt, scorer)
            self._words.encoder.save(fit.model)
        elif fit.init is not None:
            hand_on(fit.init, fit.model, WEIGHTS, FILE)
        if self._options.adapt is not None or fit.init is None:
            save(scorer, fit.model)
        source = fit.init if self._options.transitions == "source" else None
        write_counts(fit.model, read_counts(source) if source else count(task.support))
        write_sentences(fit.model / SUPPORT, task.support)

    def _adapt(self, task: Task, fit: Fit, options: Adapt, scorer: Scorer) -> None:
        import torch

        from fewtable.training.metric import EpisodeLoss
        from fewtable.training.neighbours import NeighbourLoss

        encoder = self._words.encoder
        if options.neighbours is not None:
            asked = NeighbourLoss(encoder, task.support, task.types, options.neighbours)
            loop = Loop(options, fit.seed, fit.log, fit.checkpoint, self._device_batch)
            train(encoder.model, range(len(task.support)), asked, loop)
            return
        assert options.episodes is not None
        if options.shape is None:
            draw = leave_one_out(task, options.sentences, fit.seed)
        else:
            draw = from_source(task, options.shape, fit.seed)
        of = EpisodeLoss(
            encoder,
            scorer,
            normalise=self._options.normalise,
            dropout=options.dropout,
            tags=self._tags,
            words=self._texts,
        )
        loop = Loop(options, fit.seed, fit.log, fit.checkpoint, device_batch=1)
        both = torch.nn.ModuleDict({"encoder": encoder.model, "scorer": scorer})
        train(both, range(options.episodes), lambda numbers: of(draw(numbers[0])), loop)

    def decode(self, task: Task, model: Path) -> Iterator[Any]:
        import torch

        from fewtable.training.encoder import WEIGHTS
        from fewtable.training.metric import class_names
        from fewtable.training.scorers import start
        from fewtable.training.words import tagged

        self._words.start(model if (model / WEIGHTS).exists() else None)
        scorer = start(self._options, self._words.encoder, model, seed=0)
        names = class_names(task.types, self._tags)
        support = read_sentences(model / SUPPORT)
        vectors, places = self._words([s.words for s in (*support, *task.query)])
        size = len(support)
        known = _Known(support, vectors[:size], places[:size])
        if any(known.places):
            with torch.inference_mode():
                scores = self._scores(known, task.types, names, vectors[size:], scorer)
            paths = self._paths(scores, model, len(task.types), scorer)
        else:  # there is nothing to be like: all is O
            paths = [[0] * len(words) for words in vectors[size:]]
        yield from tagged(task.query, places[size:], paths, names)

    def _scores(
        self,
        known: _Known,
        types: tuple[str, ...],
        names: tuple[str, ...],
        asked: list[torch.Tensor],
        scorer: Scorer,
    ) -> list[torch.Tensor]:
        """Return the log probabilities (words, classes) of each query sentence."""
        import torch

        from fewtable.training.metric import class_texts, deal, word_classes

        labels = [
            torch.tensor(word_classes(s, names, at, self._tags), dtype=torch.long, device=self._words.encoder.device)
            for s, at in zip(known.sentences, known.places, strict=True)
        ]
        anchors = self._words.texts(class_texts(types, self._texts)) if scorer.texts else None
        groups = [g for g in deal(known.sentences, types, self._decode.groups) if any(len(labels[i]) for i in g)]
        near = self._near(asked, known.vectors)
        if near is None:
            sets = [(torch.cat(part), groups) for part in _chunks(asked)]
        else:
            sets = [(query, [indices]) for query, indices in zip(asked, near, strict=True)]
        found: list[torch.Tensor] = []
        for query, of in sets:
            parts = [
                scorer(
                    query,
                    torch.cat([known.vectors[i] for i in group]),
                    torch.cat([labels[i] for i in group]),
                    len(names),
                    anchors,
                ).log_softmax(-1)
                for group in of
            ]
            found.append(torch.stack(parts).logsumexp(0) - math.log(len(parts)))
        return list(torch.split(torch.cat(found), [len(a) for a in asked])) if found else []

    def _near(self, asked: list[torch.Tensor], known: list[torch.Tensor]) -> list[list[int]] | None:
        """Return the support sentences that each query sentence is compared with; None: all."""
        from fewtable.training.neighbours import means, nearest

        if self._decode.neighbours is None or not asked:
            return None
        return nearest(means(asked), means(known), self._decode.neighbours)

    def _paths(self, scores: list[torch.Tensor], model: Path, types: int, scorer: Scorer) -> list[list[int]]:
        if scorer.chain is not None:
            return scorer.chain.best(scores, types)
        if self._decode.tau is None:
            return [s.argmax(-1).tolist() for s in scores]
        emissions = [s.double().cpu().numpy() for s in scores]
        return abstract_paths(emissions, read_counts(model), types, self._decode.tau)


def _chunks(sentences: Sequence[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """Yield runs of sentences, each just beyond ``CHUNK`` words, so that memory does not grow with the query."""
    run: list[torch.Tensor] = []
    for words in sentences:
        run.append(words)
        if sum(map(len, run)) >= CHUNK:
            yield run
            run = []
    if run:
        yield run


class _Known(NamedTuple):
    """Support sentences, their word vectors and the words that have one."""

    sentences: list[Sentence]
    vectors: list[torch.Tensor]
    places: list[list[int]]


def load(job: Job) -> _Session:
    """Load the encoder."""
    from fewtable.training.encoder import Encoder

    assert job.backbone is not None
    options = Train.model_validate(job.spec.train)
    return _Session(job, Encoder(job.backbone, job.spec.dtype, options.layers, options.window))
