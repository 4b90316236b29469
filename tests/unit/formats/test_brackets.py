"""Questions answered in brackets: the papers' worked examples byte for byte, negatives, marks, reading any answer."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewtable.corpus import Entity, EntityType, Sentence
from fewtable.data.normalise import normalise
from fewtable.errors import ConfigError
from fewtable.formats.brackets import FORMAT, Options
from fewtable.formats.dialogue import text
from fewtable.registry import Registry

STYLE = "A national, regional or style of cooking."
THAI = Sentence(
    "test-000000",
    ("any", "good", "thai", "food", "near", "the", "fenway", "park"),
    (Entity(1, 2, "Rating"), Entity(2, 3, "Cuisine"), Entity(4, 8, "Location")),
)
TYPES = {"Rating": "How good.", "Cuisine": STYLE, "Location": "", "Hours": "When."}
HEADER = (
    "Below is an instruction that describes a task, paired with an input that provides further context. Write a "
    "response that appropriately completes the request.\n"
)


def make(types: dict[str, str], **options: Any) -> Any:
    return FORMAT([EntityType(n, n.lower(), d) for n, d in types.items()], Options.model_validate(options))


def test_the_worked_example_of_obp_llm() -> None:
    (example,) = make({"Cuisine": STYLE}).render(THAI)
    prompt = f"""{HEADER}
### Instruction:
I want you to extract cuisine entities from the following input sentence, the entity of cuisine refers to the entity \
that represents a national, regional or style of cooking in the input sentence.

### Input:
any good thai food near the fenway park

### Response:
"""
    assert example.prompt == prompt
    assert example.target == "The entities I extracted for you are <<< thai >>>"
    assert text(example, "bare", "</s>") == prompt + "The entities I extracted for you are <<< thai >>></s>"
    (absent,) = make({"Hours": "When."}).render(THAI)
    assert absent.target == "The entities I extracted for you are <<< >>>"
    assert absent.target.startswith(absent.lead) and absent.lead.endswith(" <<<") and absent.lead_learned


def test_the_worked_example_of_cllmfs() -> None:
    form = make({"Cuisine": "A style of cooking."}, wording="cllmfs", skip_lead=True)
    (example,) = form.render(THAI)
    assert text(example, "bare", "</s>") == (
        f"""{HEADER}
### Instruction:
Please extract the entity of cuisine in the input sentence given below , the entity of cuisine refers to the entity \
that represents a style of cooking in the input sentence .

### Input:
any good thai food near the fenway park

