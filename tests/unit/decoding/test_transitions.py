"""Abstract transitions and Viterbi decoding, against counting by hand and trying every path."""

from __future__ import annotations

from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewtable.corpus import Entity, Sentence
from fewtable.decoding.transitions import (
    FLOOR,
    Counts,
    bioes,
    count,
    expand,
    log_floored,
    read_counts,
    viterbi,
    write_counts,
)

COUNTS = Counts((6, 2), (8, 4), (6, 3, 1))


def test_transitions_are_counted_on_io_tags_of_words() -> None:
    # O a a b O | a O ; neighbours of one type count as the same type
    first = Sentence("train-000000", tuple("vwxyz"), (Entity(1, 2, "a"), Entity(2, 3, "a"), Entity(3, 4, "b")))
    second = Sentence("train-000001", ("x", "y"), (Entity(0, 1, "a"),))
    assert count([first, second]) == Counts((1, 1), (0, 1), (2, 1, 1))


def test_probabilities_follow_the_paper() -> None:
    start, table = expand(COUNTS, types=2, tau=1.0)
    assert start == pytest.approx([0.75, 0.125, 0.125])
    assert table[0] == pytest.approx([2 / 3, 1 / 6, 1 / 6])
    assert table[1] == pytest.approx([0.6, 0.3, 0.1])
    assert table[2] == pytest.approx([0.6, 0.1, 0.3])


@given(
    numbers=st.lists(st.integers(0, 50), min_size=7, max_size=7),
    types=st.integers(1, 6),
    tau=st.sampled_from([1.0, 0.32, 0.01]),
)
def test_rows_sum_to_one(numbers: list[int], types: int, tau: float) -> None:
    a, b, c, d, e, f, g = numbers
    start, table = expand(Counts((a, b), (c, d), (e, f, g)), types, tau)
    assert start.sum() == pytest.approx(1)
    assert table.sum(1) == pytest.approx(np.ones(types + 1))


def test_a_small_tau_flattens_but_keeps_what_never_happens() -> None:
    _, table = expand(Counts((6, 2), (8, 4), (6, 3, 0)), types=2, tau=1e-6)
    assert table[0] == pytest.approx([1 / 3] * 3, abs=1e-4)
    assert table[1] == pytest.approx([0.5, 0.5, 0], abs=1e-4)


def brute_force(scores: np.ndarray, start: np.ndarray, table: np.ndarray) -> float:
    return max(path_score(path, scores, start, table) for path in product(range(len(start)), repeat=len(scores)))


def path_score(path: tuple[int, ...] | list[int], scores: np.ndarray, start: np.ndarray, table: np.ndarray) -> float:
    total = np.log(max(start[path[0]], FLOOR)) + scores[0, path[0]]
    for i in range(1, len(path)):
        total += np.log(max(table[path[i - 1], path[i]], FLOOR)) + scores[i, path[i]]
    return float(total)


@given(lengths=st.lists(st.integers(0, 6), min_size=1, max_size=4), types=st.integers(1, 2), seed=st.integers(0, 10**6))
def test_viterbi_is_the_best_of_all_paths(lengths: list[int], types: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    start, table = expand(Counts((6, 2), (8, 4), (6, 3, int(seed % 2))), types, 0.5)
    emissions = [np.log(rng.dirichlet(np.ones(types + 1), size=n).reshape(n, types + 1)) for n in lengths]
    if lengths[0]:
        emissions[0][0, 0] = -np.inf
    paths = viterbi(emissions, log_floored(start), log_floored(table))
    assert [len(p) for p in paths] == lengths
    for path, scores in zip(paths, emissions, strict=True):
        if path:
            assert path_score(path, scores, start, table) == pytest.approx(brute_force(scores, start, table))


def test_counts_survive_writing(tmp_path: Path) -> None:
    write_counts(tmp_path, COUNTS)
    assert read_counts(tmp_path) == COUNTS


@given(seed=st.integers(0, 2**32 - 1), lengths=st.lists(st.integers(0, 9), min_size=1, max_size=5))
def test_a_bioes_path_never_makes_a_forbidden_step(seed: int, lengths: list[int]) -> None:
    rng = np.random.default_rng(seed)
    emissions = [rng.normal(scale=1e6, size=(n, 5)) for n in lengths]
    allowed = {"OO", "OB", "OS", "BI", "BE", "II", "IE", "EO", "EB", "ES", "SO", "SB", "SS"}
    start, table = bioes()
    assert start.tolist() == [0.0] * 5
    for path, scores in zip(viterbi(emissions, start, table), emissions, strict=True):
        steps = {"OBIES"[a] + "OBIES"[b] for a, b in pairwise(path)}
        assert steps <= allowed
        paths = [p for p in product(range(5), repeat=len(scores)) if len(scores) < 5]
        legal = [p for p in paths if {"OBIES"[a] + "OBIES"[b] for a, b in pairwise(p)} <= allowed]
        if legal:
            assert tuple(path) == max(legal, key=lambda p: sum(scores[i, tag] for i, tag in enumerate(p)))
