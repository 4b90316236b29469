"""UniversalNER's conversations: the released text, negatives, and reading any answer."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewtable.corpus import Entity, EntityType, Sentence, split_words
from fewtable.errors import ConfigError
from fewtable.files import write_jsonl
from fewtable.formats.base import Dropped
from fewtable.formats.dialogue import text
from fewtable.formats.uniner import FORMAT, Options

RESTAURANT = {
    "Rating": "Rating", "Amenity": "Amenity", "Location": "Location", "Restaurant_Name": "Restaurant Name",
    "Price": "Price", "Hours": "Hours", "Dish": "Dish", "Cuisine": "Cuisine",
}  # fmt: skip
THAI = Sentence(
    "test-000000",
    ("any", "good", "thai", "food", "near", "the", "fenway", "park"),
    (Entity(1, 2, "Rating"), Entity(2, 3, "Cuisine"), Entity(4, 8, "Location")),
)


def make(types: dict[str, str], **options: Any) -> Any:
    return FORMAT([EntityType(n, w, "") for n, w in types.items()], Options.model_validate(options))


def asked(example: Any) -> dict[str, str]:
    turns = [*example.before[1:], example]
    return {t.prompt.removeprefix("What describes ").removesuffix(" in the text?"): t.target for t in turns}


def test_a_query_is_the_released_prompt_and_its_answer() -> None:
    queries = make(RESTAURANT).render(THAI)
    assert text(queries[-1], "ie-as-qa", "</s>") == (
        "A virtual assistant answers questions from a user based on the provided text. "
        "USER: Text: any good thai food near the fenway park ASSISTANT: I've read this text.</s>"
        'USER: What describes Cuisine in the text? ASSISTANT: ["thai"]</s>'
    )
    answers = {"Rating": ["good"], "Cuisine": ["thai"], "Location": ["near the fenway park"]}
    assert [asked(q) for q in queries] == [{w: json.dumps(answers.get(w, []))} for w in RESTAURANT.values()]


def test_a_conversation_asks_the_types_of_a_sentence_and_as_many_others() -> None:
    (example,) = make(RESTAURANT, negatives="uniform").examples([THAI], 1)
    found = asked(example)
    assert {k: v for k, v in found.items() if v != "[]"} == {
        "Rating": '["good"]', "Cuisine": '["thai"]', "Location": '["near the fenway park"]',
    }  # fmt: skip
    assert len(found) == 6
    assert [t.learned for t in example.before] == [False] + [True] * 5
    (example,) = make(RESTAURANT, negatives="uniform", loss_on_ack=True).examples([THAI], 1)
    assert example.before[0].learned
    assert len(asked(make(RESTAURANT, negatives="none").examples([THAI], 1)[0])) == 3
    assert len(asked(make(RESTAURANT, negatives="inventory").examples([THAI], 1)[0])) == 8


def test_raw_text_is_shown_as_it_is_written() -> None:
    words, glued = split_words("AC/DC (Sydney) isn't  new.")
    sentence = Sentence("x-0", words, (Entity(0, 3, "b"),), glued)
    (example,) = make({"b": "band"}).render(sentence)
    assert example.before[0].prompt == "Text: AC/DC (Sydney) isn't new."
    assert example.target == '["AC/DC"]'


def test_answers_name_a_surface_once_in_order_of_first_mention() -> None:
    sentence = Sentence("x-0", ("b", "a", "b"), (Entity(0, 1, "t"), Entity(1, 2, "t"), Entity(2, 3, "t")))
    assert make({"t": "thing"}).render(sentence)[0].target == '["b", "a"]'


def corpus(counts: dict[str, int]) -> list[Sentence]:
    """Sentences with one mention each."""
    return [Sentence(f"x-{n}", ("w",), (Entity(0, 1, t),)) for n, t in enumerate(Counter(counts).elements())]


@pytest.mark.parametrize("negatives", ["uniform", "frequency"])
def test_negatives_follow_their_weights(negatives: str) -> None:
    counts = {"a": 600, "b": 300, "c": 60, "d": 40}
    made = make({n: n for n in counts}, negatives=negatives).examples(corpus(counts), 1)
    drawn: Counter[str] = Counter()
    for example in made[:600]:  # the sentences of type a: one negative each
        (negative,) = (k for k, v in asked(example).items() if v == "[]")
        drawn[negative] += 1
    shares = {t: drawn[t] / 600 for t in "bcd"}
    expected = {t: counts[t] / 400 for t in "bcd"} if negatives == "frequency" else dict.fromkeys("bcd", 1 / 3)
    assert drawn["a"] == 0
    assert all(abs(shares[t] - expected[t]) < 0.06 for t in "bcd"), shares


def test_a_mixture_asks_the_types_of_the_sentences_own_source() -> None:
    types = {"one/p": "person", "one/o": "organization", "two/g": "gene", "two/d": "disease"}
    support = [
        Sentence("x-0", ("w",), (Entity(0, 1, "one/p"),), (), "one"),
        Sentence("x-1", ("w",), (Entity(0, 1, "two/g"),), (), "two"),
        Sentence("x-2", ("w",), (), (), "two"),
    ]
    made = make(types, negatives="inventory", dataset=True).examples(support, 1)
    assert [set(asked(e)) for e in made] == [{"person", "organization"}, {"gene", "disease"}, {"gene", "disease"}]
    assert made[1].before[0].prompt == "Dataset: two\nText: w"


def test_many_types_are_drawn_fast_and_alike() -> None:
    counts = {f"t{n}": 1 + 3000 // (n + 1) for n in range(3000)}
    support = corpus(counts)[::20]
    form = make({n: n for n in counts}, ratio=5.0)
    first = form.examples(support, 1)
    assert first == form.examples(support, 1) != form.examples(support, 2)
    assert all(len(asked(e)) == 6 for e in first)


def test_all_in_one_names_all_types_and_answers_with_an_object() -> None:
    form = make(RESTAURANT, query="all", negatives="inventory")
    (example,) = form.render(THAI)
    assert example.prompt == (
        "What describes Rating, Amenity, Location, Restaurant Name, Price, Hours, Dish, Cuisine in the text?"
    )
    assert json.loads(example.target) == {
        "Rating": ["good"], "Cuisine": ["thai"], "Location": ["near the fenway park"],
    }  # fmt: skip
    assert form.parse(THAI.words, example.target).entities == THAI.entities
    assert set(json.loads(form.examples([THAI], 1)[0].target)) == {"Rating", "Cuisine", "Location"}


def test_reading_back_and_what_is_dropped() -> None:
    form = make({"p": "person", "l": "location"})
    words = ("Bo", "met", "bo", "]", "in", "Rome")
    good = form.parse(words, ['["Bo", "bo", "Bo", "Al"]', "x ['Rome', 3] y"])
    assert good.entities == (Entity(0, 1, "p"), Entity(2, 3, "p"), Entity(5, 6, "l"))
    assert [(d.cause, d.text, d.type) for d in good.dropped] == [
        ("surplus", "Bo", "p"), ("unmatched", "Al", "p"), ("unparsed", "3", "l"),
    ]  # fmt: skip
    assert form.parse(words, ['["]"]', "[]"]).entities == (Entity(3, 4, "p"),)
    assert [d.cause for d in form.parse(words, ['["Bo"', None]).dropped] == ["unparsed", "unparsed"]
    assert [d.cause for d in form.parse(words, "[]").dropped] == ["unparsed"]
    whole = make({"p": "person"}, query="all")
    read = whole.parse(words, '{"person": ["Bo"], "city": ["Rome"]}')
    assert read.entities == (Entity(0, 1, "p"),) and [d.cause for d in read.dropped] == ["unknown-type"]


WORDS = st.lists(st.sampled_from(["a", "b", "]", '"', "\\", "é", "[", "{", "'", "日"]), min_size=1, max_size=8)


@settings(max_examples=200, deadline=None)
@given(WORDS, st.data())
def test_distinct_first_mentions_come_back(words: list[str], data: Any) -> None:
    spans = data.draw(st.sets(st.tuples(st.integers(0, len(words) - 1), st.integers(1, 3)), max_size=4))
    entities = {Entity(s, min(s + n, len(words)), "t") for s, n in spans}
    firsts = {}
    for entity in sorted(entities):
        surface = " ".join(words[entity.start : entity.end])
        firsts.setdefault(surface, entity)
    earliest = {
        e for surface, e in firsts.items()
        if surface not in {" ".join(words[i : i + e.end - e.start]) for i in range(e.start)}
    }  # fmt: skip
    sentence = Sentence("x-0", tuple(words), tuple(sorted(earliest)))
    form = make({"t": "thing"})
    assert form.parse(sentence.words, [form.render(sentence)[0].target]).entities == sentence.entities


ANY = st.recursive(
    st.none() | st.integers() | st.text(max_size=20) | st.text(alphabet="[]{}\"',ab:", max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(ANY, st.sampled_from(["type", "all"]))
def test_any_output_gives_a_result(output: Any, query: str) -> None:
    form = make({"t": "a", "u": "b"}, query=query)
    for value in (output, [output, output]):
        assert all(0 <= e.start < e.end <= 2 for e in form.parse(("a", "b"), value).entities)


def test_deep_nesting_is_unparsed() -> None:
    assert make({"t": "thing"}).parse(("a",), ["[" * 100_000]).dropped[0].cause == "unparsed"


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        ("[{[1]: 2}]", "unparsed"),
        ("[NaN]", "unparsed"),
        ("[1e999]", "unparsed"),
        ("[b'x']", "unparsed"),
        ("[...]", "unparsed"),
        ("[{1, 2}]", "unparsed"),
        ("[1j]", "unparsed"),
        ("[{(1, 2): 3}]", "unparsed"),
        (f"[0x{'f' * 5000}]", "unparsed"),
        (r'["\ud83d"]', "unmatched"),
        (r"['\ud83d']", "unmatched"),
        ("['a', 3]", "unparsed"),
    ],
)
@pytest.mark.parametrize("query", ["type", "all"])
def test_what_was_dropped_can_be_written(answer: str, cause: str, query: str, tmp_path: Path) -> None:
    form = make({"p": "person", "l": "location"}, query=query)
    output: Any = [answer, "[]"] if query == "type" else f'{{"person": {answer}, "location": []}}'
    dropped = form.parse(("a", "b"), output).dropped
    assert [d.cause for d in dropped] == [cause]
    write_jsonl(tmp_path / "x.jsonl", [[d.text, d.type] for d in dropped])
    whole = form.parse(("a", "b"), "{" + answer + ": 1}")
    write_jsonl(tmp_path / "x.jsonl", [[d.text, d.type] for d in whole.dropped])


def test_half_a_surrogate_pair_is_replaced_and_a_whole_one_is_read() -> None:
    form = make({"p": "person"})
    assert form.parse(("a",), [r"['\ud83d\ude00', '\ud83d']"]).dropped == (
        Dropped("unmatched", "😀", "p"),
        Dropped("unmatched", "\N{REPLACEMENT CHARACTER}", "p"),
    )


def test_types_with_the_same_words_are_refused() -> None:
    with pytest.raises(ConfigError, match="same words"):
        make({"a": "x", "b": "x"})
