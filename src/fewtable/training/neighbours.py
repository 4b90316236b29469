"""Neigh.Tag. (Wiseman & Stratos 2019; methods/08): which sentences are neighbours, and learning to copy their tags."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fewtable.corpus import Sentence
from fewtable.training.encoder import Encoder
from fewtable.training.metric import answerable_loss, class_names, logits, word_classes

CHUNK = 1024
"""Sentences whose similarities to the whole memory are held at once."""


def means(vectors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the mean word vector of each sentence at length 1, (sentences, size); 0 for those without words."""
    sums = torch.stack([v.sum(0) for v in vectors])
    return torch.nn.functional.normalize(sums, dim=-1)


def nearest(asked: torch.Tensor, memory: torch.Tensor, count: int, *, others: bool = False) -> list[list[int]]:
    """Return the indices of the ``count`` sentences of ``memory`` nearest by cosine, in their own order.

    Args:
        asked: (n, size) mean vectors of length 1.
        memory: (m, size) mean vectors of length 1.
        count: neighbours a sentence; all of the memory when it holds no more.
        others: ``asked`` is ``memory``, and a sentence is no neighbour of itself.
    """
    count = min(count, len(memory) - others)
    found: list[list[int]] = []
    for start in range(0, len(asked), CHUNK):
        scores = asked[start : start + CHUNK] @ memory.T
        if others:
            rows = torch.arange(len(scores), device=scores.device)
            scores[rows, start + rows] = -torch.inf
        found += scores.topk(count, dim=1).indices.sort(dim=1).values.tolist()
    return found


class NeighbourLoss:
    """-log of the share that the words of the gold tag have in a softmax over the words of a sentence's neighbours.

    Neighbours are found once, by the encoder as it is when training begins, and their words carry no gradient.

    Args:
        encoder: of all words.
        sentences: each is asked of its neighbours among the others.
        types: of the source.
        count: neighbours a sentence.
    """

    def __init__(self, encoder: Encoder, sentences: Sequence[Sentence], types: Sequence[str], count: int) -> None:
        self._encoder = encoder
        self._windows = [encoder.windows(s.words) for s in sentences]
        classes = class_names(types, "bio")
        self._size = len(classes)
        self._labels = [
            torch.tensor(word_classes(s, classes, [i for w in ws for i in w.words], "bio"), dtype=torch.long)
            for s, ws in zip(sentences, self._windows, strict=True)
        ]
        pooled = means(self._vectors(range(len(sentences))))
        self._neighbours = nearest(pooled, pooled, count, others=True)

    def _vectors(self, indices: Sequence[int]) -> list[torch.Tensor]:
        found = dict(self._encoder.vectors([self._windows[i] for i in indices]))
        return [found[position] for position in range(len(indices))]

    def __call__(self, indices: Sequence[int]) -> tuple[torch.Tensor, float]:
        """Return the sum of the losses of the words of some sentences, and the number of words.

        Words whose tag no neighbour carries do not count.
        """
        indices = [i for i in indices if self._windows[i]]
        needed = sorted({n for i in indices for n in self._neighbours[i]})
        memory = dict(zip(needed, self._vectors(needed), strict=True))
        if not memory:
            return next(self._encoder.model.parameters()).sum() * 0, 0.0
        states = self._encoder.states([w for i in indices for w in self._windows[i]])
        total, count = states.sum() * 0, 0
        for i, asked in zip(indices, torch.split(states, [len(self._labels[i]) for i in indices]), strict=True):
            known = torch.cat([memory[n] for n in self._neighbours[i]])
            labels = torch.cat([self._labels[n] for n in self._neighbours[i]]).to(known.device)
            scores = logits("mass", asked, known, labels, self._size)
            part, words = answerable_loss(scores, self._labels[i].to(known.device))
            total, count = total + part, count + words
        return total, float(count)
