"""InstructionNER's auxiliary tasks, T5-natural and synthetic label tokens: the exact strings of the specification."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from test_instructionner import JSON, MODES, RESTAURANT, THAI, WORDS, make

from fewtable.corpus import Entity, Sentence
from fewtable.errors import ConfigError

NOTHING = Sentence("train-000001", ("hello", "there"))
PLACE = Sentence("train-000002", ("a", "la", "carte", "in", "a"), (Entity(0, 3, "Dish"), Entity(4, 5, "Amenity")))
MAIN = "please extract entities and their types from the input sentence, all entity types are in options"
WORDED = "Options: rating, amenity, location, restaurant name, price, hours, dish, cuisine"
SPELLED = "Options: <rating>, <amenity>, <location>, <restaurant_name>, <price>, <hours>, <dish>, <cuisine>"


def support(count: int) -> list[Sentence]:
    return [Sentence(f"train-{i:06d}", (f"w{i}",), (Entity(0, 1, "Dish"),)) for i in range(count)]


def test_the_worked_examples_of_both_tasks():
    main, typing, extraction = make(RESTAURANT, auxiliary=["et", "ee"]).examples([THAI], 1)
    target = "good is a rating, thai is a cuisine, near the fenway park is a location."
    sentence = "Sentence: any good thai food near the fenway park Instruction: "
    assert (main.prompt, main.target) == (f"{sentence}{MAIN} {WORDED}", target)
    asked = "please typing these entity words according to the sentence: good, thai, near the fenway park"
    assert (typing.prompt, typing.target) == (f"{sentence}{asked} {WORDED}", target)
    assert extraction.prompt == f"{sentence}please extract entity words from the input sentence"
    assert extraction.target == "good, thai, near the fenway park."


def test_a_sentence_without_entities_is_extracted_as_a_dot_and_not_typed():
    assert [e.target for e in make(RESTAURANT, auxiliary=["ee"]).examples([NOTHING], 1)] == [".", "."]
    assert len(make(RESTAURANT, auxiliary=["et"]).examples([NOTHING, THAI], 1)) == 3


@pytest.mark.parametrize(
    ("auxiliary", "ratio", "tasks"),
    [
        ([], 1.0, (20, 0, 0)),
        (["et"], 1.0, (20, 20, 0)),
        (["ee"], 1.0, (20, 0, 20)),
        (["et", "ee"], 1.0, (20, 20, 20)),
        (["et", "ee"], 0.5, (20, 10, 10)),
        (["et", "ee"], 0.33, (20, 7, 7)),
        (["et", "ee"], 0.0, (20, 0, 0)),
    ],
)
def test_the_mixture_holds_round_r_times_n_of_each_task(auxiliary, ratio, tasks):
    made = make(RESTAURANT, auxiliary=auxiliary, ratio=ratio).examples(support(20), 1)
    prompts = [e.prompt for e in made]
    counts = tuple(sum(word in p for p in prompts) for word in (MAIN, "please typing", "entity words from"))
    assert counts == tasks and len(set(prompts)) == len(prompts)
    assert [e.prompt for e in made[:20]] == [make(RESTAURANT).render(s)[0].prompt for s in support(20)]


def drawn(word: str, ratio: float, seed: int, auxiliary: tuple[str, ...] = ("et", "ee")) -> set[str]:
    made = make(RESTAURANT, auxiliary=auxiliary, ratio=ratio).examples(support(40), seed)
    return {e.prompt.split()[1] for e in made if word in e.prompt}


def test_the_draw_decides_which_sentences_and_the_tasks_are_independent():
    assert drawn("please typing", 0.5, 1) == drawn("please typing", 0.5, 1)
    assert drawn("please typing", 0.5, 1) != drawn("please typing", 0.5, 2)
    assert drawn("please typing", 0.5, 1) != drawn("entity words from", 0.5, 1)
    assert drawn("please typing", 0.5, 1) == drawn("please typing", 0.5, 1, auxiliary=("et",))
    assert drawn("please typing", 0.2, 1) < drawn("please typing", 0.5, 1)


def test_only_the_main_task_is_asked():
    for options in ({"auxiliary": ["et", "ee"]}, {}):
        (query,) = make(RESTAURANT, **options).render(THAI)
        assert MAIN in query.prompt


@pytest.mark.parametrize(
    "options",
    [
        {"auxiliary": ["et"], "shown": "sentence"},
        {"auxiliary": ["et", "et"]},
        {"ratio": 1.1},
        {"auxiliary": ["typing"]},
    ],
)
def test_mixtures_that_mean_nothing_are_refused(options):
    with pytest.raises(ValidationError):
        make(RESTAURANT, **options)


def test_t5_natural_reads_the_raw_sentence_and_writes_the_same():
    (bare,), (whole,) = make(RESTAURANT, shown="sentence").render(THAI), make(RESTAURANT).render(THAI)
    assert bare.prompt == "any good thai food near the fenway park"
    assert bare.target == whole.target


def test_the_worked_example_of_synthetic_labels():
    form = make(RESTAURANT, labels="tokens")
    (example,) = form.render(THAI)
    assert example.prompt.endswith(f"{MAIN} {SPELLED}")
    assert example.target == "good is a <rating>, thai is a <cuisine>, near the fenway park is a <location>."
    assert ", ".join(form.tokens) == SPELLED.removeprefix("Options: ")
    assert make(RESTAURANT).tokens == ()
    (example,) = form.render(PLACE)
    assert example.target == "a la carte is a <dish>, a is an <amenity>."


@pytest.mark.parametrize("mode", ["paper", "robust"])
@pytest.mark.parametrize(
    ("text", "dropped"),
    [
        ("good is a <rating>, thai is a <cuisine>.", []),
        ("good is a <rating> , thai is a <cuisine> .", []),
        ("good is a<rating>, thai is a<cuisine>.", []),
        ("good is a  <rating>,thai is an <Cuisine>", []),
        ("good is a <rating>, food is a <planet>, thai is a <cuisine> .", ["unknown-type"]),
        ("good is a <rating>, thai is a <cuisine>, food is a rating.", ["unknown-type"]),
    ],
)
def test_spaces_around_added_tokens_may_be_lost_or_added(mode, text, dropped):
    parsed = make(RESTAURANT, labels="tokens", parse=mode).parse(("good", "thai", "food"), text)
    assert parsed.entities == (Entity(0, 1, "Rating"), Entity(1, 2, "Cuisine"))
    assert [d.cause for d in parsed.dropped] == dropped


def test_a_label_inside_the_words_is_left_as_it_is():
    words = ("see", "<dish>", "now")
    for mode in ("paper", "robust"):
        parsed = make(RESTAURANT, labels="tokens", parse=mode).parse(words, "<dish> now is a <dish>.")
        assert parsed.entities == (Entity(1, 3, "Dish"),)


def test_two_names_that_differ_in_case_alone_are_refused():
    with pytest.raises(ConfigError, match="same tokens"):
        make({"time": "time", "TIME": "hour"}, labels="tokens")


PIECES = ["thai", " is a ", " is an", "<rating>", "<dish>", "<", ">", ", ", ",", ".", " "]
OUTPUT = JSON | st.lists(st.sampled_from(PIECES), max_size=14).map("".join)


@given(words=WORDS, output=OUTPUT, mode=MODES, flat=st.booleans(), empty=st.booleans())
def test_parsing_tokens_is_total_and_stays_inside_the_words(words, output, mode, flat, empty):
    form = make({} if empty else RESTAURANT, parse=mode, flat=flat, labels="tokens")
    for start, end, kind in form.parse(words, output).entities:
        assert 0 <= start < end <= len(words) and kind in RESTAURANT
