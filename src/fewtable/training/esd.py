"""ESD, enhanced span-based decomposition (Wang et al., NAACL 2022; methods/fs-05).

All spans of a few words are classified. A span's vector comes from its first and its last piece; it attends to the
spans of its sentence (ISA), then support and query attend to each other (CSA). Each query span has prototypes of its
own: with w(s) the softmax over the support spans s of a class of sum_j tanh(q_j s_j), the prototype is the mean of the
spans by w. O has three: spans without an entity's word, that overlap or contain one, and within one; the same
attention makes one of them. The score of a class is minus the squared distance to its prototype.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.nn.functional import dropout, gelu, linear
from torch.nn.utils.rnn import pad_sequence

from fewtable.corpus import Entity, Sentence
from fewtable.training.encoder import LAYOUT_BATCH, Encoder
from fewtable.training.episode import Episode
from fewtable.training.metric import answerable_loss
from fewtable.training.spans import SpanModel, Text, all_spans, both_ends, groups, in_pairs

OUTSIDE = 3
"""Sub-classes of O: spans apart from every entity, that overlap or contain one, and strictly inside one."""
BUDGET = 1 << 24
"""Most numbers of an intermediate result; more query spans or sentences go one after another."""
CACHED = 1 << 18
"""The same where it should stay in a CPU's cache."""


class Attend(torch.nn.Module):
    """One head of attention, and a feed-forward layer of four times the width; each with a residual and a norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (torch.nn.Linear(width, width) for _ in range(4))
        self.wide, self.narrow = torch.nn.Linear(width, 4 * width), torch.nn.Linear(4 * width, width)
        self.between, self.after = torch.nn.LayerNorm(width), torch.nn.LayerNorm(width)

    def forward(self, asked: torch.Tensor, known: torch.Tensor, real: torch.Tensor | None = None) -> torch.Tensor:
        """Return ``asked`` (..., n, width) after reading ``known`` (..., m, width), where ``real`` (..., m) is true."""
        scores = self.query(asked) @ self.key(known).transpose(-1, -2) / asked.shape[-1] ** 0.5
        if real is not None:
            scores = scores.masked_fill(~real[..., None, :], -torch.inf)
        read = self.between(asked + self.out(scores.softmax(-1) @ self.value(known)))
        found: torch.Tensor = self.after(read + self.narrow(gelu(self.wide(read))))
        return found


class EsdHeads(torch.nn.Module):
    """Everything above the encoder.

    Args:
        size: of the encoder's vectors.
        width: of span vectors.
        token_dropout: on the encoder's vectors.
        inner_dropout: within a span's layers.
    """

    def __init__(self, size: int, width: int, token_dropout: float, inner_dropout: float) -> None:
        super().__init__()
        self.first, self.second = torch.nn.Linear(2 * size, size), torch.nn.Linear(size, width)
        self.inside, self.across = Attend(width), Attend(width)
        self._token_dropout, self._inner_dropout = token_dropout, inner_dropout

    def spans(self, ends: Sequence[torch.Tensor], longest: int) -> list[torch.Tensor]:
        """Return the vectors (spans, width) of the spans of each sentence, after ISA, in the order of ``all_spans``.

        Args:
            ends: (words, 2, size) of each sentence: states of each word's first and last piece.
            longest: most words of a span.
        """
        places = [all_spans(len(e), longest) for e in ends]
        found: list[torch.Tensor] = []
        for group in groups([len(p) for p in places], BUDGET):
            found += self._spans([ends[i] for i in group], [places[i] for i in group])
        return found

    def _spans(self, ends: Sequence[torch.Tensor], places: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        sizes = [len(p) for p in places]
        if not sum(sizes):
            return [e.new_zeros(0, self.second.out_features) for e in ends]
        offsets = torch.tensor([0, *(len(e) for e in ends[:-1])]).cumsum(0)
        starts, stops = torch.cat([p + o for p, o in zip(places, offsets, strict=True)]).to(ends[0].device).unbind(-1)
        words = dropout(torch.cat(list(ends)), self._token_dropout, self.training)
        # The layer over both ends put together, computed once a word instead of once a span.
        left, right = self.first.weight.chunk(2, dim=1)
        both = linear(words[:, 0], left, self.first.bias)[starts] + linear(words[:, 1], right)[stops - 1]
        vectors = self.second(dropout(gelu(both), self._inner_dropout, self.training))
        padded = pad_sequence(list(torch.split(vectors, sizes)), batch_first=True)
        real = torch.arange(padded.shape[1]) < torch.tensor(sizes)[:, None].clamp_min(1)  # a row of nothing is no NaN
        enhanced = self.inside(padded, padded, real.to(padded.device))
        return [row[:size] for row, size in zip(enhanced, sizes, strict=True)]

    def scores(self, asked: torch.Tensor, known: torch.Tensor, members: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the scores (n, 1 + types) of the query spans of one sentence, O first.

        Args:
            asked: (n, width) the sentence's spans.
            known: (m, width) spans of the support.
            members: indices of the support spans of each class: the three of O, then the types. A type without a
                span scores -inf, and so does O where none of its three has one.
        """
        known, asked = self.across(known, asked), self.across(asked, known)
        return _scores(asked, known, members)


