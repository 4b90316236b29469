"""Near misses: one-to-one matching of overlapping mentions, for partial match and boundary errors.

Follows methods/fs-12: exact matches are set aside; among the rest, mentions of one type (or of any type) that share
a word are paired one to one: as many pairs as possible, and of those choices the one with most shared words.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fewtable.scoring.mentions import Bools, Counts, Frame, Ints, Mentions, found_in


@dataclass(frozen=True, slots=True)
class Matching:
    """Exact matches and near misses of two entity sets.

    ``gold_near[i]`` and ``pred_near[i]`` index the two mentions of the i-th near pair.
    ``merge`` and ``split`` tell of each pair whether the prediction overlaps several gold mentions of its type, and
    whether the gold mention overlaps several predictions.
    """

    gold: Mentions
    pred: Mentions
    exact: int
    gold_near: Ints
    pred_near: Ints
    merge: Bools
    split: Bools

    @property
    def partial(self) -> Counts:
        """Counts where a near pair is half a true positive (UniversalNER's Table 5, by our definition)."""
        tp = self.exact + 0.5 * len(self.gold_near)
        return Counts(tp, len(self.pred) - tp, len(self.gold) - tp)

    def boundary(self) -> dict[str, Any]:
        """Return the boundary errors by kind, with the signed offsets of the wrong edges in words."""
        left = self.pred.start[self.pred_near] - self.gold.start[self.gold_near]
        right = self.pred.end[self.pred_near] - self.gold.end[self.gold_near]
        over, under = (left <= 0) & (right >= 0), (left >= 0) & (right <= 0)
        near = len(self.gold_near)
        return {
            "exact": self.exact,
            "boundary": near,
            "spurious": len(self.pred) - self.exact - near,
            "gold": len(self.gold),
            "over": int(over.sum()),
            "under": int(under.sum()),
            "shift": int((~over & ~under).sum()),
            "merge": int(self.merge.sum()),
            "split": int(self.split.sum()),
            "left": _histogram(left),
            "right": _histogram(right),
        }

    def near_rows(self, frame: Frame) -> list[tuple[int, int, int]]:
        """Return (sentence, type index, near pairs) of each sentence and type that has any, sorted."""
        size = max(len(frame.types), 1)
        cell = frame.sentence(self.gold.start[self.gold_near]) * size + self.gold.type[self.gold_near]
        cells, pairs = np.unique(cell, return_counts=True)
        sentence, kind = np.divmod(cells, size)
        return list(zip(sentence.tolist(), kind.tolist(), pairs.tolist(), strict=True))


def boundary_rates(counts: Mapping[str, Any]) -> dict[str, float | None]:
    """Return boundary error rates in percent; None where the denominator is 0.

    ``ber``: of the predictions that found a gold mention of their type, the share with a wrong edge;
    ``ber_pred`` and ``ber_gold``: wrong edges by all predictions and by all gold mentions.
    """
    exact, near = counts["exact"], counts["boundary"]
    sizes = {
        "ber": exact + near,
        "ber_pred": exact + near + counts["spurious"],
        "ber_gold": counts["gold"],
    }
    return {name: 100 * near / size if size else None for name, size in sizes.items()}


def _histogram(offsets: Ints) -> dict[str, int]:
    return {str(value): n for value, n in sorted(Counter(offsets.tolist()).items())}


def match(frame: Frame, gold: Mentions, pred: Mentions) -> Matching:
    """Match two entity sets; pass untyped mentions for the type-blind version."""
    g, p = _overlaps(frame, gold, pred)
    merge = np.bincount(p, minlength=len(pred)) > 1
    split = np.bincount(g, minlength=len(gold)) > 1
    gold_exact, pred_exact = found_in(gold, pred), found_in(pred, gold)
    rest = ~gold_exact[g] & ~pred_exact[p]
    g, p = g[rest], p[rest]
    alone = (np.bincount(g, minlength=len(gold))[g] == 1) & (np.bincount(p, minlength=len(pred))[p] == 1)
    pairs = list(zip(g[alone].tolist(), p[alone].tolist(), strict=True))
    g, p = g[~alone], p[~alone]
    shared = np.minimum(gold.end[g], pred.end[p]) - np.maximum(gold.start[g], pred.start[p])
    edges = dict(zip(zip(g.tolist(), p.tolist(), strict=True), shared.tolist(), strict=True))
    for part in _components(edges):
        pairs += pair_up({edge: edges[edge] for edge in part})
    table = np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2)
    gold_near, pred_near = table[:, 0], table[:, 1]
    return Matching(gold, pred, int(pred_exact.sum()), gold_near, pred_near, merge[pred_near], split[gold_near])


