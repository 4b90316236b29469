"""Entity sets: strict, span, partial, boundary errors."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewtable.corpus import Entity, drop_overlaps, tags_to_entities
from fewtable.errors import DataError
from fewtable.scoring.block import score_entities
from fewtable.scoring.mentions import (
    Counts,
    Frame,
    Mentions,
    count,
    count_rows,
    count_types,
    macro_type,
)
from fewtable.scoring.overlap import boundary_rates, match, pair_up
from fewtable.scoring.peers import Scored

WORDS = 6
entity = st.tuples(st.integers(0, WORDS - 1), st.integers(1, 3), st.sampled_from("AB")).map(
    lambda t: Entity(t[0], min(t[0] + t[1], WORDS), t[2])
)
sentence = st.tuples(st.lists(entity, max_size=5), st.lists(entity, max_size=5))
corpus = st.lists(sentence, max_size=5)
Corpus = list[tuple[list[Entity], list[Entity]]]


def arrays(data: Corpus) -> tuple[Frame, Mentions, Mentions]:
    frame = Frame.of([WORDS] * len(data), "AB")
    return frame, Mentions.of(frame, [g for g, _ in data]), Mentions.of(frame, [p for _, p in data])


def test_counts_of_nothing_are_zero() -> None:
    assert Counts(0, 0, 0).f1 == Counts(0, 0, 0).precision == Counts(0, 0, 0).recall == 0.0


def test_macro_weighs_types_alike() -> None:
    assert macro_type([Counts(1, 0, 0), Counts(0, 9, 9)]) == 50.0


@given(corpus)
def test_strict_is_the_set_intersection(data: Corpus) -> None:
    frame, gold, pred = arrays(data)
    tp = sum(len(set(g) & set(p)) for g, p in data)
    fp = sum(len(set(p) - set(g)) for g, p in data)
    fn = sum(len(set(g) - set(p)) for g, p in data)
    assert count(gold, pred) == (tp, fp, fn)
    by_type = count_types(frame, gold, pred)
    assert tuple(map(sum, zip(*by_type.values(), strict=True))) == ((tp, fp, fn) if by_type else ())
    rows = count_rows(frame, gold, pred)
    expected = []
    for i, (g, p) in enumerate(data):
        for t, name in enumerate("AB"):
            gs, ps = ({e for e in side if e.type == name} for side in (g, p))
            if gs or ps:
                expected.append((i, t, len(gs & ps), len(ps - gs), len(gs - ps)))
    assert rows == expected


@given(corpus)
def test_partial_and_boundary_follow_the_definition(data: Corpus) -> None:
    """A brute-force matcher over all one-to-one pairings gives the same number of pairs and shared words."""
    frame, gold, pred = arrays(data)
    found = match(frame, gold, pred)
    pairs = shared = 0
    for g, p in data:
        rest_g, rest_p = sorted(set(g) - set(p)), sorted(set(p) - set(g))
        best = brute(rest_g, rest_p)
        pairs, shared = pairs + best[0], shared + best[1]
    near = list(zip(found.gold_near, found.pred_near, strict=True))
    assert len(near) == pairs == len({g for g, _ in near}) == len({p for _, p in near})
    assert shared == sum(min(gold.end[g], pred.end[p]) - max(gold.start[g], pred.start[p]) for g, p in near)
    assert sum(n for _, _, n in found.near_rows(frame)) == pairs


def brute(gold: list[Entity], pred: list[Entity]) -> tuple[int, int]:
    if not gold:
        return (0, 0)
    first, rest = gold[0], gold[1:]
    best = brute(rest, pred)
    for i, p in enumerate(pred):
        overlap = min(first.end, p.end) - max(first.start, p.start)
        if p.type == first.type and overlap > 0:
            pairs, shared = brute(rest, pred[:i] + pred[i + 1 :])
            best = max(best, (pairs + 1, shared + overlap))
    return best


@given(corpus)
def test_inequalities_and_sums(data: Corpus) -> None:
    frame, gold, pred = arrays(data)
    found = match(frame, gold, pred)
    assert found.partial.f1 >= count(gold, pred).f1
    untyped = gold.untyped(frame), pred.untyped(frame)
    blind = match(Frame(frame.offsets, ("",)), *untyped).boundary()
    for boundary, size in ((found.boundary(), len(pred)), (blind, len(untyped[1]))):
        assert boundary["exact"] + boundary["boundary"] + boundary["spurious"] == size
        assert boundary["over"] + boundary["under"] + boundary["shift"] == boundary["boundary"]
        assert sum(boundary["left"].values()) == sum(boundary["right"].values()) == boundary["boundary"]
        assert max(boundary["merge"], boundary["split"]) <= boundary["boundary"]
        ordered = boundary_rates(boundary)
        assert all(rate is None or 0 <= rate <= 100 for rate in ordered.values())
        if ordered["ber"] is not None and ordered["ber_pred"] is not None:
            assert ordered["ber_pred"] <= ordered["ber"] + 1e-9


@given(corpus)
def test_span_f1_is_at_least_strict_on_flat_entities(data: Corpus) -> None:
    flat = [(drop_overlaps(g), drop_overlaps(p)) for g, p in data]
    frame, gold, pred = arrays(flat)
    assert count(gold.untyped(frame), pred.untyped(frame)).f1 >= count(gold, pred).f1 - 1e-9


def test_span_f1_may_fall_below_strict_when_spans_carry_several_types() -> None:
    """A right span with two right types collapses to one hit, a wrong one stays wrong: 4/5 strict, 2/3 span."""
    frame, gold, pred = arrays([([Entity(0, 1, "A"), Entity(0, 1, "B")], [Entity(0, 1, "A"), Entity(0, 1, "B")])])
    assert count(gold.untyped(frame), pred.untyped(frame)).f1 == count(gold, pred).f1 == 100.0
    data = [([Entity(0, 1, "A"), Entity(0, 1, "B")], [Entity(0, 1, "A"), Entity(0, 1, "B"), Entity(2, 3, "A")])]
    frame, gold, pred = arrays(data)
    assert count(gold, pred).f1 == pytest.approx(80.0)
    assert count(gold.untyped(frame), pred.untyped(frame)).f1 == pytest.approx(200 / 3)


@given(corpus, st.randoms(use_true_random=False))
def test_order_of_sentences_and_entities_and_repeats_do_not_matter(data: Corpus, rng: random.Random) -> None:
    shuffled = [(rng.sample(g, len(g)), rng.sample(p, len(p)) + p[:1]) for g, p in data]
    rng.shuffle(shuffled)
    words = ["w"] * WORDS
    before = score_entities([Scored(words, g, p) for g, p in data], peers=())
    after = score_entities([Scored(words, g, p) for g, p in shuffled], peers=())
    for key in ("types", "strict", "span", "partial", "boundary"):
        assert before[key] == after[key]


@pytest.mark.parametrize(
    ("gold", "pred", "kind"),
    [
        ((1, 3), (0, 3), "over"),
        ((1, 3), (1, 4), "over"),
        ((0, 3), (1, 2), "under"),
        ((0, 3), (1, 3), "under"),
        ((0, 3), (1, 4), "shift"),
    ],
)
def test_kinds_of_boundary_error(gold: tuple[int, int], pred: tuple[int, int], kind: str) -> None:
    frame, g, p = arrays([([Entity(*gold, "A")], [Entity(*pred, "A")])])
    boundary = match(frame, g, p).boundary()
    assert {name: boundary[name] for name in ("over", "under", "shift")} == {
        "over": 0,
        "under": 0,
        "shift": 0,
        kind: 1,
    }
    assert boundary["left"] == {str(pred[0] - gold[0]): 1}
    assert boundary["right"] == {str(pred[1] - gold[1]): 1}


def test_merge_split_and_rates() -> None:
    merged = ([Entity(0, 1, "A"), Entity(1, 3, "A")], [Entity(0, 3, "A")])
    split = ([Entity(0, 3, "A")], [Entity(0, 1, "A"), Entity(2, 3, "A")])
    frame, gold, pred = arrays([merged, split, ([Entity(0, 1, "B")], [Entity(0, 1, "B"), Entity(4, 5, "A")])])
    boundary = match(frame, gold, pred).boundary()
    assert (boundary["merge"], boundary["split"]) == (1, 1)
    assert boundary_rates(boundary) == {
        "ber": pytest.approx(100 * 2 / 3),
        "ber_pred": pytest.approx(100 * 2 / 5),
        "ber_gold": 50.0,
    }
    nothing = {"exact": 0, "boundary": 0, "spurious": 0, "gold": 0}
    assert boundary_rates(nothing) == {"ber": None, "ber_pred": None, "ber_gold": None}


def test_boundary_errors_of_the_obp_llm_papers_cases() -> None:
    """Figure 6: "a classic saab 900" for "saab 900" has a wrong edge; "the legality of votes" is no near miss."""
    saab = ("the", "hood", "opening", "reminds", "me", "of", "a", "classic", "saab", "900", ".")
    votes = ("the", "legality", "of", "votes", "cast", "by", "non", "citizens")
    gold = [[Entity(8, 10, "product")], [Entity(6, 8, "group")]]
    sft = [[Entity(6, 10, "product")], [Entity(0, 4, "group")]]
    for pred, counted, ber in ((sft, (0, 1, 1), 100.0), (gold, (2, 0, 0), 0.0)):
        scored = [Scored(w, g, p) for w, g, p in zip((saab, votes), gold, pred, strict=True)]
        boundary = score_entities(scored, peers=())["boundary"]
        assert tuple(boundary[name] for name in ("exact", "boundary", "spurious")) == counted
        assert boundary_rates(boundary)["ber"] == ber
        if pred is sft:
            assert (boundary["over"], boundary["left"], boundary["right"]) == (1, {"-2": 1}, {"0": 1})
            assert boundary_rates(boundary) == {"ber": 100.0, "ber_pred": 50.0, "ber_gold": 50.0}


def test_rates_without_types_find_what_has_the_wrong_type() -> None:
    scored = [Scored(("w",) * WORDS, [Entity(0, 2, "A"), Entity(3, 5, "A")], [Entity(0, 3, "B"), Entity(3, 5, "B")])]
    found = score_entities(scored, peers=())
    assert (found["boundary"]["boundary"], found["near"]) == (0, [])
    blind = found["boundary"]["blind"]
    assert (blind["exact"], blind["boundary"], found["span_near"]) == (1, 1, [[0, 1]])


def test_entities_of_neighbouring_sentences_never_touch() -> None:
    frame, gold, pred = arrays([([Entity(4, 6, "A")], []), ([], [Entity(0, 2, "A")])])
    assert count(gold, pred) == (0, 1, 1)
    assert len(match(frame, gold, pred).gold_near) == 0


def test_pairing_prefers_more_pairs_to_more_words() -> None:
    edges = {(0, 0): 9, (0, 1): 1, (1, 0): 1}
    assert sorted(pair_up(edges)) == [(0, 1), (1, 0)]
    assert pair_up({(0, 0): 1, (0, 1): 3, (0, 2): 3}) == [(0, 1)]


@given(st.dictionaries(st.tuples(st.integers(0, 3), st.integers(0, 3)), st.integers(1, 9), min_size=1))
def test_pairing_is_optimal(edges: dict[tuple[int, int], int]) -> None:
    chosen = pair_up(edges)
    best = max(
        (len(some), sum(edges[e] for e in some))
        for size in range(min(len(edges), 4) + 1)
        for some in itertools.combinations(edges, size)
        if len({a for a, _ in some}) == len({b for _, b in some}) == len(some)
    )
    assert (len(chosen), sum(edges[e] for e in chosen)) == best
    assert len({a for a, _ in chosen}) == len({b for _, b in chosen}) == len(chosen)


def test_an_entity_outside_its_sentence_is_named() -> None:
    frame = Frame.of([2, 3], "A")
    with pytest.raises(DataError, match=r"\[1, 4, 'A'\] lies outside sentence 1"):
        Mentions.of(frame, [[], [(1, 4, "A")]])


def test_tag_shapes_of_the_metric_table() -> None:
    """methods/fs-12, strict F1: adjacent entities of one type are lost to IO tags, in gold and prediction alike."""
    gold = tags_to_entities(["B-X", "B-X"])
    pred = tags_to_entities(["X", "X"], "io")
    assert score_entities([Scored(["a", "b"], gold, pred)], peers=())["strict"] == {"tp": 0, "fp": 1, "fn": 2}
