"""Labels from distances to support words: class means (ProtoBERT) or the nearest word (NNShot); methods/fs-01."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from fewtable.corpus import Sentence, entities_to_tags
from fewtable.training.encoder import Encoder

Head = Literal["prototype", "nearest"]
OUTSIDE = 0
"""Class of O; type i of a task has class i + 1."""


def squared_distances(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Return the squared Euclidean distances (n, m) of (n, d) to (m, d), by one product of matrices."""
    squares = left.square().sum(-1, keepdim=True) + right.square().sum(-1)
    return (squares - 2 * left @ right.T).clamp_min(0)


def logits(head: Head, query: torch.Tensor, support: torch.Tensor, labels: torch.Tensor, classes: int) -> torch.Tensor:
    """Return the scores (words, classes) of query words: minus the squared distance to each class.

    Args:
        head: distance to the mean of a class, or to its nearest word.
        query: (n, d) word vectors.
        support: (m, d) word vectors.
        labels: (m) classes of the support words.
        classes: number of columns. A class without a support word scores -inf.
    """
    if head == "nearest":
        scores = -squared_distances(query, support)
        nothing = torch.full((len(query), classes), -torch.inf, device=scores.device)
        return nothing.scatter_reduce(1, labels.expand(len(query), -1), scores, "amax")
    members = torch.nn.functional.one_hot(labels, classes).to(support.dtype)
    counts = members.sum(0)
    means = members.T @ support / counts.clamp_min(1)[:, None]
    return (-squared_distances(query, means)).masked_fill(counts == 0, -torch.inf)


@dataclass(frozen=True, slots=True)
class Episode:
    """Support and query sentences over some types; no query: each support sentence is asked of the others."""

    types: tuple[str, ...]
    support: tuple[Sentence, ...]
    query: tuple[Sentence, ...] = ()


def word_classes(sentence: Sentence, types: Sequence[str], words: Sequence[int]) -> list[int]:
    """Return the IO class of each of ``words``."""
    tags = entities_to_tags(sentence.entities, len(sentence.words), "io")
    return [OUTSIDE if tags[i] == "O" else types.index(tags[i]) + 1 for i in words]


class EpisodeLoss:
    """Cross-entropy of query words by their distances to the support words of their episode."""

    def __init__(self, encoder: Encoder, head: Head, normalise: bool, dropout: float) -> None:
        self._encoder = encoder
        self._head = head
        self._normalise = normalise
        self._dropout = dropout

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
        numbers = [
            word_classes(s, episode.types, [i for w in ws for i in w.words])
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
            scores = logits(self._head, states[asked], states[known], labels[known], len(episode.types) + 1)
            gold = labels[asked]
            answerable = torch.isfinite(scores.detach().gather(1, gold[:, None])[:, 0])
            total = total + torch.nn.functional.cross_entropy(scores[answerable], gold[answerable], reduction="sum")
            count += int(answerable.sum())
        return total, float(count)
