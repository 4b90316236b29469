"""SpanProto (Wang et al., EMNLP 2022; methods/fs-07), and MSDP's two views (Dong et al., CIKM 2023; methods/fs-08).

A global pointer finds spans without a type. A span's vector is the sum of the sigmoids of its projected ends; it gets
the type of the nearest mean of support entities, or none where that is farther than a margin. There is no prototype
of O: in training, spans that the pointer finds and that are no entities are pushed from all prototypes to the margin.

With two views vectors are means over the span's pieces, of the sentence and of the sentence with the span masked.
A distance is then the mean over the views, and each view has a loss.

Windows of long sentences are seen alone; an entity across two is not found.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch.nn.utils.rnn import pad_sequence

from fewtable.corpus import Entity, Sentence
from fewtable.training.encoder import LAYOUT_BATCH, Encoder, Window
from fewtable.training.episode import Episode
from fewtable.training.global_pointer import GlobalPointer, Rule, cells, detection_loss, propose
from fewtable.training.metric import answerable_loss, logits
from fewtable.training.spans import SpanModel, Text


@dataclass(frozen=True, slots=True)
class Stretch:
    """A window of a text: what the pointer sees at once."""

    text: int
    """Number of its text."""
    window: Window
    last: tuple[int, ...]
    """Position of the last piece of each word."""
    gold: tuple[Entity, ...]
    """Entities within the window, counted in its words."""


def stretches(texts: Sequence[Text], tail: int) -> list[Stretch]:
    """Return the windows of texts; ``tail`` is the encoder's number of special tokens after a text."""
    found = []
    for number, text in enumerate(texts):
        passed = 0
        for window in text.windows:
            size = len(window.words)
            inside = (Entity(e.start - passed, e.end - passed, e.type) for e in text.gold)
            gold = tuple(e for e in inside if e.start >= 0 and e.end <= size)
            after = (*window.first[1:], len(window.ids) - tail)
            found.append(Stretch(number, window, tuple(end - 1 for end in after), gold))
            passed += size
    return found


@dataclass(frozen=True, slots=True)
class Spans:
    """Spans of pieces: one number each (n)."""

    rows: torch.Tensor
    """Of the stretch."""
    first: torch.Tensor
    last: torch.Tensor
    """Positions in the stretch."""

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def of_words(cls, found: torch.Tensor, parts: Sequence[Stretch]) -> Spans:
        """Return spans given as (n, 3) stretch, first word, last word."""
        places = [(r, parts[r].window.first[s], parts[r].last[e]) for r, s, e in found.tolist()]
        return cls(*torch.tensor(places, dtype=torch.long, device=found.device).reshape(-1, 3).unbind(-1))


def gold_words(parts: Sequence[Stretch], device: torch.device) -> torch.Tensor:
    """Return the entities (n, 3) of stretches: stretch, first word, last word."""
    rows = [(row, e.start, e.end - 1) for row, part in enumerate(parts) for e in part.gold]
    return torch.tensor(rows, dtype=torch.long, device=device).reshape(-1, 3)


def beside(found: torch.Tensor, gold: torch.Tensor) -> torch.Tensor:
    """Return which found spans (n, 3) are within one word of a right one (m, 3) at both ends, (n)."""
    near = (found[:, None] - gold).abs()
    return ((near[..., 0] == 0) & (near[..., 1:] <= 1).all(-1)).any(1)


class SpanProtoHeads(torch.nn.Module):
    """The pointer and the projection of the types' vectors.

    Args:
        size: of the encoder's vectors.
        inner: of the pointer's queries and keys.
        mean: a span is the mean over its pieces, not the sum of its ends.
    """

    def __init__(self, size: int, inner: int, *, mean: bool) -> None:
        super().__init__()
        self.pointer, self.project = GlobalPointer(size, inner), torch.nn.Linear(size, size)
        self._mean = mean

    def vectors(self, states: torch.Tensor, spans: Spans) -> torch.Tensor:
        """Return the vectors (n, size) of spans of padded states (b, pieces, size)."""
        z: torch.Tensor = self.project(states).sigmoid()
        if not self._mean:
            return z[spans.rows, spans.first] + z[spans.rows, spans.last]
        return means(z, spans)