class Agreement(torch.autograd.Function):
    """sum_j tanh(q_j s_j), (n, m), of (n, d) and (m, d).

    The one place that needs n x m x d numbers: it makes some at a time, forwards and once more backwards.
    """

    @staticmethod
    def forward(ctx: Any, asked: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        """Return the sums."""
        ctx.save_for_backward(asked, known)
        found = asked.new_empty(len(asked), len(known))
        for rows in _parts(asked, known):
            found[rows] = (asked[rows, None] * known).tanh_().sum(-1)
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the gradients of both."""
        asked, known = ctx.saved_tensors
        of_asked, of_known = torch.empty_like(asked), torch.zeros_like(known)
        for rows in _parts(asked, known):
            slope = (asked[rows, None] * known).tanh_().square_().neg_().add_(1).mul_(gradients[0][rows, :, None])
            of_asked[rows] = (slope * known).sum(1)
            of_known += (slope * asked[rows, None]).sum(0)
        return of_asked, of_known


def _parts(asked: torch.Tensor, known: torch.Tensor) -> Iterator[slice]:
    """Yield the rows of ``asked`` a few at a time: on a CPU as much as its cache holds."""
    size = max(1, (CACHED if asked.device.type == "cpu" else BUDGET) // max(1, known.numel()))
    return (slice(start, start + size) for start in range(0, len(asked), size))


def _scores(asked: torch.Tensor, known: torch.Tensor, members: Sequence[torch.Tensor]) -> torch.Tensor:
    agreement: torch.Tensor = Agreement.apply(asked, known)  # type: ignore[no-untyped-call]
    prototypes = [agreement[:, own].softmax(-1) @ known[own] if len(own) else None for own in members]
    outside = [p for p in prototypes[:OUTSIDE] if p is not None]
    if outside:
        kinds = torch.stack(outside, dim=1)
        likeness = (asked[:, None] * kinds).tanh().sum(-1).softmax(-1)
        prototypes[OUTSIDE - 1] = (likeness[:, :, None] * kinds).sum(1)
    nothing = asked.new_full((len(asked),), -torch.inf)
    columns = [nothing if p is None else -(asked - p).square().sum(-1) for p in prototypes[OUTSIDE - 1 :]]
    return torch.stack(columns, dim=1)


def span_classes(spans: torch.Tensor, gold: Sequence[Entity], types: Sequence[str]) -> torch.Tensor:
    """Return the class (n) of spans (n, 2): 0, 1, 2 are O's (see ``OUTSIDE``), then the types.

    A span that overlaps several entities counts by the first of them.
    """
    starts, ends = spans.unbind(-1)
    first, last = torch.tensor([[e.start, e.end] for e in gold], dtype=torch.long).reshape(-1, 2).unbind(-1)
    kinds = torch.tensor([OUTSIDE + types.index(e.type) for e in gold], dtype=torch.long)
    if not len(kinds):
        return torch.zeros(len(spans), dtype=torch.long)
    meets = (starts[:, None] < last) & (first < ends[:, None])
    within = (starts[:, None] >= first) & (ends[:, None] <= last)
    same = (starts[:, None] == first) & (ends[:, None] == last)
    rows = torch.arange(len(spans))
    hit = meets.int().argmax(1)
    outside = torch.where(meets[rows, hit], 1 + within[rows, hit].long(), 0)
    return torch.where(same.any(1), kinds[same.int().argmax(1)], outside)


class Esd(SpanModel):
    """ESD over an encoder.

    Args:
        encoder: of all words.
        heads: above it.
        longest: most words of a span.
        outside: most O spans of a support sentence in training, drawn at random; None: all.
    """

    heads: EsdHeads

    def __init__(self, encoder: Encoder, heads: EsdHeads, longest: int, outside: int | None) -> None:
        super().__init__(encoder, heads)
        self._longest, self._outside = longest, outside

    def loss(self, episode: Episode) -> tuple[torch.Tensor, float]:
        """Return the mean cross-entropy of all query spans of an episode, and 1.

        Spans whose own class has no support span do not count; an episode without others gives 0 and 0.
        """
        support, query = self.read(episode.support), self.read(episode.query)
        windows = [both_ends(w, self.pieces.tail) for text in (*support, *query) for w in text.windows]
        if not windows:
            return self.nothing()
        ends = in_pairs(self.pieces.states(windows))
        vectors = self.heads.spans(torch.split(ends, [len(t.words) for t in (*support, *query)]), self._longest)
        known, members = self._memory(support, vectors[: len(support)], episode.types)
        total, count = ends.sum() * 0, 0
        for text, asked in zip(query, vectors[len(support) :], strict=True):
            if len(asked) and len(known):
                classes = span_classes(all_spans(len(text.words), self._longest), text.gold, episode.types)
                gold = (classes - OUTSIDE + 1).clamp_min(0).to(asked.device)
                part, spans = answerable_loss(self.heads.scores(asked, known, members), gold)
                total, count = total + part, count + spans
        return (total / count, 1.0) if count else (total, 0.0)

    def _memory(
        self, texts: Sequence[Text], vectors: Sequence[torch.Tensor], types: Sequence[str]
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return the vectors of the support's spans, and which of them are of each class."""
        classes = [span_classes(all_spans(len(t.words), self._longest), t.gold, types) for t in texts]
        kept = [self._kept(own) for own in classes] if self.training and self._outside is not None else classes
        rows = [(own >= 0).nonzero()[:, 0] for own in kept]
        known = torch.cat([v[r.to(v.device)] for v, r in zip(vectors, rows, strict=True)])
        numbers = torch.cat([own[r] for own, r in zip(kept, rows, strict=True)])
        found = [(numbers == kind).nonzero()[:, 0].to(known.device) for kind in range(OUTSIDE + len(types))]
        return known, found

    def _kept(self, classes: torch.Tensor) -> torch.Tensor:
        """Return the classes with -1 for the O spans that are left out."""
        rows = (classes < OUTSIDE).nonzero()[:, 0]
        dropped = rows[torch.randperm(len(rows))[self._outside :]]
        return classes.index_fill(0, dropped, -1)

    @torch.no_grad()
    def candidates(
        self, types: Sequence[str], support: Sequence[Sentence], query: Sequence[Sentence]
    ) -> Iterator[list[tuple[float, Entity]]]:
        """Yield the spans of each query sentence whose best class is a type, with its probability."""
        known, members = self._memory(*self._vectors(self.read(support)), types)
        for start in range(0, len(query), LAYOUT_BATCH):
            for text, asked in zip(*self._vectors(self.read(query[start : start + LAYOUT_BATCH])), strict=True):
                if not len(asked) or not len(known):
                    yield []
                    continue
                best, kinds = self.heads.scores(asked, known, members).softmax(-1).max(-1)
                places = all_spans(len(text.words), self._longest).tolist()
                rows = zip(best.tolist(), kinds.tolist(), places, strict=True)
                yield [
                    (chance, text.entity(start, end, types[kind - 1])) for chance, kind, (start, end) in rows if kind
                ]

    def _vectors(self, texts: list[Text]) -> tuple[list[Text], list[torch.Tensor]]:
        windows = [[both_ends(w, self.pieces.tail) for w in text.windows] for text in texts]
        states = dict(self.pieces.vectors(windows))
        return texts, self.heads.spans([in_pairs(states[i]) for i in range(len(texts))], self._longest)
