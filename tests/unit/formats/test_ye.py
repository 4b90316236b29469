"""The prompt of Ye et al. as the GLiNER paper prints it, and reading any answer."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewtable.corpus import Entity, EntityType, Sentence
from fewtable.errors import ConfigError
from fewtable.formats.ye import FORMAT, Options

RESTAURANT = {
    "Rating": "rating", "Amenity": "amenity", "Location": "location", "Restaurant_Name": "restaurant name",
    "Price": "price", "Hours": "hours", "Dish": "dish", "Cuisine": "cuisine",
}  # fmt: skip
THAI = Sentence(
    "test-000000",
    ("any", "good", "thai", "food", "near", "the", "fenway", "park"),
    (Entity(1, 2, "Rating"), Entity(2, 3, "Cuisine"), Entity(4, 8, "Location")),
)


def make(types: dict[str, str]) -> Any:
    return FORMAT([EntityType(n, w, "") for n, w in types.items()], Options())


def causes(parsed: Any) -> list[tuple[str, str, str]]:
    return [(d.cause, d.text, d.type) for d in parsed.dropped]


def test_the_printed_prompt_and_answer() -> None:
    (example,) = make(RESTAURANT).render(THAI)
    assert example.prompt == (
        "Please identify Rating, Amenity, Location, Restaurant Name, Price, Hours, Dish, and Cuisine Entity "
        "from the given text, output using the format as:\n"
        "\n"
        "Entity: Rating: None | Amenity: None | Location: None | Restaurant Name: None | Price: None | Hours: None | "
        "Dish: Word1, Word2 | Cuisine: Word3\n"
        "\n"
        "Text: any good thai food near the fenway park\n"
        "\n"
        "Entity:"
    )
    assert example.target == (
        "Rating: good | Amenity: None | Location: near the fenway park | Restaurant Name: None | Price: None | "
        "Hours: None | Dish: None | Cuisine: thai"
    )


def test_one_and_two_types_and_words_with_separators() -> None:
    sentence = Sentence("x-0", ("a",))
    (one,) = make({"p": "person"}).render(sentence)
    assert (
        one.prompt.startswith("Please identify Person Entity") and "\n\nEntity: Person: Word1, Word2\n\n" in one.prompt
    )
    (two,) = make({"p": "person", "d": "DNA/RNA, or protein"}).render(sentence)
    assert two.prompt.startswith("Please identify Person and DNA RNA Or Protein Entity")
    assert "Entity: Person: Word1, Word2 | DNA RNA Or Protein: Word3\n" in two.prompt


def test_reading_back_and_what_is_dropped() -> None:
    form = make({"r": "rating", "a": "ratings average", "l": "location"})
    words = ("good", "food", "in", "Austin", ",", "Texas", "or", "the", "U.S.", "good")
    read = form.parse(
        words,
        'Entity: rating: "good", good, N/A\nRatings Average: None. ; LOCATION: Austin, Texas, U.S., Paris. '
        "| Food: x | y",
    )
    assert read.entities == (Entity(0, 1, "r"), Entity(3, 6, "l"), Entity(8, 9, "l"))
    assert causes(read) == [("unknown-type", "Food: x", ""), ("unparsed", "y", ""), ("unmatched", "Paris", "l")]
    apart = form.parse(("thai", "or", "greek"), "Location: greek, thai | Rating: None")
    assert apart.entities == (Entity(0, 1, "l"), Entity(2, 3, "l")) and not apart.dropped
    assert form.parse(words, "None").dropped == () and form.parse(words, "Entity: None | none.").dropped == ()
    assert [c for c, _, _ in causes(form.parse(words, " "))] == ["unparsed"]
    assert [c for c, _, _ in causes(form.parse(words, "I cannot do that."))] == ["unparsed"]


@pytest.mark.parametrize(
    "answer",
    [
        "- Person: Ann\n- Location: Rome",
        "* Person: Ann\n* Location: Rome",
        "• Person: Ann\n• Location: Rome",
        "**Person**: Ann\n**Location**: Rome",
        "**Person:** Ann | **Location:** Rome",
        "- **Person:** Ann\n- **Location** : Rome",
        "Entity:\n* **Person**: Ann\n* **Location**: Rome",
    ],
)
def test_markup_around_types_is_passed_over(answer: str) -> None:
    form = make({"p": "person", "l": "location"})
    read = form.parse(("Ann", "in", "Rome"), answer)
    assert read.entities == (Entity(0, 1, "p"), Entity(2, 3, "l")) and not read.dropped
    assert causes(form.parse(("-", "a"), "--Person: a")) == [("unknown-type", "--Person: a", "")]


PLAIN = st.lists(st.sampled_from(["a", "bb", "c.", "é", "ü9", "'s"]), min_size=1, max_size=7, unique=True)


@settings(max_examples=200, deadline=None)
@given(PLAIN, st.data())
def test_the_expected_answer_reads_back(words: list[str], data: Any) -> None:
    ends = data.draw(st.sets(st.integers(0, len(words) - 1)))
    kinds = data.draw(st.lists(st.sampled_from("pl"), min_size=len(words), max_size=len(words)))
    words = [w for w in words if w not in ("'s",)] or ["a"]
    entities = tuple(Entity(i, i + 1, kinds[i]) for i in sorted(ends) if i < len(words))
    sentence = Sentence("x-0", tuple(words), entities)
    form = make({"p": "person", "l": "location"})
    assert form.parse(sentence.words, form.render(sentence)[0].target).entities == entities


ANY = st.recursive(
    st.none() | st.integers() | st.text(max_size=20) | st.text(alphabet='ab:;|, \n."', max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(ANY)
def test_any_output_gives_a_result(output: Any) -> None:
    found = make({"t": "a", "u": "b"}).parse(("a", ",", "b"), output)
    assert all(0 <= e.start < e.end <= 3 for e in found.entities)


def test_a_long_list_is_read_in_no_time() -> None:
    words = ("w", ",") * 60
    start = time.process_time()
    make({"t": "thing"}).parse(words, "Thing: " + "x, " * 200)
    assert time.process_time() - start < 2


def test_types_with_the_same_words_are_refused() -> None:
    with pytest.raises(ConfigError, match="same words"):
        make({"a": "x/y", "b": "X y"})
