"""The k-shot rules: bounds that each promises, and the integer programme against brute force."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sampling_corpora import TYPES, column_file, corpora, corpus, mentions, setting

from fewtable.corpus import Sentence
from fewtable.errors import DataError
from fewtable.sampling import draw, draw_all
from fewtable.sampling.exact import cheapest_sample, least_slack
from fewtable.sampling.pool import Pool
from fewtable.sampling.programme import cheapest, even_weights
from fewtable.specs import DrawSpec, SamplerSpec

K_SHOT = ("greedy", "greedy-prune", "capped", "exact", "per-type")


def available(sentences: list[Sentence], k: int) -> dict[str, int]:
    total = mentions(sentences, [s.id for s in sentences])
    return {t: min(k, total[t]) for t in TYPES}


@settings(deadline=None)
@given(corpora(), st.integers(1, 4), st.integers(1, 3))
def test_greedy_and_its_pruning_reach_every_target(sentences: list[Sentence], k: int, number: int) -> None:
    target = available(sentences, k)
    for rule in ("greedy", "greedy-prune"):
        sample = draw(setting(rule, k=k), "d", TYPES, sentences, [], number)
        got = mentions(sentences, sample.support)
        assert all(got[t] >= target[t] for t in TYPES)
        assert len(set(sample.support)) == len(sample.support)


@settings(deadline=None)
@given(corpora(), st.integers(1, 4))
def test_nothing_can_be_spared_after_pruning(sentences: list[Sentence], k: int) -> None:
    target = available(sentences, k)
    sample = draw(setting("greedy-prune", k=k), "d", TYPES, sentences, [], 1)
    for left_out in sample.support:
        got = mentions(sentences, [i for i in sample.support if i != left_out])
        assert any(got[t] < target[t] for t in TYPES)


@settings(deadline=None)
@given(corpora(), st.integers(1, 4))
def test_capped_never_exceeds_k_and_leaves_no_sentence_that_fits(sentences: list[Sentence], k: int) -> None:
    target = available(sentences, k)
    sample = draw(setting("capped", k=k), "d", TYPES, sentences, [], 1)
    got = mentions(sentences, sample.support)
    assert all(got[t] <= k for t in TYPES)
    for other in sentences:
        more = mentions(sentences, [*sample.support, other.id])
        helps = any(got[e.type] < target[e.type] for e in other.entities)
        assert other.id in sample.support or not helps or any(more[t] > k for t in TYPES)


def brute_force(sentences: list[Sentence], target: dict[str, int]) -> int:
    """Least total overshoot over all subsets that reach the targets."""
    full = [s for s in sentences if s.entities]
    best = None
    for size in range(len(full) + 1):
        for subset in combinations(full, size):
            got = mentions(subset, [s.id for s in subset])
            if all(got[t] >= target[t] for t in TYPES):
                over = sum(got[t] - target[t] for t in TYPES)
                best = over if best is None else min(best, over)
    assert best is not None
    return best


@settings(max_examples=20, deadline=None)
@given(corpora(size=9), st.integers(1, 4))
def test_exact_has_the_least_slack_of_all_subsets(sentences: list[Sentence], k: int) -> None:
    target = available(sentences, k)
    sample = draw(setting("exact", k=k), "d", TYPES, sentences, [], 1)
    got = mentions(sentences, sample.support)
    assert all(got[t] >= target[t] for t in TYPES)
    slack = brute_force(sentences, target)
    assert sum(got[t] - target[t] for t in TYPES) == slack
    assert sample.header["solver"]["least_slack"] == slack
    assert sample.header["solver"]["proven"] is True


@settings(max_examples=15, deadline=None)
@given(corpora(size=9), st.integers(1, 3), st.randoms(use_true_random=False))
def test_the_cheapest_sample_is_the_cheapest_of_all_subsets(sentences: list[Sentence], k: int, rng: object) -> None:
    pool = Pool(sentences, TYPES)
    target = pool.targets(k)
    groups = pool.grouped(pool.candidates)
    slack = least_slack(groups, target, 60)
    weights = even_weights(pool, pool.candidates, rng)  # type: ignore[arg-type]
    kept = cheapest(groups, weights, [n + slack for n in target])
    found = cheapest_sample(kept, weights, target, slack, 60)
    costs = [
        sum(weights[p] for p in subset)
        for size in range(len(pool.candidates) + 1)
        for subset in combinations(pool.candidates, size)
        if all(r >= t for r, t in zip(pool.count(subset), target, strict=True))
        and sum(pool.count(subset)) == sum(target) + slack
    ]
    assert sum(weights[p] for p in found) == pytest.approx(min(costs), abs=1e-6)


def test_exact_reports_what_equality_costs() -> None:
    # Every b brings two a: 3 b force 6 a where 3 are wanted.
    sentences = corpus([{"a": 2, "b": 1}] * 5 + [{"c": 1}] * 5)
    sample = draw(setting("exact", k=3), "d", TYPES, sentences, [], 1)
    assert sample.header["counts"] == {"a": 6, "b": 3, "c": 3}
    assert sample.header["over"] == {"a": 3}
    assert sample.header["short"] == {}


def test_capped_reports_what_it_lacks() -> None:
    sentences = corpus([{"a": 2, "b": 1}] * 5 + [{"c": 1}] * 5)
    header = draw(setting("capped", k=3), "d", TYPES, sentences, [], 1).header
    assert header["counts"] == {"a": 2, "b": 1, "c": 3}
    assert header["short"] == {"a": 1, "b": 2}


def test_an_unproven_sample_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    pulp = pytest.importorskip("pulp")
    sentences = corpus([{"a": 1}, {"b": 1}, {"c": 1}])

    def strikes(problem: object, solver: object) -> int:
        problem.sol_status = pulp.LpSolutionIntegerFeasible  # type: ignore[attr-defined]
        return 1

    monkeypatch.setattr(pulp.LpProblem, "solve", strikes)
    with pytest.raises(DataError, match="proved nothing in 7 s") as caught:
        draw(setting("exact", k=1, time_limit=7), "d", TYPES, sentences, [], 1)
    assert "time_limit" in str(caught.value)


def test_exact_does_not_prefer_dense_sentences() -> None:
    # 300 mentions in single sentences, 300 in threes: half of the mentions should come from either.
    sentences = corpus([{t: 1} for t in TYPES for _ in range(100)] + [dict.fromkeys(TYPES, 1)] * 100)
    samples = draw_all(setting("exact", k=40), "d", TYPES, sentences, [], range(1, 9))
    dense = sum(int(i[-6:]) >= 300 for s in samples for i in s.support) / len(samples)
    assert 14 < dense < 26  # of 40 at most


def test_per_type_draws_k_sentences_a_type() -> None:
    sentences = corpus([{"a": 1}] * 6 + [{"b": 2}] * 6 + [{"c": 1}] * 2)
    header = draw(setting("per-type", k=4), "d", TYPES, sentences, [], 1).header
    assert header["counts"] == {"a": 4, "b": 8, "c": 2}
    assert header["target"] == {"a": 4, "b": 4, "c": 2}


@pytest.mark.parametrize("rule", K_SHOT)
def test_a_type_without_any_mention_is_an_error(rule: str) -> None:
    with pytest.raises(DataError, match="b, c") as caught:
        draw(setting(rule, k=1), "d", TYPES, corpus([{"a": 1}]), [], 1)
    assert "'drop'" in str(caught.value)


@pytest.mark.parametrize("rule", K_SHOT)
def test_a_type_that_only_the_query_has_stays_and_is_named(rule: str) -> None:
    support, query = corpus([{"a": 1}, {"b": 1}]), corpus([{"c": 1}], "test")
    sample = draw(setting(rule, k=1), "d", TYPES, support, query, 1)
    assert sample.types == TYPES
    assert sample.header["unseen"] == ["c"]
    assert sample.header["target"] == {"a": 1, "b": 1}


@pytest.mark.parametrize("rule", K_SHOT)
def test_sentences_without_entities_or_with_foreign_types_are_not_drawn(rule: str) -> None:
    sentences = corpus([{}, {"a": 1, "foreign": 1}, {"a": 1}, {"b": 1}, {"c": 1}])
    sample = draw(setting(rule, k=5), "d", TYPES, sentences, [], 1)
    assert sample.support == ("train-000002", "train-000003", "train-000004")


def test_repeated_texts_are_counted() -> None:
    (one,) = corpus([dict.fromkeys(TYPES, 1)])
    sentences = [Sentence(f"train-{i:06d}", one.words, one.entities) for i in range(3)]
    assert draw(setting("greedy", k=3), "d", TYPES, sentences, [], 1).header["duplicates"] == 2


@pytest.mark.shared
def test_mit_movie_50_shot_is_exact(mirror: Path) -> None:
    sentences = column_file(mirror / "mit_movie" / "train.bio", "train", 1, 0)
    types = sorted({e.type for s in sentences for e in s.entities})
    header = draw(setting("exact", k=50, time_limit=60), "mit-movie", types, sentences, [], 1).header
    assert header["counts"] == dict.fromkeys(types, 50)
    assert header["solver"]["least_slack"] == 0


@pytest.mark.parametrize("rule", ["exact", "greedy", "all"])
def test_an_empty_split_is_an_error_a_person_can_mend(rule: str) -> None:
    spec = DrawSpec(sampler=SamplerSpec(rule=rule, k=None if rule == "all" else 1))
    with pytest.raises(DataError, match="split 'train' of 'own' has no sentences"):
        draw_all(spec, "own", ["a"], [], [], [1])
