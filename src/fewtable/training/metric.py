"""Labels from support words: class means (ProtoBERT), the nearest word (NNShot), or all of them (Neigh.Tag.).

methods/fs-01, 02, 08 and 10. Learned: the scale of a Matching Network here, TapNet's numbers in ``training.tapnet``.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch

from fewtable.corpus import Sentence, entities_to_tags
from fewtable.training.crf import quick
from fewtable.training.dependency_transfer import Dependencies
from fewtable.training.encoder import Encoder, Window
from fewtable.training.episode import Episode
from fewtable.training.tagging import tag_inventory
from fewtable.training.words import whole

Head = Literal["prototype", "nearest", "mass"]
Tags = Literal["io", "bio"]
"""What the classes are: O and the types, or O and the B and I tag of each type."""


def class_names(types: Sequence[str], tags: Tags) -> tuple[str, ...]:
    """Return the tags that are classes, O first."""
    return tuple(tag_inventory(types)) if tags == "bio" else ("O", *types)


def squared_distances(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Return the squared Euclidean distances (n, m) of (n, d) to (m, d), by one product of matrices."""
    squares = left.square().sum(-1, keepdim=True) + right.square().sum(-1)
    return (squares - 2 * left @ right.T).clamp_min(0)


def logits(head: Head, query: torch.Tensor, support: torch.Tensor, labels: torch.Tensor, classes: int) -> torch.Tensor:
    """Return the scores (words, classes) of query words.

    Args:
        head: minus the squared distance to the mean of a class (``prototype``) or to its nearest word (``nearest``);
            or the logarithm of the sum of exp(dot product) over its words (``mass``), whose softmax is the share of a
            class in a softmax over all support words (Wiseman & Stratos 2019, equation 1).
        query: (n, d) word vectors.
        support: (m, d) word vectors.
        labels: (m) classes of the support words.
        classes: number of columns. A class without a support word scores -inf.
    """
    nothing = torch.full((len(query), classes), -torch.inf, device=query.device)
    if head == "mass":
        # Over the classes there are: the gradient of a sum over nothing is not a number.
        present, rows = torch.unique(labels, return_inverse=True)
        others = rows != torch.arange(len(present), device=rows.device)[:, None]
        shares = (query @ support.T)[:, None].masked_fill(others, -torch.inf).logsumexp(-1)
        return nothing.index_copy(1, present, shares)
    if head == "nearest":
        scores = -squared_distances(query, support)
        return nothing.scatter_reduce(1, labels.expand(len(query), -1), scores, "amax")
    means, counts = prototypes(support, labels, classes)
    return (-squared_distances(query, means)).masked_fill(counts == 0, -torch.inf)


