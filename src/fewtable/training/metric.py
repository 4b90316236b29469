"""Labels from support words: class means (ProtoBERT), the nearest word (NNShot), or all of them (Neigh.Tag.).

methods/fs-01, 08 and 10.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import torch

from fewtable.corpus import Sentence, entities_to_tags
from fewtable.training.encoder import Encoder
from fewtable.training.episode import Episode
from fewtable.training.tagging import tag_inventory

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
    members = torch.nn.functional.one_hot(labels, classes).to(support.dtype)
    counts = members.sum(0)
    means = members.T @ support / counts.clamp_min(1)[:, None]
    return (-squared_distances(query, means)).masked_fill(counts == 0, -torch.inf)


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


class EpisodeLoss:
    """Cross-entropy of query words by their scores against the support words of their episode."""

    def __init__(self, encoder: Encoder, head: Head, normalise: bool, dropout: float, tags: Tags = "io") -> None:
        self._encoder = encoder
        self._head = head
        self._normalise = normalise
        self._dropout = dropout
        self._tags = tags

    def __call__(self, episode: Episode) -> tuple[torch.Tensor, float]:
        """Return the sum of the words' losses and their number, in training mode (dropout on word vectors).

        Words whose own class has no support word do not count.
        """
        sentences = [*episode.support, *episode.query]
        windows = [self._encoder.windows(s.words) for s in sentences]
        states = self._encoder.states([w for ws in windows for w in ws])
        states = torch.nn.functional.dropout(states, self._dropout)
        if self._normalise:
            states = torch.nn.functional.normalize(states, dim=-1)
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
            scores = logits(self._head, states[asked], states[known], labels[known], len(classes))
            part, words = answerable_loss(scores, labels[asked])
            total, count = total + part, count + words
        return total, float(count)


def answerable_loss(scores: torch.Tensor, gold: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Return the sum of cross-entropies of the words whose own class has a support word, and their number."""
    answerable = torch.isfinite(scores.detach().gather(1, gold[:, None])[:, 0])
    loss = torch.nn.functional.cross_entropy(scores[answerable], gold[answerable], reduction="sum")
    return loss, int(answerable.sum())
