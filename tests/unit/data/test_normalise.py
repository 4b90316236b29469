"""Normalising: rename, drop, unknown types, hash parts, counts."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewtable.corpus import Entity, Sentence
from fewtable.data.normalise import in_part, normalise
from fewtable.errors import ConfigError, DataError
from fewtable.specs import DatasetSpec, HashSplit

TYPE = {"words": "w", "definition": "d"}
Make = Callable[..., tuple[DatasetSpec, dict[str, Path]]]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def build(text: str, **keys: Any) -> tuple[DatasetSpec, dict[str, Path]]:
        path = tmp_path / "a.tsv"
        path.write_text(text, encoding="utf-8")
        value = {
            "title": "T",
            "domain": "news",
            "licence": "none",
            "reader": "columns",
            "files": {"a.tsv": {}},
            "splits": {"train": {"files": ["a.tsv"]}},
            "types": {"person": TYPE, "location": TYPE},
        }
        return DatasetSpec.model_validate(value | keys), {"a.tsv": path}

    return build


def test_rename_drop_and_ids(make: Make) -> None:
    text = "A\tB-PER\nb\tB-MISC\n\nc\tB-location\n"
    spec, raw = make(text, rename={"PER": "person"}, drop=["MISC"])
    assert normalise("d", spec, "train", raw) == [
        Sentence("train-000000", ("A", "b"), (Entity(0, 1, "person"),)),
        Sentence("train-000001", ("c",), (Entity(0, 1, "location"),)),
    ]


def test_two_raw_names_of_one_type_are_one_entity(make: Make, tmp_path: Path) -> None:
    spec, raw = make("", reader="jsonl", rename={"PER": "person"})
    raw["a.tsv"].write_text('{"words": ["a"], "entities": [[0, 1, "person"], [0, 1, "PER"]]}\n')
    assert normalise("d", spec, "train", raw)[0].entities == (Entity(0, 1, "person"),)


def test_groups_without_words_are_no_sentences(make: Make) -> None:
    spec, raw = make('{"words": [], "entities": []}\n{"words": ["a"], "entities": []}\n', reader="jsonl")
    assert [s.id for s in normalise("d", spec, "train", raw)] == ["train-000000"]


def fault(make: Make, where: str, what: str, fix: str, text: str = "a\tO\n", split: str = "train", **keys: Any) -> None:
    spec, raw = make(text, **keys)
    with pytest.raises((DataError, ConfigError)) as caught:
        normalise("d", spec, split, raw)
    assert str(caught.value.where).endswith(where)
    assert what in caught.value.what and fix in str(caught.value.fix)


def test_unknown_type_names_line_and_nearest(make: Make) -> None:
    fault(make, "a.tsv:3", "unknown type 'persom'", "did you mean 'person'?", "a\tO\n\nb\tB-persom\n")
    fault(make, "a.tsv:2", "unknown type 'persom'", "did you mean 'person'?", "a\tO\nb\tB-persom\n")


def test_unknown_split_reader_and_option(make: Make) -> None:
    fault(make, "d.yaml:splits", "unknown split 'trian'", "did you mean 'train'?", split="trian")
    fault(make, "d.yaml:reader", "unknown reader 'colums'", "did you mean 'columns'?", reader="colums")
    fault(make, "d.yaml:options:tga", "", "did you mean 'tag'?", options={"tga": 1})


def test_missing_raw_file(make: Make) -> None:
    spec, _ = make("")
    with pytest.raises(DataError, match=r"raw file 'a\.tsv' of d is missing") as caught:
        normalise("d", spec, "train", {})
    assert "fewtable data fetch d" in str(caught.value)


def test_counts_are_checked(make: Make) -> None:
    text = "a\tB-person\n\nb\tO\n"
    good = {"train": {"files": ["a.tsv"], "sentences": 2, "entities": 1}}
    spec, raw = make(text, splits=good)
    assert len(normalise("d", spec, "train", raw)) == 2
    few = {"train": {"files": ["a.tsv"], "sentences": 3}}
    fault(make, "splits.train.sentences", "2 sentences in d train, not 3", "fetch", text, splits=few)
    many = {"train": {"files": ["a.tsv"], "entities": 0}}
    fault(make, "splits.train.entities", "1 entities in d train, not 0", "fetch", text, splits=many)


@given(st.lists(st.text(min_size=1), min_size=1), st.floats(0, 1), st.floats(0, 1))
def test_parts_share_out_all_sentences_once(words: list[str], one: float, two: float) -> None:
    cuts = sorted((0.0, one, two, 1.0))
    parts = [HashSplit(low=low, high=high) for low, high in pairwise(cuts)]
    assert sum(in_part(words, part) for part in parts) == 1


def test_a_part_without_sentences_is_an_error(make: Make) -> None:
    splits = {"test": {"files": ["a.tsv"], "part": {"low": 0, "high": 1e-9}}}
    spec, raw = make("a\tO\n\nb\tO\n", splits=splits)
    with pytest.raises(DataError, match="of the 2 sentences of d none falls in the part that is its test") as caught:
        normalise("d", spec, "test", raw)
    assert str(caught.value.where).endswith("d.yaml:splits.test.part") and "widen it" in str(caught.value.fix)


def test_parts_are_by_lower_cased_text_and_fixed(make: Make) -> None:
    half = HashSplit(low=0, high=0.5)
    assert in_part(["Good", "Morning"], half) == in_part(["good", "morning"], half)
    # SHA-256 of "a b" begins c8, of "e" 3f
    assert not in_part(["a", "b"], half) and in_part(["e"], half)
    splits = {
        "train": {"files": ["a.tsv"], "part": {"low": 0.5, "high": 1}},
        "test": {"files": ["a.tsv"], "part": {"low": 0, "high": 0.5}},
    }
    spec, raw = make("a\tO\nb\tO\n\ne\tO\n\nE\tO\n", splits=splits)
    assert [s.words for s in normalise("d", spec, "train", raw)] == [("a", "b")]
    assert [(s.id, s.words) for s in normalise("d", spec, "test", raw)] == [
        ("test-000000", ("e",)),
        ("test-000001", ("E",)),
    ]