def means(states: torch.Tensor, spans: Spans) -> torch.Tensor:
    """Return the mean (n, size) over the pieces of each span, of padded states (b, pieces, size)."""
    sums = torch.nn.functional.pad(states.cumsum(1), (0, 0, 1, 0))
    total = sums[spans.rows, spans.last + 1] - sums[spans.rows, spans.first]
    return total / (spans.last + 1 - spans.first)[:, None]


@dataclass(frozen=True, slots=True)
class Options:
    """What the two methods differ in, and their numbers."""

    views: int
    margin: float
    rule: Rule
    """In training: which spans are pushed from the prototypes."""
    alone: int
    """First steps, in which the pointer learns alone."""


class SpanProto(SpanModel):
    """SpanProto over an encoder.

    Raises:
        ConfigError: two views, and the tokenizer has no mask.
    """

    heads: SpanProtoHeads

    def __init__(self, encoder: Encoder, heads: SpanProtoHeads, options: Options) -> None:
        super().__init__(encoder, heads)
        self._options = options
        self._mask = encoder.mask() if options.views == 2 else -1
        self._alone = False

    def before(self, step: int, lr: float) -> None:
        """Note whether the pointer learns alone."""
        self._alone = step < self._options.alone

    def loss(self, episode: Episode) -> tuple[torch.Tensor, float]:
        """Return the pointer's loss on the support, plus what the query's types cost, and 1.

        The types cost the mean cross-entropy of the query's entities, and the mean over the pointer's other spans and
        the prototypes of max(0, margin - distance); in each view.
        """
        support = stretches(self.read(episode.support), self.pieces.tail)
        parts = [*support, *stretches(self.read(episode.query), self.pieces.tail)]
        if not support:
            return self.nothing()
        states, lengths = self.padded([part.window for part in parts])
        scores = self.heads.pointer(states)
        valid = cells(lengths, states.shape[1])
        count = len(support)
        right = right_cells(support, valid[:count])
        total = detection_loss(scores[:count], right, valid[:count]).mean()
        if self._alone or count == len(parts) or not any(part.gold for part in support):
            return total, 1.0
        gold = gold_words(parts, states.device)
        found, _ = propose(chances(scores[count:].detach(), parts[count:]), self._options.rule)
        found[:, 0] += count
        wrong = found[~beside(found, gold)]
        kinds = [episode.types.index(e.type) for part in parts for e in part.gold]
        spans = Spans.of_words(torch.cat([gold, wrong]), parts)
        labels = torch.tensor(kinds, dtype=torch.long, device=states.device)
        known = int((gold[:, 0] < count).sum())
        for vectors in self._views(states, parts, spans):
            total = total + self._typing(vectors, labels, known, len(episode.types))
        return total, 1.0

    def _typing(self, vectors: torch.Tensor, labels: torch.Tensor, known: int, types: int) -> torch.Tensor:
        """Return what types cost; ``vectors`` are those of ``known`` support entities, query entities, other spans."""
        scores = logits("prototype", vectors[known:], vectors[:known], labels[:known], types)
        right = len(labels) - known
        loss, count = answerable_loss(scores[:right], labels[known:])
        loss = loss / max(count, 1)
        present = torch.unique(labels[:known])
        if len(scores) > right:
            loss = loss + (self._options.margin - distances(scores[right:, present])).clamp_min(0).mean()
        return loss

    def _views(self, states: torch.Tensor, parts: Sequence[Stretch], spans: Spans) -> Iterator[torch.Tensor]:
        """Yield the spans' vectors (n, size): as they stand, and masked; with the gradient where there is one."""
        yield self.heads.vectors(states, spans)
        if self._options.views == 2 and len(spans):
            hidden, _ = self.padded(self._masked(parts, spans))
            yield self.heads.vectors(hidden, replace(spans, rows=torch.arange(len(spans), device=states.device)))

    def _masked(self, parts: Sequence[Stretch], spans: Spans) -> list[Window]:
        """Return the window of each span with its pieces masked."""
        found = []
        for row, first, last in zip(*(t.tolist() for t in (spans.rows, spans.first, spans.last)), strict=True):
            ids = parts[row].window.ids
            hidden = (self._mask,) * (last + 1 - first)
            found.append(replace(parts[row].window, ids=(*ids[:first], *hidden, *ids[last + 1 :])))
        return found

    @torch.no_grad()
    def candidates(
        self, types: Sequence[str], support: Sequence[Sentence], query: Sequence[Sentence], rule: Rule
    ) -> Iterator[list[tuple[float, Entity]]]:
        """Yield each query sentence's spans that the pointer finds and no prototype rejects, with their probability.

        Only the pointer says which spans are looked at.
        """
        known, labels = self._memory(types, support)
        for start in range(0, len(query), LAYOUT_BATCH):
            texts = self.read(query[start : start + LAYOUT_BATCH])
            parts = stretches(texts, self.pieces.tail)
            answers: list[list[tuple[float, Entity]]] = [[] for _ in texts]
            if parts and len(labels):
                for chance, row, first, last, kind in self._typed(parts, known, labels, len(types), rule):
                    words = parts[row].window.words
                    entity = Entity(words[first], words[last] + 1, types[kind])
                    answers[parts[row].text].append((chance, entity))
            yield from answers

    def _memory(self, types: Sequence[str], support: Sequence[Sentence]) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Return the vectors of the support's entities in each view, and their types' numbers."""
        parts = [part for part in stretches(self.read(support), self.pieces.tail) if part.gold]
        labels = torch.tensor([types.index(e.type) for p in parts for e in p.gold], device=self.pieces.device)
        if not parts:
            return [], labels
        states, _ = self.padded([part.window for part in parts])
        gold = gold_words(parts, states.device)
        return list(self._views(states, parts, Spans.of_words(gold, parts))), labels

    def _typed(
        self, parts: Sequence[Stretch], known: Sequence[torch.Tensor], labels: torch.Tensor, types: int, rule: Rule
    ) -> list[tuple[float, int, int, int, int]]:
        """Return probability, stretch, first word, last word and type of the spans that are found and not rejected."""
        states, _ = self.padded([part.window for part in parts])
        found, likely = propose(chances(self.heads.pointer(states), parts), rule)
        views = self._views(states, parts, Spans.of_words(found, parts))
        scores = [logits("prototype", v, k, labels, types) for v, k in zip(views, known, strict=False)]
        kinds = torch.stack(scores).mean(0).argmax(-1)
        far = torch.stack([distances(s) for s in scores]).mean(0).gather(1, kinds[:, None])[:, 0]
        rows = zip(likely.tolist(), found.tolist(), kinds.tolist(), (far <= self._options.margin).tolist(), strict=True)
        return [(chance, row, first, last, kind) for chance, (row, first, last), kind, near in rows if near]


def distances(scores: torch.Tensor) -> torch.Tensor:
    """Return the distances whose squares are ``-scores``; the root has no gradient at 0 alone."""
    return (-scores + 1e-12).sqrt()


def right_cells(parts: Sequence[Stretch], valid: torch.Tensor) -> torch.Tensor:
    """Return the cells (b, n, n) of the entities; that of the first piece alone where a stretch has none."""
    right = torch.zeros_like(valid)
    spans = Spans.of_words(gold_words(parts, valid.device), parts)
    right[spans.rows, spans.first, spans.last] = True
    right[[row for row, part in enumerate(parts) if not part.gold], 0, 0] = True
    return right


def chances(scores: torch.Tensor, parts: Sequence[Stretch]) -> torch.Tensor:
    """Return the probabilities (b, words, words) of the spans of words, of scores (b, n, n) of spans of pieces."""
    firsts, lasts = (
        pad_sequence([torch.tensor(p) for p in places], batch_first=True).to(scores.device)
        for places in ([p.window.first for p in parts], [p.last for p in parts])
    )
    rows = torch.arange(len(parts), device=scores.device)[:, None, None]
    real = cells(torch.tensor([len(p.last) for p in parts], device=scores.device), firsts.shape[1])
    return scores[rows, firsts[:, :, None], lasts[:, None, :]].sigmoid() * real
