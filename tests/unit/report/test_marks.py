from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewtable.corpus import Entity
from fewtable.report.marks import align

GOLD = Entity(2, 4, "person")
entities = st.lists(
    st.builds(lambda s, n, t: Entity(s, s + n, t), st.integers(0, 6), st.integers(1, 3), st.sampled_from("ab")),
    max_size=5,
)


@pytest.mark.parametrize(
    ("predicted", "kind"),
    [
        (Entity(2, 4, "person"), "correct"),
        (Entity(2, 4, "place"), "type"),
        (Entity(2, 5, "person"), "boundary"),
        (Entity(3, 6, "place"), "boundary"),
    ],
)
def test_a_pair_has_its_kind(predicted: Entity, kind: str) -> None:
    assert [(m.kind, m.gold, m.predicted) for m in align([GOLD], [predicted])] == [(kind, GOLD, predicted)]


def test_entities_that_do_not_touch_are_missed_and_spurious() -> None:
    far = Entity(4, 5, "person")
    assert [m.kind for m in align([GOLD], [far])] == ["missed", "spurious"]


def test_what_is_found_does_not_explain_another_prediction() -> None:
    nested = Entity(2, 3, "person")
    assert [m.kind for m in align([GOLD], [GOLD, nested])] == ["spurious", "correct"]


def test_a_boundary_error_goes_to_the_gold_with_most_words_in_common() -> None:
    first, second = Entity(0, 3, "a"), Entity(3, 4, "a")
    marks = align([first, second], [Entity(1, 4, "a")])
    assert [(m.kind, m.gold) for m in marks] == [("boundary", first), ("missed", second)]


@settings(max_examples=50)
@given(entities, entities)
def test_every_entity_is_in_a_mark_and_counts_agree_with_sets(gold: list[Entity], predicted: list[Entity]) -> None:
    marks = align(gold, predicted)
    assert {m.gold for m in marks if m.gold} == set(gold)
    answered = [m.predicted for m in marks if m.predicted]
    assert sorted(answered) == sorted(set(predicted))
    assert sum(m.kind == "correct" for m in marks) == len(set(gold) & set(predicted))
    assert marks == align(reversed(gold), reversed(predicted))
