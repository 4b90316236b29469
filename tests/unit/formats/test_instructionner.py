from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewtable.corpus import Entity, EntityType, Sentence, drop_overlaps
from fewtable.errors import ConfigError
from fewtable.formats._surfaces import occurrences
from fewtable.formats.instructionner import FORMAT, Options

RESTAURANT = {
    "Rating": "rating",
    "Amenity": "amenity",
    "Location": "location",
    "Restaurant_Name": "restaurant name",
    "Price": "price",
    "Hours": "hours",
    "Dish": "dish",
    "Cuisine": "cuisine",
}
THAI = Sentence(
    "train-000000",
    ("any", "good", "thai", "food", "near", "the", "fenway", "park"),
    (Entity(1, 2, "Rating"), Entity(2, 3, "Cuisine"), Entity(4, 8, "Location")),
)


def make(types: dict[str, str], **options: object) -> FORMAT:
    return FORMAT([EntityType(n, w, "") for n, w in types.items()], Options.model_validate(options))


def read(text: object, words: str, mode: str = "paper", **options: object) -> tuple[list, list]:
    got = make(RESTAURANT, parse=mode, **options).parse(words.split(), text)
    return [tuple(e) for e in got.entities], [d.cause for d in got.dropped]


def test_the_worked_example_of_the_paper():
    (example,) = make(RESTAURANT).render(THAI)
    assert example.prompt == (
        "Sentence: any good thai food near the fenway park Instruction: please extract entities and their "
        "types from the input sentence, all entity types are in options Options: rating, amenity, location, "
        "restaurant name, price, hours, dish, cuisine"
    )
    assert example.target == "good is a rating, thai is a cuisine, near the fenway park is a location."
    for mode in ("paper", "robust"):
        parsed = make(RESTAURANT, parse=mode).parse(THAI.words, example.target)
        assert parsed.entities == THAI.entities and parsed.dropped == ()


def test_an_before_a_vowel_and_a_dot_for_no_entity():
    form = make({"ORG": "Organization", "MISC": "other"})
    sentence = Sentence("x-0", ("UN", "said"), (Entity(0, 1, "ORG"),))
    assert form.render(sentence)[0].target == "UN is an organization."
    assert form.render(Sentence("x-1", ("so",)))[0].target == "."
    assert form.parse(("so",), ".").dropped == ()


def test_clauses_run_left_to_right_longer_first():
    entities = (Entity(0, 1, "Dish"), Entity(0, 2, "Cuisine"), Entity(2, 3, "Price"))
    (example,) = make(RESTAURANT).render(Sentence("x-0", ("a", "b", "c"), entities))
    assert example.target == "a b is a cuisine, a is a dish, c is a price."


@pytest.mark.parametrize("mode", ["paper", "robust"])
@pytest.mark.parametrize(
    ("text", "words", "entities", "dropped"),
    [
        ("thai is an cuisine", "thai food", [(0, 1, "Cuisine")], []),
        ("Thai IS", "thai food", [], ["unparsed"]),
        ("Thai is a CUISINE.", "thai food", [(0, 1, "Cuisine")], []),
        ("", "thai", [], ["unparsed"]),
        ("hai is a cuisine.", "thai food", [], ["unmatched"]),
        ("thai is a planet, food is a dish.", "thai food", [(1, 2, "Dish")], ["unknown-type"]),
        ("thai, food is a dish.", "thai food", [(1, 2, "Dish")], ["unparsed"]),
        ("thai is a cuisines.", "thai food", [], ["unknown-type"]),
        ("a is a dish, a is a dish.", "a b a", [(0, 1, "Dish"), (2, 3, "Dish")], []),
        ("a is a dish, a is a dish.", "a b", [(0, 1, "Dish")], ["surplus"]),
        ("a is a dish, a is a price.", "a b", [(0, 1, "Dish")], ["repeated"]),
        ("a is a dish, a is a price.", "a b a", [(0, 1, "Dish"), (2, 3, "Price")], []),
        ("a a is a dish, a a is a dish.", "a a a", [(0, 2, "Dish")], ["surplus"]),
        ("$20 is a price, ( is a dish.", "$20 c.b. (", [(0, 1, "Price"), (2, 3, "Dish")], []),
        ("c.b. is a dish.", "cxbx c.b.", [(1, 2, "Dish")], []),
        ("Good is a rating.", "good Good", [(1, 2, "Rating")], []),
        ("a b is a dish, b is a price.", "a b", [(0, 2, "Dish"), (1, 2, "Price")], []),
        ("this is a dish is a dish.", "this is a dish", [(0, 4, "Dish")], []),
    ],
)  # fmt: skip
def test_parse(mode, text, words, entities, dropped):
    assert read(text, words, mode) == (entities, dropped)


