"""Formats bio, io and spans: what they read, what they count, and that nothing makes them fail."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewtable.corpus import Entity, EntityType, Sentence, drop_overlaps, entities_to_tags
from fewtable.formats import bio, io, spans

TYPES = [EntityType(name, name, name) for name in ("loc", "per", "B-movie")]
WORDS = ("Anna", "saw", "New", "York", "Paris")


def parser(module: Any) -> Any:
    return module.FORMAT(TYPES, module.FORMAT.Options())


def read(module: Any, output: Any) -> tuple[list[tuple[int, int, str]], list[tuple[str, str]]]:
    parsed = parser(module).parse(WORDS, output)
    return [tuple(e) for e in parsed.entities], [(d.cause, d.text) for d in parsed.dropped]


@pytest.mark.parametrize(
    ("output", "entities", "dropped"),
    [
        (["B-per", "O", "B-loc", "I-loc", "B-loc"], [(0, 1, "per"), (2, 4, "loc"), (4, 5, "loc")], []),
        (
            ["O", "I-per", "I-loc", "I-loc", "O"],
            [(1, 2, "per"), (2, 4, "loc")],
            [("repaired", "I-per"), ("repaired", "I-loc")],
        ),
        (["B-org", "I-org", "O", "O", "O"], [], [("unknown-type", "B-org"), ("unknown-type", "I-org")]),
        (["loc", 3, "O", "O", "O"], [], [("unparsed", "loc"), ("unparsed", "3")]),
        (["B-per"], [(0, 1, "per")], [("unparsed", "4 words without a tag")]),
        (["O"] * 5 + ["B-per"], [], [("surplus", '"B-per"')]),
        ("O O O", [], [("unparsed", '"O O O"')]),
        (["B-B-movie", "I-B-movie", "O", "O", "O"], [(0, 2, "B-movie")], []),
    ],
)
def test_bio(output: Any, entities: list[Any], dropped: list[Any]) -> None:
    assert read(bio, output) == (entities, dropped)


@pytest.mark.parametrize(
    ("output", "entities", "dropped"),
    [
        (["per", "O", "loc", "loc", "loc"], [(0, 1, "per"), (2, 5, "loc")], []),
        (["per", "loc", "org", "loc", "O"], [(0, 1, "per"), (1, 2, "loc"), (3, 4, "loc")], [("unknown-type", "org")]),
        (["B-movie", "B-movie", "O", "O", "O"], [(0, 2, "B-movie")], []),
    ],
)
def test_io(output: Any, entities: list[Any], dropped: list[Any]) -> None:
    assert read(io, output) == (entities, dropped)


@pytest.mark.parametrize(
    ("output", "entities", "dropped"),
    [
        ([[2, 4, "loc"], [0, 1, "per"]], [(0, 1, "per"), (2, 4, "loc")], []),
        ([[0, 1, "per"], [0, 1, "per"]], [(0, 1, "per")], [("repeated", '[0,1,"per"]')]),
        (
            [[0, 9, "per"], [1, 1, "per"], [-1, 1, "per"]],
            [],
            [("unmatched", '[0,9,"per"]'), ("unmatched", '[1,1,"per"]'), ("unmatched", '[-1,1,"per"]')],
        ),
        (
            [[0, 1, "org"], [True, 1, "per"], [0, 1], {}],
            [],
            [
                ("unknown-type", '[0,1,"org"]'),
                ("unparsed", '[true,1,"per"]'),
                ("unparsed", "[0,1]"),
                ("unparsed", "{}"),
            ],
        ),
        (None, [], [("unparsed", "null")]),
    ],
)
def test_spans(output: Any, entities: list[Any], dropped: list[Any]) -> None:
    assert read(spans, output) == (entities, dropped)


TAGS = st.sampled_from(["O", "B-per", "I-per", "I-loc", "per", "loc", "", "B-", "I-x"])
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | TAGS,
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@pytest.mark.parametrize("module", [bio, io, spans])
@given(output=ANYTHING | st.lists(TAGS) | st.lists(st.tuples(st.integers(), st.integers(), TAGS)))
def test_any_value_is_read(module: Any, output: Any) -> None:
    parsed = parser(module).parse(WORDS, output)
    assert list(parsed.entities) == sorted(set(parsed.entities))
    assert all(0 <= e.start < e.end <= len(WORDS) and e.type in {t.name for t in TYPES} for e in parsed.entities)
    if not parsed.entities and output not in ([], ()) and isinstance(output, list) and len(output) == len(WORDS):
        assert parsed.dropped or all(tag == "O" for tag in output)


ENTITIES = st.lists(
    st.builds(
        lambda start, size, kind: Entity(start, min(start + size, 5), kind),
        st.integers(0, 4),
        st.integers(1, 3),
        st.sampled_from(["loc", "per"]),
    )
).map(drop_overlaps)


@given(entities=ENTITIES)
def test_gold_tags_give_the_gold_entities(entities: list[Entity]) -> None:
    parsed = parser(bio).parse(WORDS, entities_to_tags(entities, 5))
    assert (parsed.entities, parsed.dropped) == (tuple(sorted(entities)), ())


def test_tag_formats_ask_nothing() -> None:
    for module in (bio, io, spans):
        assert parser(module).render(Sentence("test-000000", WORDS)) == ()
        assert module.FORMAT.uses == frozenset()
