"""Format pointer: what it reads, what it drops and why, and that nothing makes it fail."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewtable.corpus import Entity, EntityType, Sentence
from fewtable.formats import pointer

TYPES = [EntityType(name, name, name) for name in ("loc", "per")]
WORDS = ("Anna", "saw", "New", "York", "Paris")


def read(output: Any, *, lenient: bool = False) -> tuple[list[tuple[int, int, str]], list[tuple[str, str]]]:
    parsed = pointer.FORMAT(TYPES, pointer.Options(lenient=lenient)).parse(WORDS, output)
    return [tuple(e) for e in parsed.entities], [(d.cause, d.text) for d in parsed.dropped]


@pytest.mark.parametrize(
    ("output", "entities", "dropped"),
    [
        ([], [], []),
        ([2, 3, "loc", 0, "per"], [(0, 1, "per"), (2, 4, "loc")], []),
        ([2, 3, "loc", 3, "loc", 3, "per"], [(2, 4, "loc"), (3, 4, "loc"), (3, 4, "per")], []),
        ([0, "per", 0, "per"], [(0, 1, "per")], [("repeated", '[0,"per"]')]),
        ([3, 2, "loc", 2, 2, "loc"], [], [("not-increasing", '[3,2,"loc"]'), ("not-increasing", '[2,2,"loc"]')]),
        ([2, 4, "loc", 0, "per"], [(0, 1, "per")], [("not-contiguous", '[2,4,"loc"]')]),
        ([2, [2, 1], 3, "loc"], [], [("inside-word", '[2,[2,1],3,"loc"]')]),
        ([[2, 1], [2, 0], "loc"], [], [("unparsed", '[[2,1],[2,0],"loc"]')]),
        (["per", 0, 1], [], [("bare-type", '["per"]'), ("dangling", "[0,1]")]),
        ([2, None, 3, "loc", None], [(3, 4, "loc")], [("dangling", "[2]")]),
        ([0, "org"], [], [("unknown-type", '[0,"org"]')]),
        ([5, "per"], [], [("unmatched", '[5,"per"]')]),
        ([-1, "per", True, "per", 0.5, "per"], [], [("unparsed", f'[{v},"per"]') for v in ("-1", "true", "0.5")]),
        ("0 per", [], [("unparsed", '"0 per"')]),
        (None, [], [("unparsed", "null")]),
    ],
)
def test_pointers(output: Any, entities: list[Any], dropped: list[Any]) -> None:
    assert read(output) == (entities, dropped)


@pytest.mark.parametrize(
    ("output", "entities", "causes"),
    [
        ([2, 4, "loc"], [(2, 5, "loc")], []),
        ([[2, 1], [2, 2], [4, 1], "loc"], [(2, 5, "loc")], []),
        ([[2, 2], [2, 1], "loc"], [], ["not-increasing"]),
        ([4, 2, "loc"], [], ["not-increasing"]),
        ([2, 5, "loc"], [], ["unmatched"]),
    ],
)
def test_lenient_takes_all_from_the_first_word_to_the_last(output: Any, entities: Any, causes: Any) -> None:
    found, dropped = read(output, lenient=True)
    assert (found, [cause for cause, _ in dropped]) == (entities, causes)


TOKENS = st.integers(-1, 6) | st.tuples(st.integers(0, 5), st.integers(0, 2)) | st.sampled_from(["loc", "per", "x"])
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | TOKENS,
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(output=ANYTHING | st.lists(TOKENS | st.none()), lenient=st.booleans())
def test_any_value_is_read_and_every_type_is_accounted_for(output: Any, lenient: bool) -> None:
    entities, dropped = read(output, lenient=lenient)
    assert entities == sorted(set(entities))
    assert all(0 <= start < end <= len(WORDS) and kind in ("loc", "per") for start, end, kind in entities)
    if isinstance(output, list):
        dangling = sum(cause == "dangling" for cause, _ in dropped)
        assert len(entities) + len(dropped) - dangling == sum(isinstance(token, str) for token in output)


@given(entities=st.sets(st.builds(Entity, st.integers(0, 2), st.integers(3, 5), st.sampled_from(["loc", "per"]))))
def test_gold_pointers_give_the_gold_entities(entities: set[Entity]) -> None:
    written = [token for e in sorted(entities) for token in (*range(e.start, e.end), e.type)]
    assert read(written) == ([tuple(e) for e in sorted(entities)], [])


def test_it_asks_nothing_and_shows_the_words_of_the_types() -> None:
    assert pointer.FORMAT(TYPES, pointer.Options()).render(Sentence("test-000000", WORDS)) == ()
    assert (pointer.FORMAT.uses, pointer.FORMAT.parsing) == ({"words"}, {"lenient"})
