"""Example-based NER (Ziyadi et al. 2020; methods/09): a query's spans by their likeness to marked support mentions.

A support text is a window of a sentence with one mention between two markers. Over all of a text's pieces, special
ones among them, states are summed to its representation. With a(i) the softmax over the support texts of a type of the
cosine between their representations and the query's,

    start(t) = sum a(i) (q(t) . s(i, opening marker)),    end(t) likewise with the closing marker.

Positions t are [CLS], which says that the query has no such mention, and the first piece of each word.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, normalize

from fewtable.corpus import Entity, Sentence
from fewtable.files import stable_seed
from fewtable.training.encoder import Encoder, Window

MARKERS = 2
"""New pieces: the opening and the closing marker."""


@dataclass(frozen=True, slots=True)
class Support:
    """A support text."""

    window: Window
    """With the positions of all pieces, the markers among them."""
    markers: tuple[int, int]
    """Positions of the opening and the closing marker."""


def mark(encoder: Encoder, sentence: Sentence, entity: Entity) -> Support | None:
    """Return the window with the mention's first word, the mention marked; None when the mention has no piece.

    A mention that goes on in the next window is marked up to the end of its own.
    """
    opening, closing = encoder.markers
    for window in encoder.windows(sentence.words):
        inside = [k for k, word in enumerate(window.words) if entity.start <= word < entity.end]
        if inside:
            first = window.first[inside[0]]
            after = inside[-1] + 1
            last = window.first[after] if after < len(window.first) else len(window.ids) - encoder.tail
            ids = (*window.ids[:first], opening, *window.ids[first:last], closing, *window.ids[last:])
            return Support(whole(replace(window, ids=ids)), (first, last + 1))
    return None


def whole(window: Window) -> Window:
    """Return the window with the positions of all its pieces, so that all their states are given."""
    return replace(window, first=tuple(range(len(window.ids))))


@dataclass(frozen=True, slots=True)
class Memory:
    """The support texts' vectors."""

    texts: torch.Tensor
    """(m, size) representations at length 1."""
    openings: torch.Tensor
    """(m, size) states of the opening markers."""
    closings: torch.Tensor
    """(m, size) states of the closing markers."""


def summary(states: torch.Tensor, support: Support) -> torch.Tensor:
    """Return what is kept of a support text's states (pieces, size): their sum and the two markers' (3, size)."""
    return torch.stack([states.sum(0), *(states[position] for position in support.markers)])


def remember(summaries: Sequence[torch.Tensor]) -> Memory:
    """Put the summaries of support texts together."""
    texts, openings, closings = torch.stack(list(summaries), dim=1)
    return Memory(normalize(texts, dim=-1), openings, closings)


def scores(query: torch.Tensor, positions: Sequence[int], memory: Memory, members: torch.Tensor) -> torch.Tensor:
    """Return the start and end scores (2, types, positions) of a query.

    Args:
        query: (pieces, size) states of all pieces.
        positions: of [CLS] and of the first piece of each word.
        memory: the support texts of all types.
        members: (types, m) says which texts are a type's; each type has one at least.
    """
    likeness = memory.texts @ normalize(query.sum(0), dim=-1)
    attention = likeness.expand(len(members), -1).masked_fill(~members, -torch.inf).softmax(-1)
    anchors = torch.stack([attention @ memory.openings, attention @ memory.closings])
    return anchors @ query[list(positions)].T


@dataclass(frozen=True, slots=True)
class Episode:
    """A query asked for the mentions of one type, by support mentions of that type."""

    query: Sentence
    type: str
    support: tuple[tuple[Sentence, Entity], ...]


class Episodes:
    """Draws the episode of a number, the same one at every call.

    A part ``negatives`` of the episodes asks for a type that the query does not hold, where there is one.

    Args:
        sentences: of the source.
        supports: most support mentions of an episode.
        negatives: share of the episodes.
        seed: of the draws.
    """

    def __init__(self, sentences: Sequence[Sentence], supports: int, negatives: float, seed: int) -> None:
        self._mentions: dict[str, list[tuple[Sentence, Entity]]] = {}
        for sentence in sentences:
            for entity in sentence.entities:
                self._mentions.setdefault(entity.type, []).append((sentence, entity))
        self._sentences, self._holding = list(sentences), [s for s in sentences if s.entities]
        self._supports, self._negatives, self._seed = supports, negatives, seed

    def __call__(self, number: int) -> Episode:
        """Return the episode; one whose type has no mention outside the query has no support."""
        rng = Random(stable_seed("example", self._seed, number))
        negative = rng.random() < self._negatives
        query = rng.choice(self._sentences if negative else self._holding)
        present = sorted({entity.type for entity in query.entities})
        absent = [name for name in sorted(self._mentions) if name not in present]
        name = rng.choice(absent if negative and absent else present)
        others = [mention for mention in self._mentions[name] if mention[0] is not query]
        return Episode(query, name, tuple(rng.sample(others, min(self._supports, len(others)))))


