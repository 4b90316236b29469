"""Spread and significance, after methods/fs-13: everything is recomputed from counts a unit, never from unit F1.

Counts are tensors of shape (draws, units, columns); a unit is a test sentence, or an episode with its counts summed.
Units with equal counts are interchangeable, so resampling draws how often each *distinct* row occurs (a multinomial
for the bootstrap, a binomial for swaps) instead of which unit: the same distribution, far fewer numbers, and a result
that does not depend on the order of units.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]
"""Sums (..., columns) -> statistic (...)."""

RESAMPLES = 10_000
_CHUNK = 1 << 22


class Interval(NamedTuple):
    """A 95% interval, both ends included."""

    low: float
    high: float


def ratio(above: Floats, below: Floats) -> Floats:
    """Divide, 0 where the denominator is 0."""
    return np.divide(above, below, out=np.zeros_like(above), where=below != 0)


def sample_sd(values: Sequence[float]) -> float | None:
    """Return the sample standard deviation (n - 1); None for fewer than two values."""
    if len(values) < 2:
        return None
    if min(values) == max(values):
        return 0.0
    return float(np.std(np.asarray(values, dtype=np.float64), ddof=1))


def t_quantile(degrees: int, confidence: float = 0.95) -> float:
    """Return the two-sided quantile of Student's t: the central ``confidence`` lies within +- this value.

    Uses the finite series for whole degrees of freedom (Abramowitz and Stegun, 26.7.3 and 26.7.4).
    """
    low, high = 0.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        if _t_central(middle, degrees) < confidence:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _t_central(t: float, degrees: int) -> float:
    """Return the probability that Student's t lies in [-t, t]."""
    angle = math.atan(t / math.sqrt(degrees))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = degrees % 2
    term = cosine if odd else 1.0
    total = 0.0 if degrees == 1 else term
    for i in range(1 + odd, degrees - 2, 2):
        term *= cosine * cosine * i / (i + 1)
        total += term
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


def t_interval(values: Sequence[float]) -> Interval | None:
    """Return the 95% t interval of the mean; None for fewer than two values."""
    spread = sample_sd(values)
    if spread is None:
        return None
    centre = float(np.mean(values))
    half = t_quantile(len(values) - 1) * spread / math.sqrt(len(values))
    return Interval(centre - half, centre + half)


