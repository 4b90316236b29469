"""A global pointer: every pair of a first and a last piece is scored as a span, without a type.

Su et al. 2022, "Efficient Global Pointer"; methods/fs-07, Encoder and extractor.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

GRID = tuple(0.95 - 0.05 * step for step in range(19))
"""Thresholds that the released rule tries one after another, down to 0.05."""
ENOUGH = 3
"""It stops when it has found more spans than this."""


class GlobalPointer(torch.nn.Module):
    """Scores of spans of pieces.

    Args:
        size: of the encoder's vectors.
        inner: of queries and keys; even.
    """

    def __init__(self, size: int, inner: int) -> None:
        super().__init__()
        self.turn, self.bias = torch.nn.Linear(size, 2 * inner), torch.nn.Linear(size, 2)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Return the scores (b, n, n), first piece by last piece, of states (b, n, size)."""
        both = self.turn(states)
        query, key = rotated(both[..., ::2]), rotated(both[..., 1::2])
        start, end = (self.bias(states) / 2).unbind(-1)
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        found: torch.Tensor = scores + start[..., None] + end[..., None, :]
        return found


def rotated(vectors: torch.Tensor) -> torch.Tensor:
    """Return vectors (..., n, d) turned by their position, so that products depend on distances (Su et al. 2021)."""
    length, size = vectors.shape[-2:]
    rates = 10000 ** (-torch.arange(0, size, 2, device=vectors.device) / size)
    angles = (torch.arange(length, device=vectors.device)[:, None] * rates).repeat_interleave(2, dim=-1)
    across = torch.stack([-vectors[..., 1::2], vectors[..., ::2]], dim=-1).flatten(-2)
    turned: torch.Tensor = vectors * angles.cos() + across * angles.sin()
    return turned


def cells(lengths: torch.Tensor, longest: int) -> torch.Tensor:
    """Return which cells (b, longest, longest) are spans: none that ends before it starts, or in the padding."""
    places = torch.arange(longest, device=lengths.device)
    return (places[:, None] <= places) & (places < lengths[:, None])[:, None, :]


def detection_loss(scores: torch.Tensor, gold: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Return log(1 + sum exp(s) over wrong spans) + log(1 + sum exp(-s) over right ones), (b).

    Args:
        scores: (b, n, n).
        gold: (b, n, n) the right spans, all of them valid.
        valid: (b, n, n).
    """
    wrong = scores.masked_fill(gold | ~valid, -torch.inf).flatten(1)
    right = (-scores).masked_fill(~gold, -torch.inf).flatten(1)
    zero = scores.new_zeros(len(scores), 1)
    return torch.cat([wrong, zero], 1).logsumexp(1) + torch.cat([right, zero], 1).logsumexp(1)


@dataclass(frozen=True, slots=True)
class Rule:
    """Which spans are proposed."""

    least: float
    """Probability."""
    most: int
    """Spans of a window, the likeliest."""
    lowered: bool = False
    """The released rule: from 0.95 the threshold falls by 0.05 until more than 3 spans are found; no ``least``."""


def propose(chances: torch.Tensor, rule: Rule) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the proposed spans (n, 3) window, first word, last word, and their probabilities (n).

    Args:
        chances: (b, words, words) probabilities; 0 where there is no span.
        rule: which are proposed.
    """
    width = chances.shape[-1]
    best, places = chances.flatten(1).topk(min(rule.most, width * width), dim=1)
    least = best.new_full((len(best),), rule.least)
    if rule.lowered:
        grid = torch.tensor(GRID, device=best.device)
        enough = (best[:, :, None] >= grid).sum(1) > ENOUGH
        enough[:, -1] = True
        least = grid[enough.int().argmax(1)]
    kept = (best >= least[:, None]) & (best > 0)
    rows, columns = kept.nonzero().unbind(-1)
    found = places[rows, columns]
    return torch.stack([rows, found // width, found % width], dim=-1), best[rows, columns]