def _overlaps(frame: Frame, gold: Mentions, pred: Mentions) -> tuple[Ints, Ints]:
    """Return the indices of all (gold, prediction) pairs of one type that share a word."""
    shift = frame.words + 1
    order = np.argsort(gold.type * shift + gold.start, kind="stable")
    start = (gold.type * shift + gold.start)[order]
    reach = np.maximum.accumulate((gold.type * shift + gold.end)[order])
    begin, end = pred.type * shift + pred.start, pred.type * shift + pred.end
    low = np.searchsorted(reach, begin, side="right")
    size = np.maximum(np.searchsorted(start, end, side="left") - low, 0)
    p = np.repeat(np.arange(len(pred)), size)
    g = order[np.arange(len(p)) - np.repeat(np.cumsum(size) - size, size) + np.repeat(low, size)]
    real = (gold.end[g] > pred.start[p]) & (gold.type[g] == pred.type[p])
    return g[real], p[real]


def _components(edges: Mapping[tuple[int, int], int]) -> list[list[tuple[int, int]]]:
    """Split the edges (gold, prediction) into connected parts."""
    at_gold: dict[int, list[tuple[int, int]]] = defaultdict(list)
    at_pred: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for edge in edges:
        at_gold[edge[0]].append(edge)
        at_pred[edge[1]].append(edge)
    seen: set[tuple[int, int]] = set()
    parts = []
    for first in edges:
        if first in seen:
            continue
        seen.add(first)
        part = [first]
        for g, p in part:  # grows while it is read: a breadth-first walk
            for edge in (*at_gold[g], *at_pred[p]):
                if edge not in seen:
                    seen.add(edge)
                    part.append(edge)
        parts.append(part)
    return parts


def pair_up(edges: Mapping[tuple[int, int], int]) -> list[tuple[int, int]]:
    """Choose one-to-one pairs: as many as possible, and of these choices one with the largest sum of weights.

    Args:
        edges: (left, right) -> positive weight; a pair without an edge is never chosen.
    """
    left, right = (sorted({edge[side] for edge in edges}) for side in (0, 1))
    if len(left) == 1 or len(right) == 1:
        return [min(edges, key=lambda edge: (-edges[edge], edge))]
    if len(left) > len(right):
        return sorted((a, b) for b, a in pair_up({(b, a): weight for (a, b), weight in edges.items()}))
    bonus = sum(edges.values()) + 1  # one more pair outweighs any sum of weights
    cost = [[-(bonus + edges[a, b]) if (a, b) in edges else 0 for b in right] for a in left]
    chosen = ((left[i], right[j]) for i, j in enumerate(_assign(cost)))
    return [edge for edge in chosen if edge in edges]


def _assign(cost: Sequence[Sequence[int]]) -> list[int]:
    """Return the column of each row in a cheapest assignment (Hungarian method with potentials; rows <= columns)."""
    rows, columns = len(cost), len(cost[0])
    row_price, column_price = [0] * (rows + 1), [0] * (columns + 1)
    owner, way = [0] * (columns + 1), [0] * (columns + 1)
    for row in range(1, rows + 1):
        owner[0], column = row, 0
        least: list[float] = [float("inf")] * (columns + 1)
        used = [False] * (columns + 1)
        while owner[column]:
            used[column] = True
            current, delta, following = owner[column], float("inf"), 0
            for j in range(1, columns + 1):
                if used[j]:
                    continue
                reduced = cost[current - 1][j - 1] - row_price[current] - column_price[j]
                if reduced < least[j]:
                    least[j], way[j] = reduced, column
                if least[j] < delta:
                    delta, following = least[j], j
            step = int(delta)
            for j in range(columns + 1):
                if used[j]:
                    row_price[owner[j]] += step
                    column_price[j] -= step
                else:
                    least[j] -= step
            column = following
        while column:
            owner[column] = owner[way[column]]
            column = way[column]
    found = [0] * rows
    for j in range(1, columns + 1):
        if owner[j]:
            found[owner[j] - 1] = j - 1
    return found