### Response:
<im_start> I can extract entities for you, the extracted entities are <<< thai >>> <im_end></s>"""
    )
    assert not example.lead_learned and example.target.endswith(form.close)


def test_a_type_is_named_by_its_words_or_its_name_and_defined_where_it_can_be() -> None:
    name = "organization-media/newspaper"
    (example,) = make({name: ""}, label="name").render(THAI)
    assert f"extract {name} entities from the following input sentence.\n" in example.prompt
    (example,) = make({"X": "DNA that codes."}).render(THAI)
    assert "represents DNA that codes in the input" in example.prompt
    with pytest.raises(ConfigError, match="same words"):
        make({"a": "", "A": ""})


@pytest.mark.parametrize(
    ("negatives", "asked"),
    [
        ("all", ["Rating", "Cuisine", "Location", "Hours"]),
        ("none", ["Rating", "Cuisine", "Location"]),
        (1, ["Rating", "Cuisine", "Location"]),
    ],
)
def test_what_is_asked_in_training(negatives: Any, asked: list[str]) -> None:
    form = make(TYPES, negatives=negatives)
    assert [name for _, name in form.questions([THAI], 1)] == asked
    assert [e.prompt for e in form.examples([THAI], 1)] == [
        e.prompt for e in form.render(THAI) if any(f"extract {a.lower()} " in e.prompt for a in asked)
    ]


def test_drawn_negatives_are_types_of_the_support_and_as_many_as_asked_for() -> None:
    kinds = [f"t{i}" for i in range(6)]
    support = [Sentence(f"s-{i}", ("a",), (Entity(0, 1, kinds[i % 4]),)) for i in range(40)] + [Sentence("s-x", ("a",))]
    form = make(dict.fromkeys(kinds, ""), negatives=2)
    found = form.questions(support, 1)
    assert len(found) == 40 * 3 + 2 and found == form.questions(support, 1) != form.questions(support, 2)
    assert {name for _, name in found} == set(kinds[:4]) and len(set(found)) == len(found)


def test_marks_say_where_type_sentence_and_entities_stand() -> None:
    sentence = Sentence("x-0", ("a", "b", "cd", "a"), (Entity(0, 2, "t"), Entity(3, 4, "t"), Entity(2, 3, "u")), (1,))
    for wording in ("obp", "cllmfs"):
        form = make({"t": "What a t is.", "u": ""}, wording=wording)
        example, other = form.examples([sentence], 1)
        marks = example.marks
        shown = [example.prompt[low:high] for low, high in (marks.type, marks.sentence, *marks.entities)]
        assert shown == ["t", "ab cd a", "ab", "a"]
        assert marks.type[0] == example.prompt.index("extract ") + len("extract ") + 14 * (wording == "cllmfs")
        assert marks.entities[1][1] == marks.sentence[1] and len(other.marks.entities) == 1
        assert all(query.marks is None for query in form.render(sentence))


def test_reading_and_what_is_dropped() -> None:
    form = make({"t": "", "u": ""})
    read = form.parse(("a", "b", "a"), ["x <<< a >>> <<<a>>> <<< >>> <<< a >>> <<< c >>> <<< b", "nothing"])
    assert read.entities == (Entity(0, 1, "t"), Entity(2, 3, "t"))
    assert [(d.cause, d.text, d.type) for d in read.dropped] == [
        ("surplus", "a", "t"), ("unmatched", "c", "t"), ("unparsed", " <<< b", "t"), ("unparsed", "nothing", "u"),
    ]  # fmt: skip
    assert [d.cause for d in form.parse(("a",), ["<<< a >>>", 3]).dropped] == ["unparsed"]


@given(st.recursive(st.none() | st.floats() | st.text(), lambda inner: st.lists(inner, max_size=3)))
def test_any_output_is_read(output: Any) -> None:
    for one in (output, [output, output]):
        parsed = make({"t": "", "u": ""}).parse(("a", "b"), one)
        assert set(parsed.entities) <= {Entity(i, j, k) for i in (0, 1) for j in (1, 2) for k in "tu"}


def earlier(sentence: Sentence, start: int, end: int, kind: str) -> bool:
    """Whether an entity's words stand before it where they are none of its type: no format by surface can say which."""
    found = [(i, i + end - start, kind) for i in range(start)]
    return any(
        sentence.words[i:j] == sentence.words[start:end] and (i, j, k) not in sentence.entities for i, j, k in found
    )


@pytest.mark.shared
@pytest.mark.parametrize("dataset", ["mit-restaurant", "mit-movie", "crossner-ai"])
def test_real_sentences_come_back(root: Any, mirror: Any, dataset: str) -> None:
    spec = Registry(root / "config").dataset(dataset)
    raw = {file: mirror / (spec.files[file].mirror or "?") for file in spec.splits["test"].files}
    if not all(path.exists() for path in raw.values()):
        pytest.skip("the corpus is not in the mirror")
    form = FORMAT([EntityType(n, t.words, t.definition) for n, t in spec.types.items()], Options())
    sentences = normalise(dataset, spec, "test", raw)
    lost = 0
    for sentence in sentences:
        examples = form.examples([sentence], 1)
        for example in examples:
            for place in example.marks.entities:
                assert example.prompt[slice(*place)] in sentence.text
        parsed = form.parse(sentence.words, [e.target for e in form.render(sentence)])
        assert not parsed.dropped
        assert parsed.entities == sentence.entities or any(earlier(sentence, *gold) for gold in sentence.entities)
        lost += parsed.entities != sentence.entities
    assert lost < 0.06 * len(sentences)
