"""Filters: what is dropped, why, and which mention an entity is."""

from __future__ import annotations

from collections import Counter

import pytest

from fewtable.corpus import Entity
from fewtable.teachers.filters import BLACKLIST, annotate, is_english

TEXT = "Ann met Jean-Paul  in New York; us, said the US. Annabel likes Москва and café."


def found(pairs: list[tuple[str, str]]) -> tuple[list[tuple[str, str]], dict[str, int]]:
    dropped: Counter[str] = Counter()
    sentence = annotate("passage-000000", TEXT, pairs, dropped)
    assert sentence.text == " ".join(TEXT.split())
    return [(sentence.surface(e.start, e.end), e.type) for e in sentence.entities], dict(dropped)


def test_what_is_kept() -> None:
    pairs = [("jean-paul", "PERSON"), ("New  York", " City  Name "), ("café", "drink"), ("New York", "place")]
    kept = [("Jean-Paul", "person"), ("New York", "city name"), ("New York", "place"), ("café", "drink")]
    assert found(pairs) == (kept, {})


def test_a_definition_loses_its_final_dot() -> None:
    assert found([("Ann", "A person who sings.")]) == ([("Ann", "a person who sings")], {})
    assert found([("Ann", "None."), ("Ann", ".")]) == ([], {"blacklisted": 1, "empty": 1})


@pytest.mark.parametrize(
    ("pair", "cause"),
    [
        *(((("Ann"), name.upper()), "blacklisted") for name in sorted(BLACKLIST)),
        (("Ann", "  "), "empty"),
        (("", "person"), "empty"),
        (("Москва", "city"), "non-english"),
        (("Ann", "人物"), "non-english"),
        (("Berlin", "city"), "not-in-passage"),
        (("Jean Paul", "person"), "not-in-passage"),
        (("Jean - Paul", "person"), "not-in-passage"),
        (("nnabel", "person"), "not-at-word-boundaries"),
        (("ew York", "city"), "not-at-word-boundaries"),
    ],
)
def test_what_is_dropped(pair: tuple[str, str], cause: str) -> None:
    assert found([pair]) == ([], {cause: 1})


def test_a_repeated_entity_counts_as_duplicate() -> None:
    kept, dropped = found([("Ann", "person"), ("Ann", "Person"), ("ann", "person")])
    assert (kept, dropped) == ([("Ann", "person")], {"duplicate": 2})


def test_the_same_case_is_preferred_to_the_first_mention() -> None:
    dropped: Counter[str] = Counter()
    text = "they told us, in the US, that Annabel is Ann"
    entities = annotate("p", text, [("US", "country"), ("Us", "group"), ("Ann", "person")], dropped).entities
    assert entities == (Entity(2, 3, "group"), Entity(6, 7, "country"), Entity(11, 12, "person"))
    assert not dropped


@pytest.mark.parametrize(
    ("text", "english"),
    [("café", True), ("1990", True), ("Москва", False), ("ab жз", True), ("a жз", False), ("北京", False)],
)
def test_english_is_at_most_half_of_the_letters_beyond_latin_1(text: str, english: bool) -> None:
    assert is_english(text) is english