def _distinct(counts: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """Return the distinct units (rows of draws x columns, sorted) and how often each occurs."""
    rows = counts.transpose(1, 0, 2).reshape(counts.shape[1], -1)
    distinct, times = np.unique(rows, axis=0, return_counts=True)
    return distinct, np.asarray(times, dtype=np.int64)


def _unit_sums(rng: np.random.Generator, rows: Floats, times: NDArray[np.int64], resamples: int) -> Iterator[Floats]:
    """Yield (some resamples, row width) sums over units drawn with replacement."""
    units = int(times.sum())
    sparse = len(rows) * 12 < units  # a binomial costs about twelve uniform draws
    everyone = rows if sparse else np.repeat(rows, times, axis=0)
    step = max(1, _CHUNK // max(len(everyone), 1))
    for begin in range(0, resamples, step):
        size = min(step, resamples - begin)
        if sparse:
            drawn = rng.multinomial(units, times / units, size=size)
        else:
            picked = rng.integers(0, units, size=(size, units), dtype=np.int32)
            picked += np.arange(size, dtype=np.int32)[:, None] * np.int32(units)
            drawn = np.bincount(picked.ravel(), minlength=size * units).reshape(size, units)
        yield drawn.astype(np.float64) @ everyone


def bootstrap(counts: Floats, statistic: Statistic, *, seed: int, resamples: int = RESAMPLES) -> Floats:
    """Return ``resamples`` values of the statistic, resampling draws and units with replacement (fs-13, C).

    One draw of units serves all draws and columns, so pairing is kept; with one draw only units are resampled.

    Args:
        counts: (draws, units, columns).
        statistic: of the sums over units; its mean over draws is taken.
        seed: makes the result repeatable.
        resamples: how many.

    Returns:
        (resamples,) or (resamples, k) when the statistic gives k values.
    """
    draws, units, columns = counts.shape
    if not units:
        return np.zeros((0,))
    rng = np.random.default_rng(seed)
    rows, times = _distinct(counts)
    parts = []
    for sums in _unit_sums(rng, rows, times, resamples):
        values = statistic(sums.reshape(len(sums), draws, columns))
        weight = rng.multinomial(draws, np.full(draws, 1 / draws), size=len(sums)) / draws
        parts.append(np.einsum("br,br...->b...", weight, values))
    return np.concatenate(parts)


def percentiles(values: Floats) -> Interval | None:
    """Return the 2.5 and 97.5 percentiles of the defined (not nan) values; None without any."""
    values = values[~np.isnan(values)]
    if not len(values):
        return None
    low, high = np.percentile(values, [2.5, 97.5])
    return Interval(float(low), float(high))


def randomisation(a: Floats, b: Floats, statistic: Statistic, *, seed: int, resamples: int = RESAMPLES) -> float:
    """Return the p of the paired approximate randomisation test (fs-13, A); see ``swapped``."""
    observed = float((statistic(a.sum(axis=1)) - statistic(b.sum(axis=1))).mean())
    return p_of(observed, swapped(a, b, statistic, seed=seed, resamples=resamples))


def p_of(observed: float, values: Floats) -> float:
    """Return (1 + #{|T_b| >= |T|}) / (resamples + 1) of a statistic and its ``values`` under the null hypothesis."""
    extreme = int((~(np.abs(values) < abs(observed) - 1e-9)).sum())  # undefined values count as extreme
    return (1 + extreme) / (len(values) + 1)


def swapped(a: Floats, b: Floats, statistic: Statistic, *, seed: int, resamples: int = RESAMPLES) -> Floats:
    """Return ``resamples`` values of T under the null hypothesis that A's and B's counts of a unit may be swapped.

    They are swapped in all draws together, which keeps the dependence between a unit's draws.

    Args:
        a: (draws, units, columns) of one method.
        b: the same units and draws of the other.
        statistic: of the sums over units; T is the mean over draws of its difference.
        seed: makes the result repeatable.
        resamples: how many.
    """
    difference = a - b
    rows, times = _distinct(difference)
    total_a, total_b = a.sum(axis=1), b.sum(axis=1)
    moved = rows.any(axis=1)
    rows, times = rows[moved], times[moved]
    if not len(rows):
        return np.zeros(resamples)
    rng = np.random.default_rng(seed)
    step = max(1, _CHUNK // len(rows))
    parts = []
    for begin in range(0, resamples, step):
        heads = rng.binomial(times, 0.5, size=(min(step, resamples - begin), len(rows)))
        shift = (heads.astype(np.float64) @ rows).reshape(len(heads), *total_a.shape)
        parts.append((statistic(total_a - shift) - statistic(total_b + shift)).mean(axis=1))
    return np.concatenate(parts)


def sign_flip(differences: Sequence[float]) -> float | None:
    """Return the exact two-sided p over all sign patterns of the draws' differences (fs-13, B).

    The smallest possible p is 2 / 2**n. None for no differences or more than 20 (use the randomisation test).
    """
    if not 1 <= len(differences) <= 20:
        return None
    sums = np.zeros(1)
    for value in differences:
        sums = np.concatenate([sums + value, sums - value])
    observed = abs(sum(differences))
    return float((np.abs(sums) >= observed - 1e-9 * max(observed, 1)).mean())


def holm(values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p values, in the order given."""
    adjusted = [0.0] * len(values)
    largest = 0.0
    for rank, i in enumerate(sorted(range(len(values)), key=lambda i: values[i])):
        largest = max(largest, min(1.0, (len(values) - rank) * values[i]))
        adjusted[i] = largest
    return adjusted
