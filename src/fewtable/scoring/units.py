"""Count tensors from scores files: what intervals and tests resample."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fewtable.errors import DataError
from fewtable.scoring.block import SCORER
from fewtable.scoring.statistics import Floats, ratio

COLUMNS = ("tp", "pred", "gold", "span_tp", "span_pred", "span_gold", "near", "span_near")
"""The columns of a count tensor: strict, span, and overlapping pairs that are not exact, of one type and of any."""

TP, PRED, GOLD, SPAN_TP, SPAN_PRED, SPAN_GOLD, NEAR, SPAN_NEAR = range(len(COLUMNS))


@dataclass(frozen=True)
class Units:
    """Counts a unit.

    ``counts``: (draws, units, COLUMNS). Where all draws ask the same sentences, a unit is a sentence. Else the draws
    are episodes: each is one unit with its counts summed, ``pooled`` is true and the first axis has length 1.
    """

    counts: Floats
    names: tuple[str, ...]
    draws: tuple[int, ...]
    pooled: bool


def draws_of(blocks: Sequence[Mapping[str, Any]], where: Sequence[str] = ()) -> dict[int, dict[str, Any]]:
    """Return the draws of some scores files by number, sorted.

    Args:
        blocks: the JSON values of the scores files.
        where: what to call each of them in errors.

    Raises:
        DataError: a draw occurs twice, or a file was written by another version of the scorer.
    """
    draws: dict[int, dict[str, Any]] = {}
    for i, block in enumerate(blocks):
        name = where[i] if i < len(where) else None
        if block.get("scorer") != SCORER:
            raise DataError(
                f"scores of scorer {block.get('scorer')!r}, not of '{SCORER}'",
                where=name,
                fix="score the predictions again",
            )
        for key, scores in block["draws"].items():
            if int(key) in draws:
                raise DataError(f"draw {key} occurs in two scores files", where=name)
            draws[int(key)] = scores
    if not draws:
        raise DataError("no draw in the scores", where=where[0] if where else None)
    return dict(sorted(draws.items()))


def units_of(draws: Mapping[int, Mapping[str, Any]]) -> Units:
    """Lay out the counts of all draws as a tensor."""
    numbers = tuple(draws)
    tables = {draw: _table(scores) for draw, scores in draws.items()}
    ids = tuple(draws[numbers[0]]["ids"])
    if all(sorted(scores["ids"]) == sorted(ids) for scores in draws.values()):
        names = tuple(sorted(ids))
        layers = []
        for draw in numbers:
            place = {name: i for i, name in enumerate(draws[draw]["ids"])}
            layers.append(tables[draw][[place[name] for name in names]])
        return Units(np.stack(layers), names, numbers, pooled=False)
    sums = np.stack([tables[draw].sum(axis=0) for draw in numbers])
    return Units(sums[None], tuple(f"draw {draw}" for draw in numbers), numbers, pooled=True)


def _table(scores: Mapping[str, Any]) -> Floats:
    """Return one draw's (sentences, COLUMNS)."""
    table = np.zeros((len(scores["ids"]), len(COLUMNS)))
    strict = np.array([[i, tp, tp + fp, tp + fn] for i, _, tp, fp, fn in scores["rows"]]).reshape(-1, 4)
    spans = np.array([[i, tp, tp + fp, tp + fn] for i, tp, fp, fn in scores["span_rows"]]).reshape(-1, 4)
    near = np.array([[i, pairs] for i, _, pairs in scores["near"]]).reshape(-1, 2)
    span_near = np.array(scores["span_near"]).reshape(-1, 2)
    for rows, first in ((strict, TP), (spans, SPAN_TP), (near, NEAR), (span_near, SPAN_NEAR)):
        np.add.at(table[:, first : first + rows.shape[1] - 1], rows[:, 0].astype(np.intp), rows[:, 1:])
    return table


def _share(above: int, below: int) -> Callable[[Floats], Floats]:
    return lambda sums: ratio(100 * sums[..., above], sums[..., below])


def _f1(first: int) -> Callable[[Floats], Floats]:
    return lambda sums: ratio(200 * sums[..., first], sums[..., first + 1] + sums[..., first + 2])


def _partial(sums: Floats) -> Floats:
    return ratio(200 * sums[..., TP] + 100 * sums[..., NEAR], sums[..., PRED] + sums[..., GOLD])


def _errors(near: int, *below: int) -> Callable[[Floats], Floats]:
    def rate(sums: Floats) -> Floats:
        size = sums[..., list(below)].sum(axis=-1)
        return np.where(size == 0, np.nan, ratio(100 * sums[..., near], size))

    return rate


METRICS: dict[str, Callable[[Floats], Floats]] = {
    "strict.f1": _f1(TP),
    "strict.precision": _share(TP, PRED),
    "strict.recall": _share(TP, GOLD),
    "span.f1": _f1(SPAN_TP),
    "partial.f1": _partial,
    "boundary.ber": _errors(NEAR, TP, NEAR),
    "boundary.ber_pred": _errors(NEAR, PRED),
    "boundary.ber_gold": _errors(NEAR, GOLD),
    "boundary.ber_blind": _errors(SPAN_NEAR, SPAN_TP, SPAN_NEAR),
}
"""Metric -> statistic of summed counts (..., COLUMNS), in percent. Boundary error rates (methods/fs-12): pairs with a
wrong edge by the predictions that found a gold mention of their type, by all predictions, by all gold mentions, and the
first with types left aside. They are nan where there is nothing to divide by: 0 would be the best value."""


def all_metrics(sums: Floats) -> Floats:
    """Return all METRICS of summed counts along a new last axis."""
    return np.stack([statistic(sums) for statistic in METRICS.values()], axis=-1)


def episode_f1(counts: Floats) -> Floats:
    """Return the strict F1 of each unit (units, COLUMNS); 100 where nothing is to find and nothing was found."""
    empty = (counts[:, PRED] + counts[:, GOLD]) == 0
    return np.where(empty, 100.0, METRICS["strict.f1"](counts))
