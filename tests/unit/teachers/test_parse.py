"""Answers: literals as asked for, near-JSON that is mended, and what cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewtable.teachers.parse import Parsed, parse

TWO = (("thai food", "cuisine"), ("fenway park", "location"))


@pytest.mark.parametrize(
    ("answer", "repairs"),
    [
        ('[("thai food", "cuisine"), ("fenway park", "location")]', ()),
        ("[('thai food', 'cuisine'), ('fenway park', 'location')]", ()),
        ('[["thai food", "cuisine"], ["fenway park", "location"],]', ()),
        ('```python\n[("thai food", "cuisine"), ("fenway park", "location")]\n```', ("surrounded",)),
        ('Here: [("thai food", "cuisine"), ("fenway park", "location")] I hope [1] it helps', ("surrounded",)),
        ('("thai food", "cuisine"), ("fenway park", "location")', ("shape",)),
        ('[{"entity": "thai food", "type": "cuisine"}, {"entity": "fenway park", "type": "location"}]', ("shape",)),
        ('{"thai food": "cuisine", "fenway park": "location"}', ("shape",)),
        ('{"cuisine": ["thai food"], "location": ["fenway park"]}', ("shape",)),
        ('{"entities": [["thai food", "cuisine"], ["fenway park", "location"]]}', ("shape",)),
        ('[("thai food", "cuisine"), ("fenway park", "location"), ("Bos', ("truncated",)),
        ('[("thai food", "cuisine"), ("fenway park", "location"), ("Boston", "ci', ("truncated",)),
        ('[("thai food", "cuisine"), ("fenway park", "location")', ("truncated",)),
        ('[["thai food", "cuisine"] ["fenway park", "location"]]', ("near-json",)),
        ("[(“thai food”, “cuisine”), (“fenway park”, “location”)]", ("near-json",)),
    ],
)
def test_the_same_pairs_are_read(answer: str, repairs: tuple[str, ...]) -> None:
    assert parse(answer) == Parsed(TWO, repairs)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "I cannot help with that.",
        "[1, 2]",
        '[("a", "b", "c")]',
        "[" * 5000,
        "{" * 5000,
        '["a", "b"]',
        "None",
        '[("a',
    ],
)
def test_what_is_no_list_of_pairs_is_unparseable(answer: str) -> None:
    assert parse(answer).pairs is None


def test_an_empty_list_is_an_answer() -> None:
    assert parse("[]") == Parsed(())
    assert parse("There are none: []") == Parsed((), ("surrounded",))


@pytest.mark.parametrize("answer", ['{"entities": []}', "{}", '{"person": [], "city": []}', '{"entities": None}'])
def test_an_object_without_any_entity_is_an_empty_answer(answer: str) -> None:
    assert parse(answer) == Parsed((), ("shape",))


def test_brackets_and_apostrophes_inside_strings() -> None:
    assert parse('[("Tokyo (Japan]", "city"), ("O\'Brien", "person")]').pairs == (
        ("Tokyo (Japan]", "city"),
        ("O'Brien", "person"),
    )
    assert parse("Here's the list: [('O\\'Brien', 'person')]").pairs == (("O'Brien", "person"),)


def test_items_that_are_no_pairs_are_counted() -> None:
    assert parse('[("a", "b"), ("c", None), 3]') == Parsed((("a", "b"),), (), 2)


def test_nothing_is_evaluated() -> None:
    assert str(Path.cwd()) not in repr(parse('[(__import__("os").getcwd(), "x")]'))
