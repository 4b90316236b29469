"""The template method's rules and search, against trying everything on made-up log-probabilities."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewtable.decoding import template
from fewtable.decoding.template import Branch, Candidate, Search, Tails, Text, resolve

SPANS = [Candidate(0, 1, 1, -2.0), Candidate(0, 3, 2, -5.0), Candidate(1, 2, 0, -1.0), Candidate(2, 4, 1, -4.0)]


def test_negative_statements_fall_and_overlaps_go_to_the_higher_score() -> None:
    assert resolve(SPANS, per_start=False) == [SPANS[0], SPANS[3]]


def test_per_start_loses_a_longer_span_to_a_shorter_one() -> None:
    rows = [Candidate(0, 1, 0, -2.0), Candidate(0, 2, 1, -3.0), Candidate(3, 4, 1, -9.0)]
    assert resolve(rows, per_start=False) == rows[1:]
    assert resolve(rows, per_start=True) == rows[2:]


def test_ties_go_to_the_earlier_start_then_to_the_longer_span() -> None:
    early, late, longer = Candidate(0, 2, 1, -1.0), Candidate(1, 3, 1, -1.0), Candidate(0, 3, 1, -1.0)
    assert resolve([late, early], per_start=False) == [early]
    assert resolve([early, late, longer], per_start=False) == [longer]


def test_tails_share_what_they_have_in_common() -> None:
    tails = Tails([[7, 8, 9], [7, 5, 6, 9], [7, 5, 4, 9], [7, 5]])
    assert tails.tokens.tolist() == [7, 8, 9, 5, 6, 9, 4, 9]
    assert tails.steps == [[0, 1, 2], [0, 3, 4, 5], [0, 3, 6, 7], [0, 3]]
    assert tails.shared.tolist() == [0, 3]
    assert tails.first.tolist() == [0]


class Oracle:
    """Log-probabilities that depend on the source and all tokens before, and a count of the tokens read."""

    def __init__(self, seed: int, sharp: float) -> None:
        self._seed, self._sharp = seed, sharp
        self._kept: dict[int, int] = {}
        self.read = 0

    def value(self, source: int, before: Sequence[int], token: int) -> float:
        return -self._sharp * random.Random(f"{self._seed} {source} {tuple(before)} {token}").random()

    def extend(self, branches: Sequence[Branch]) -> Any:
        found = []
        if not any(branch.past for branch in branches):  # another part of the search, which has the slots anew
            self._kept.clear()
        for branch in branches:
            before = [self._kept[slot] for slot in branch.past]
            for slot, token in zip(branch.slots, branch.tokens, strict=True):
                self.read += 1
                if slot >= 0:
                    assert self._kept.setdefault(slot, token) == token
            assert list(branch.nodes) == sorted(branch.nodes)
            for node, token in zip(branch.nodes, branch.wanted, strict=True):
                found.append(self.value(branch.source, [*before, *branch.tokens[: node + 1]], token))
        return np.array(found)

    def score(self, source: int, tokens: Sequence[int]) -> float:
        return sum(self.value(source, tokens[:n], tokens[n]) for n in range(1, len(tokens)))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    lengths=st.lists(st.integers(0, 4), min_size=1, max_size=3),
    kinds=st.lists(st.lists(st.integers(20, 23), min_size=1, max_size=3), min_size=1, max_size=6),
    per_start=st.booleans(),
    sharp=st.sampled_from([0.5, 5.0]),
    slots=st.sampled_from([1, 25, 10**6]),
)
def test_the_search_finds_what_scoring_all_finds(
    seed: int, lengths: list[int], kinds: list[list[int]], per_start: bool, sharp: float, slots: int
) -> None:
    tails = [[10, 11, 12], *([10, *kind, 12] for kind in kinds)]
    rng = random.Random(seed)
    texts = []
    for length in lengths:
        words = [[rng.randrange(30, 40) for _ in range(rng.randint(1, 3))] for _ in range(length)]
        texts.append(Text(words, [(i, j) for i in range(length) for j in range(i + 1, min(i + 3, length) + 1)]))
    oracle = Oracle(seed, sharp)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(template, "SLOTS", slots)
        search = Search(texts, Tails(tails), (2, 0), per_start)
    assert search.capacity <= max(slots, 2 + 3 * 3 + 3 * len(Tails(tails).shared)), "3 words of 3 pieces at most"
    scores = search.run(oracle.extend)
    expected = [
        [oracle.score(number, [2, 0, *(p for w in text.words[i:j] for p in w), *tail]) for tail in tails]
        for number, text in enumerate(texts)
        for i, j in text.spans
    ]
    at = [(number, i) for number, text in enumerate(texts) for i, _ in text.spans]
    assert scores.shape == (len(at), len(tails))
    for group in sorted(set(at)) if per_start else range(len(at)):
        rows = [n for n, place in enumerate(at) if place == group] if per_start else [group]
        best = max((value, -n, -t) for n in rows for t, value in enumerate(expected[n]))
        found = max((scores[n, t], -n, -t) for n in rows for t in range(len(tails)))
        assert found[0] == pytest.approx(best[0])
        assert len(set(map(tuple, tails))) < len(tails) or found[1:] == best[1:]
    finished = np.isfinite(scores)
    assert np.allclose(scores[finished], np.array(expected).reshape(scores.shape)[finished])


def test_hopeless_statements_are_not_read() -> None:
    class Sure(Oracle):
        def value(self, source: int, before: Sequence[int], token: int) -> float:
            return -20.0 if token == 15 else -0.1

    tails = Tails([[10, 11, 12], *([10, 15, kind, 13, 14, 12] for kind in range(20, 29))])
    texts = [Text([[30], [31]], [(0, 1), (0, 2), (1, 2)])]
    oracle = Sure(0, 1.0)
    scores = Search(texts, tails, (2, 0), per_start=False).run(oracle.extend)
    assert oracle.read == 4 + 3 + 3 * 2  # the starts' chains, and of each span the negative tail
    assert np.isfinite(scores).sum() == 3 and scores.argmax(1).tolist() == [0, 0, 0]
