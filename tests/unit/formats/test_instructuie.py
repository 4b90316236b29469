"""InstructUIE's text: the released prompt byte for byte, auxiliary tasks, and reading any answer."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewtable.corpus import Entity, EntityType, Sentence
from fewtable.errors import ConfigError
from fewtable.formats.dialogue import text
from fewtable.formats.instructuie import FORMAT, Options

RESTAURANT = {
    "Rating": "rating", "Amenity": "amenity", "Location": "location", "Restaurant_Name": "Restaurant Name",
    "Price": "price", "Hours": "hours", "Dish": "dish", "Cuisine": "cuisine",
}  # fmt: skip
THAI = Sentence(
    "test-000000",
    ("any", "good", "thai", "food", "near", "the", "fenway", "park"),
    (Entity(1, 2, "Rating"), Entity(2, 3, "Cuisine"), Entity(4, 8, "Location")),
)
RELEASED = (
    'Please list all entity words in the text that fit the category.Output format is "type1: word1; type2: word2". \n'
    "Option: rating, amenity, location, restaurant name, price, hours, dish, cuisine \n"
    "Text: any good thai food near the fenway park \n"
    "Answer:"
)
ANSWER = " rating: good; cuisine: thai; location: near the fenway park"


def make(types: dict[str, str], **options: Any) -> Any:
    return FORMAT([EntityType(n, w, "") for n, w in types.items()], Options.model_validate(options))


def test_the_released_prompt_and_answer() -> None:
    (example,) = make(RESTAURANT).render(THAI)
    assert (example.prompt, example.target) == (RELEASED, ANSWER)
    (example,) = make(RESTAURANT).render(Sentence("x-0", ("{0}", "{a")))
    assert "Text: {0} {a \n" in example.prompt and example.target == " None"


def test_a_plain_template_writes_the_same_text() -> None:
    (example,) = make(RESTAURANT, cue=False).render(THAI)
    assert text(example, "plain", "</s>") == RELEASED + ANSWER + "</s>"


def test_auxiliary_tasks_follow_the_main_one() -> None:
    made = make(RESTAURANT, auxiliary=["es", "et"], ratio=1.0).examples([THAI], 1)
    assert made[0] == make(RESTAURANT).render(THAI)[0]
    option = RELEASED[RELEASED.index("Option") : RELEASED.index("Answer")]
    assert made[1].prompt == (
        'Please list all entity words in the text that fit the category. Output format is "word1, word2". \n'
        f"{option}Answer:"
    )
    assert made[1].target == " good, thai, near the fenway park"
    assert made[2].prompt == (
        "Given options, please tell me the categories of all the listed entity words."
        f'Output format is "type1: word1; type2: word2". \n{option}'
        " Entities: good, thai, near the fenway park \nAnswer:"
    )
    assert made[2].target == ANSWER
    many = make(RESTAURANT, auxiliary=["es", "et"])
    count = len(many.examples([THAI] * 1000, 1)) - 1000
    assert 520 < count < 680
    assert many.examples([THAI] * 50, 1) == many.examples([THAI] * 50, 1) != many.examples([THAI] * 50, 2)


def test_of_a_mixture_the_options_are_those_of_the_sentences_own_source() -> None:
    form = make({"one/p": "person", "two/p": "Person", "two/g": "gene"})
    sentence = Sentence("x-0", ("w",), (Entity(0, 1, "two/p"),), (), "two")
    (example,) = form.render(sentence)
    assert "Option: person, gene \n" in example.prompt and example.target == " person: w"


def test_reading_back_and_what_is_dropped() -> None:
    form = make({"p": "person", "h": "hours"})
    words = ("bo", "met", "bo", "at", "3", ":", "30")
    read = form.parse(words, " Person: bo; hours: 3:30; person: bo; person: bo; person: al; city: Rome; bo; none; ")
    assert read.entities == (Entity(0, 1, "p"), Entity(2, 3, "p"), Entity(4, 7, "h"))
    assert [(d.cause, d.text, d.type) for d in read.dropped] == [
        ("surplus", "bo", "p"), ("unmatched", "al", "p"), ("unknown-type", "city: Rome", ""), ("unparsed", "bo", ""),
    ]  # fmt: skip
    assert form.parse(words, " None") == form.parse(words, "none;")
    assert form.parse(words, " None").dropped == ()
    assert [d.cause for d in form.parse(words, " ").dropped] == ["unparsed"]


WORDS = st.lists(st.sampled_from(["a", "b", ":", "{", "é", ",", "None"]), min_size=1, max_size=8)


@settings(max_examples=200, deadline=None)
@given(WORDS, st.data())
def test_every_mention_of_a_string_comes_back(words: list[str], data: Any) -> None:
    """Entities of one word, all mentions of the chosen words: the n-th of an answer is the n-th of the sentence."""
    chosen = data.draw(st.sets(st.sampled_from(words)))
    entities = tuple(Entity(i, i + 1, "t") for i, w in enumerate(words) if w in chosen)
    sentence = Sentence("x-0", tuple(words), entities)
    form = make({"t": "thing"})
    assert form.parse(sentence.words, form.render(sentence)[0].target).entities == entities


ANY = st.recursive(
    st.none() | st.integers() | st.text(max_size=20) | st.text(alphabet="ab:; \n", max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(ANY)
def test_any_output_gives_a_result(output: Any) -> None:
    assert all(0 <= e.start < e.end <= 2 for e in make({"t": "a", "u": "b"}).parse(("a", "b"), output).entities)


@pytest.mark.parametrize(("words", "why"), [(("x", "X"), "same words"), (("a: b", "c"), "colon")])
def test_types_that_no_answer_tells_apart_are_refused(words: tuple[str, str], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        make(dict(zip("ab", words, strict=True)))
