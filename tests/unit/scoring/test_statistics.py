"""Spread and significance: exact values, null behaviour, invariances."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

from fewtable.scoring.statistics import (
    Floats,
    bootstrap,
    holm,
    percentiles,
    randomisation,
    sample_sd,
    sign_flip,
    t_interval,
    t_quantile,
)
from fewtable.scoring.units import METRICS

F1 = METRICS["strict.f1"]


def method(rng: np.random.Generator, draws: int, units: int, share: float = 0.7) -> Floats:
    """Return counts (tp, predicted, gold) with an effect a unit that all draws share."""
    gold = np.random.default_rng(7).poisson(1.5, units) + 1
    ease = np.clip(share + rng.normal(0, 0.2, units), 0, 1)
    tp = rng.binomial(gold, ease, (draws, units))
    pred = tp + rng.binomial(1, 0.3, (draws, units))
    return np.stack([tp, pred, np.broadcast_to(gold, tp.shape)], axis=2).astype(np.float64)


def test_t_quantile_against_tables() -> None:
    known = {1: 12.7062, 2: 4.3027, 3: 3.1824, 4: 2.7764, 9: 2.2622, 10: 2.2281, 29: 2.0452, 120: 1.9799}
    for degrees, value in known.items():
        assert t_quantile(degrees) == pytest.approx(value, abs=5e-5)


def test_spread_uses_n_minus_1() -> None:
    assert sample_sd([1.0, 2.0, 3.0]) == 1.0
    assert sample_sd([5.0]) is None
    assert sample_sd([0.1 + 0.2, 0.1 + 0.2, 0.1 + 0.2]) == 0.0
    interval = t_interval([1.0, 2.0, 3.0])
    assert interval is not None
    assert interval.high - 2 == pytest.approx(4.3027 / math.sqrt(3), abs=1e-4)
    assert t_interval([1.0]) is None


def test_f1_is_recomputed_from_sums() -> None:
    assert F1(np.array([[3.0, 4.0, 5.0], [0.0, 0.0, 0.0]])).tolist() == pytest.approx([600 / 9, 0])


def test_bootstrap_matches_a_plain_loop() -> None:
    """Drawing how often a distinct row occurs is the same distribution as drawing units one by one."""
    counts = method(np.random.default_rng(0), 3, 400)
    fast = bootstrap(counts, F1, seed=1, resamples=4000)
    rng = np.random.default_rng(2)
    slow = []
    for _ in range(4000):
        draws, units = rng.integers(0, 3, 3), rng.integers(0, 400, 400)
        slow.append(F1(counts[:, units].sum(axis=1)[draws]).mean())
    assert fast.mean() == pytest.approx(np.mean(slow), abs=0.1)
    assert fast.std() == pytest.approx(np.std(slow), rel=0.08)


def test_both_ways_of_drawing_agree() -> None:
    """Few distinct rows are drawn as a multinomial, many one by one."""
    few = np.tile(method(np.random.default_rng(0), 1, 20), (1, 40, 1))
    many = few.copy()
    many = np.concatenate([many, np.arange(800.0)[None, :, None]], axis=2)
    a, b = (percentiles(bootstrap(c, F1, seed=3, resamples=4000)) for c in (few, many))
    assert a == pytest.approx(b, abs=0.25)


def test_bootstrap_is_repeatable_and_ignores_the_order_of_units() -> None:
    counts = method(np.random.default_rng(0), 2, 50)
    first = bootstrap(counts, F1, seed=5, resamples=100)
    shuffled = counts[:, np.random.default_rng(1).permutation(50)]
    assert (first == bootstrap(shuffled, F1, seed=5, resamples=100)).all()
    assert (first != bootstrap(counts, F1, seed=6, resamples=100)).any()


def test_intervals_of_nothing() -> None:
    assert percentiles(bootstrap(np.zeros((2, 0, 3)), F1, seed=1)) is None
    assert percentiles(np.array([np.nan])) is None


def test_clusters_widen_the_interval() -> None:
    """Every unit four times: as units of their own they look like four times the evidence."""
    counts = method(np.random.default_rng(0), 1, 150)
    copies = np.repeat(counts, 4, axis=1)
    clusters = copies.reshape(1, 150, 4, 3).sum(axis=2)
    naive, honest = (percentiles(bootstrap(c, F1, seed=1)) for c in (copies, clusters))
    assert naive is not None
    assert honest is not None
    assert honest.high - honest.low > 1.7 * (naive.high - naive.low)


def test_equal_methods() -> None:
    counts = method(np.random.default_rng(0), 3, 40)
    assert randomisation(counts, counts, F1, seed=1) == 1.0
    assert sign_flip([0.0, 0.0, 0.0]) == 1.0


def test_the_randomisation_test_is_exact_in_small() -> None:
    """Against all 2**8 swaps of eight units."""
    rng = np.random.default_rng(3)
    a, b = method(rng, 2, 8, 0.8), method(rng, 2, 8, 0.6)
    observed = abs((F1(a.sum(1)) - F1(b.sum(1))).mean())
    extreme = 0
    for pattern in product([False, True], repeat=8):
        swap = np.array(pattern)[None, :, None]
        left, right = np.where(swap, b, a), np.where(swap, a, b)
        extreme += abs((F1(left.sum(1)) - F1(right.sum(1))).mean()) >= observed - 1e-9
    assert randomisation(a, b, F1, seed=1, resamples=20_000) == pytest.approx(extreme / 2**8, abs=0.012)


def test_p_is_never_zero_and_a_shift_is_found() -> None:
    rng = np.random.default_rng(0)
    a, b = method(rng, 3, 300, 0.9), method(rng, 3, 300, 0.5)
    assert randomisation(a, b, F1, seed=1, resamples=999) == 1 / 1000


def test_order_and_sides_do_not_matter() -> None:
    rng = np.random.default_rng(4)
    a, b = method(rng, 2, 60), method(rng, 2, 60)
    p = randomisation(a, b, F1, seed=1)
    order = rng.permutation(60)
    assert 0.01 < p < 1
    assert randomisation(a[:, order], b[:, order], F1, seed=1) == p
    assert randomisation(b, a, F1, seed=1) == pytest.approx(p, abs=0.02)


def test_rejection_rate_under_the_null() -> None:
    """Two methods of one kind, five draws that share an effect a unit: about 5% rejections at .05 (fs-13)."""
    rng = np.random.default_rng(11)
    rejected = 0
    for repeat in range(400):
        pair = [method(rng, 5, 120) for _ in range(2)]
        rejected += randomisation(pair[0], pair[1], F1, seed=repeat, resamples=399) <= 0.05
    assert 0.03 <= rejected / 400 <= 0.07


def test_sign_flip() -> None:
    assert sign_flip([1.0, 2.0, 3.0]) == 0.25
    assert sign_flip([1.0] * 6) == 2 / 64
    assert sign_flip([3.0, -1.0]) == 1.0
    assert sign_flip([]) is None
    assert sign_flip([1.0] * 21) is None


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