def test_only_robust_reads_a_comma_in_a_surface():
    text, words = "joe , and co is a restaurant name, thai is a cuisine.", "joe , and co thai"
    assert read(text, words) == ([(2, 4, "Restaurant_Name"), (4, 5, "Cuisine")], ["unparsed"])
    assert read(text, words, "robust") == ([(0, 4, "Restaurant_Name"), (4, 5, "Cuisine")], [])


def test_flat_drops_the_later_of_two_overlapping_clauses():
    text = "a b is a dish, b is a price."
    assert read(text, "a b", flat=True) == ([(0, 2, "Dish")], ["surplus"])


def test_a_longer_type_is_not_cut_at_a_shorter_one():
    form = make({"R": "ratings", "A": "ratings average"}, parse="robust")
    assert form.parse(("x", "y"), "x is a ratings average, y is a ratings.").entities == (
        Entity(0, 1, "A"),
        Entity(1, 2, "R"),
    )


@pytest.mark.parametrize("output", [None, 3, True, ["thai is a cuisine."], {"a": 1}])
def test_what_is_no_text_is_unparsed(output):
    assert read(output, "thai") == ([], ["unparsed"])


def test_what_t5_cannot_spell_is_matched_by_what_it_can():
    assert occurrences(("i", "<3", "caf{e}", "~"), "3 cafe") == [(1, 3)]
    assert occurrences(("the", "a~b", "x"), "a b") == [(1, 2)]
    assert occurrences(("wait…", "ﬁne"), "wait... fine") == [(0, 2)]
    assert occurrences(("~", "^"), "") == []
    assert occurrences(("the", "ater"), "heat") == []
    assert occurrences(("TNF-β", "rose"), "TNF-α") == [], "what wrote a Greek letter is no T5"
    assert occurrences(("TNF-β", "rose"), "TNF-") == [(0, 1)] == occurrences(("TNF-β", "rose"), "TNF-\u2047")


def test_two_types_with_the_same_words_are_refused():
    with pytest.raises(ConfigError, match="same words"):
        make({"A": "place", "B": "Place"})


WORDS = st.lists(st.sampled_from(["a", "b", "A", "is", ",", ".", "a,", "~", "thai", "ſ", "İ"]), max_size=6)
PIECES = ["a", "b", " is a ", " is an ", "rating", "RATING", "diſh", "dish", ", ", ".", " ", "thai", "ſ", "~"]
TEXT = st.lists(st.sampled_from(PIECES), max_size=14).map("".join)
LEAVES = st.none() | st.integers() | st.text() | TEXT
JSON = st.recursive(LEAVES, lambda x: st.lists(x, max_size=2), max_leaves=3)
MODES = st.sampled_from(["paper", "robust"])


@given(words=WORDS, output=JSON, mode=MODES, flat=st.booleans(), empty=st.booleans())
def test_parse_is_total_and_stays_inside_the_words(words, output, mode, flat, empty):
    form = make({} if empty else RESTAURANT, parse=mode, flat=flat)
    parsed = form.parse(words, output)
    assert list(parsed.entities) == sorted(parsed.entities)
    assert len({e[:2] for e in parsed.entities}) == len(parsed.entities)
    for start, end, kind in parsed.entities:
        assert 0 <= start < end <= len(words) and kind in RESTAURANT
    if flat:
        assert len(drop_overlaps(parsed.entities)) == len(parsed.entities)