def prototypes(support: torch.Tensor, labels: torch.Tensor, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean of each class's support words (classes, d), 0 without any, and their number (classes)."""
    members = torch.nn.functional.one_hot(labels, classes).to(support.dtype)
    counts = members.sum(0)
    return members.T @ support / counts.clamp_min(1)[:, None], counts


def word_classes(sentence: Sentence, classes: Sequence[str], words: Sequence[int], tags: Tags) -> list[int]:
    """Return the class of each of ``words``, as an index into ``classes``."""
    found = entities_to_tags(sentence.entities, len(sentence.words), "io" if tags == "io" else "iob2")
    return [classes.index(found[i]) for i in words]


def deal(sentences: Sequence[Sentence], types: Sequence[str], groups: int) -> list[list[int]]:
    """Deal support sentences into groups with about as many mentions of each type; return their indices.

    A sentence of the rarest type first; each goes where its type has the fewest mentions yet, then where the fewest
    sentences are. Sentences without a mention come last (methods/10: groups of 5 mentions a type).
    """
    mentions = [Counter(e.type for e in s.entities) for s in sentences]
    total = sum(mentions, Counter())
    rank = {name: (total[name], types.index(name)) for name in total}
    rarest = [min(m, key=rank.__getitem__) if m else None for m in mentions]
    order = sorted(range(len(sentences)), key=lambda i: (0, *rank[r]) if (r := rarest[i]) is not None else (1, 0, 0))
    dealt: list[list[int]] = [[] for _ in range(groups)]
    have = [Counter[str]() for _ in range(groups)]
    for index in order:
        kind = rarest[index]
        place = min(range(groups), key=lambda g: (have[g][kind] if kind is not None else 0, len(dealt[g])))
        dealt[place].append(index)
        have[place] += mentions[index]
    return [sorted(group) for group in dealt]


class Scorer(torch.nn.Module, ABC):
    """How words are scored against support words, with what is learned of it beside the encoder."""

    texts: ClassVar[bool] = False
    """Whether classes are also seen by the vectors of their texts."""

    def __init__(self) -> None:
        super().__init__()
        self.chain: Dependencies | None = None
        """Scores the tags of a sentence together; None: each word for itself."""

    @abstractmethod
    def forward(
        self,
        query: torch.Tensor,
        support: torch.Tensor,
        labels: torch.Tensor,
        classes: int,
        anchors: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the scores (words, classes) of query words.

        Args:
            query: (n, d) word vectors.
            support: (m, d) word vectors.
            labels: (m) classes of the support words.
            classes: number of classes.
            anchors: (classes, d) vectors of the classes' texts, where ``texts`` says so.
        """


class Distance(Scorer):
    """``logits`` of a head; nothing of it is learned."""

    def __init__(self, head: Head) -> None:
        super().__init__()
        self._head = head

    def forward(
        self,
        query: torch.Tensor,
        support: torch.Tensor,
        labels: torch.Tensor,
        classes: int,
        anchors: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the head's scores."""
        return logits(self._head, query, support, labels, classes)


class Matching(Scorer):
    """Attention over the support words (Vinyals et al. 2016, equation 1; methods/fs-02).

    A class's probability is its share of a softmax over the support of g cos(q, s), with a learned g > 0.

    Args:
        scale: what g begins with.
        balance: divide each class's share by its number of support words, and make them a distribution again.
        rate: how many times as fast as the encoder g learns.
    """

    def __init__(self, scale: float, rate: float, *, balance: bool) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(math.log(math.expm1(scale)) / rate))
        """softplus(rate * scale) is g."""
        self._balance, self._rate = balance, rate

    def forward(
        self,
        query: torch.Tensor,
        support: torch.Tensor,
        labels: torch.Tensor,
        classes: int,
        anchors: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return logarithms of the classes' shares, up to a constant a word; a class without support scores -inf."""
        unit = torch.nn.functional.normalize
        g = torch.nn.functional.softplus(quick(self.scale, self._rate))
        scores = logits("mass", g * unit(query, dim=-1), unit(support, dim=-1), labels, classes)
        if not self._balance:
            return scores
        return scores - torch.bincount(labels, minlength=classes).clamp_min(1).log()


def class_texts(types: Sequence[str], words: Mapping[str, str]) -> list[str]:
    """Return the texts of O and of the B and I tag of each type (Hou et al. 2020's label words).

    Args:
        types: names.
        words: name -> natural words.
    """
    return ["ordinary", *(f"{place} {words[name]}" for name in types for place in ("begin", "inner"))]


class EpisodeLoss:
    """Loss of query words by their scores against the support words of their episode.

    Cross-entropy a word; with dependencies the likelihood of a sentence's tags together.

    Args:
        encoder: of all words.
        scorer: of their vectors.
        normalise: bring word vectors to length 1.
        dropout: on word vectors.
        tags: what the classes are.
        words: type -> natural words, for a scorer that reads texts of classes.
    """

    def __init__(
        self,
        encoder: Encoder,
        scorer: Scorer,
        *,
        normalise: bool,
        dropout: float,
        tags: Tags = "io",
        words: Mapping[str, str] | None = None,
    ) -> None:
        self._encoder = encoder
        self._scorer = scorer
        self._normalise = normalise
        self._dropout = dropout
        self._tags = tags
        self._words = words or {}

    def __call__(self, episode: Episode) -> tuple[torch.Tensor, float]:
        """Return the sum of the losses and the number of words, of sentences with dependencies.

        Words whose own class has no support word, and no text, do not count.
        """
        sentences = [*episode.support, *episode.query]
        windows = [self._encoder.windows(s.words) for s in sentences]
        states, anchors = self._states(windows, episode.types)
        classes = class_names(episode.types, self._tags)
        numbers = [
            word_classes(s, classes, [i for w in ws for i in w.words], self._tags)
            for s, ws in zip(sentences, windows, strict=True)
        ]
        labels = torch.tensor([n for ns in numbers for n in ns], device=states.device)
        owner = torch.tensor([i for i, ns in enumerate(numbers) for _ in ns], device=states.device)
        size = len(episode.support)
        parts = [(owner >= size, owner < size)]
        if not episode.query:
            parts = [(owner == i, owner != i) for i in range(size) if numbers[i]]
        total, count = states.sum() * 0, 0
        for asked, known in parts:
            scores = self._scorer(states[asked], states[known], labels[known], len(classes), anchors)
            part, weight = self._loss(scores, labels[asked], owner[asked])
            total, count = total + part, count + weight
        return total, float(count)

    def _states(
        self, windows: Sequence[Sequence[Window]], types: Sequence[str]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the vectors of all words, and those of the classes' texts, by one forward."""
        texts = class_texts(types, self._words) if self._scorer.texts else []
        flat = [w for ws in windows for w in ws]
        states = self._encoder.states([*flat, *(whole(self._encoder, text) for text in texts)])
        states, anchors = states[: len(states) - len(texts)], states[len(states) - len(texts) :]
        states = torch.nn.functional.dropout(states, self._dropout)
        if self._normalise:
            states = torch.nn.functional.normalize(states, dim=-1)
        return states, anchors if texts else None

    def _loss(self, scores: torch.Tensor, gold: torch.Tensor, owner: torch.Tensor) -> tuple[torch.Tensor, int]:
        if self._scorer.chain is None or not len(gold):
            return answerable_loss(scores, gold)
        lengths = torch.unique_consecutive(owner, return_counts=True)[1].tolist()
        loss = self._scorer.chain.loss(torch.split(scores, lengths), torch.split(gold, lengths))
        return loss, len(lengths)


def answerable_loss(scores: torch.Tensor, gold: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Return the sum of cross-entropies of the words whose own class has a support word, and their number."""
    answerable = torch.isfinite(scores.detach().gather(1, gold[:, None])[:, 0])
    loss = torch.nn.functional.cross_entropy(scores[answerable], gold[answerable], reduction="sum")
    return loss, int(answerable.sum())