class ExampleLoss:
    """Binary cross-entropy of each position's start and end scores; [CLS] is right where the type has no mention."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    def __call__(self, episodes: Sequence[Episode]) -> tuple[torch.Tensor, float]:
        """Return the sum of the losses over positions, starts and ends, and their number.

        Long queries are seen up to their first window. Episodes without a support text do not count.
        """
        parts = []
        for episode in episodes:
            windows = self._encoder.windows(episode.query.words)
            marked = [mark(self._encoder, sentence, entity) for sentence, entity in episode.support]
            supports = [support for support in marked if support is not None]
            if windows and supports:
                parts.append((episode, windows[0], supports))
        if not parts:
            return next(self._encoder.model.parameters()).sum() * 0, 0.0
        texts = [w for _, query, supports in parts for w in (whole(query), *(s.window for s in supports))]
        flat = torch.split(self._encoder.states(texts), [len(w.ids) for w in texts])
        total, count, at = torch.zeros((), device=self._encoder.device), 0, 0
        for episode, query, supports in parts:
            known = flat[at + 1 : at + 1 + len(supports)]
            memory = remember([summary(s, support) for s, support in zip(known, supports, strict=True)])
            members = torch.ones(1, len(supports), dtype=torch.bool, device=total.device)
            found = scores(flat[at], (0, *query.first), memory, members)[:, 0]
            gold = torch.tensor(targets(query, episode), device=total.device)
            total = total + binary_cross_entropy_with_logits(found, gold, reduction="sum")
            count, at = count + gold.numel(), at + 1 + len(supports)
        return total, float(count)


def targets(window: Window, episode: Episode) -> list[list[float]]:
    """Return the right starts and ends, 1 or 0 for [CLS] and each word of the window; all mentions are right."""
    place = {word: k + 1 for k, word in enumerate(window.words)}
    rows = [[0.0] * (len(window.words) + 1) for _ in range(2)]
    for entity in episode.query.entities:
        if entity.type == episode.type:
            for row, word in zip(rows, (entity.start, entity.end - 1), strict=True):
                if word in place:
                    row[place[word]] = 1.0
    for row in rows:
        if not any(row):
            row[0] = 1.0
    return rows


class Known:
    """The marked mentions of some types, encoded once, without gradient.

    Args:
        encoder: with markers.
        support: type -> its mentions.
    """

    def __init__(self, encoder: Encoder, support: Mapping[str, Sequence[tuple[Sentence, Entity]]]) -> None:
        marked = [(name, mark(encoder, s, e)) for name, mentions in support.items() for s, e in mentions]
        texts = [(name, text) for name, text in marked if text is not None]
        self.names = list(dict.fromkeys(name for name, _ in texts))
        """The types that have a mention with a piece."""
        self._encoder = encoder
        vectors = encoder.vectors([[text.window] for _, text in texts])
        summaries = {i: summary(states, texts[i][1]) for i, states in vectors}
        self._memory = remember([summaries[i] for i in range(len(texts))]) if texts else None
        rows = [[name == other for other, _ in texts] for name in self.names]
        self._members = torch.tensor(rows, dtype=torch.bool, device=encoder.device)

    def probabilities(self, windows: Sequence[Window]) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield the index and the start and end probabilities (2, types, words) of all windows, in no fixed order.

        Each is a softmax over the positions of the window, [CLS] among them; nothing where no type is known.
        """
        if self._memory is None:
            return
        for i, states in self._encoder.vectors([[whole(window)] for window in windows]):
            likely = scores(states, (0, *windows[i].first), self._memory, self._members).softmax(-1)
            yield i, likely[:, :, 1:].cpu()
