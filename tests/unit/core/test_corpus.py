"""Tags and entities convert both ways; files round-trip; samples become tasks."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewtable.corpus import (
    Entity,
    Sample,
    Scheme,
    Sentence,
    build_tasks,
    drop_overlaps,
    entities_to_tags,
    read_samples,
    read_sentences,
    restrict,
    sentence_id,
    tags_to_entities,
    write_samples,
    write_sentences,
)
from fewtable.errors import DataError

E = Entity


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"draw": 2, "types": []}', "not a sample: KeyError('support')"),
        (b"[1]", "not a sample"),
        (b'{"draw": "x", "types": [], "support": [], "query": [], "header": {}}', "not a sample"),
        (b'{"draw": 1', "not JSON"),
        (b'"\xfc"', "not UTF-8"),
    ],
)
def test_a_malformed_sample_names_its_line(tmp_path: Path, line: bytes, said: str) -> None:
    path = tmp_path / "1-2.jsonl"
    write_samples(path, [Sample(1, ("a",), ("train-000000",), (), {})])
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(DataError) as caught:
        read_samples(path)
    assert said in str(caught.value) and f"{path}:2" in str(caught.value)


@st.composite
def flat(draw: st.DrawFn) -> tuple[int, list[Entity]]:
    length = draw(st.integers(0, 12))
    spans = st.tuples(st.integers(0, 11), st.integers(1, 12), st.sampled_from(["a", "b-c"]))
    entities = [E(s, e, t) for s, e, t in draw(st.lists(spans, max_size=6)) if s < e <= length]
    return length, sorted(drop_overlaps(entities))


@given(flat(), st.sampled_from(["iob2", "iob2-strict", "iob1", "bioes"]))
def test_flat_entities_survive_tags(case: tuple[int, list[Entity]], scheme: Scheme) -> None:
    length, entities = case
    assert list(tags_to_entities(entities_to_tags(entities, length, scheme), scheme)) == entities


@given(flat())
def test_io_merges_neighbours_of_a_type_only(case: tuple[int, list[Entity]]) -> None:
    length, entities = case
    back = list(tags_to_entities(entities_to_tags(entities, length, "io"), "io"))
    merged = any(a.end == b.start and a.type == b.type for a, b in pairwise(entities))
    assert (back == entities) != merged


@given(st.lists(st.sampled_from(["O", "B-a", "I-a", "E-a", "S-a", "B-b", "I-b"])), st.sampled_from(["iob2", "bioes"]))
def test_any_tags_give_flat_entities_inside(tags: list[str], scheme: Scheme) -> None:
    found = tags_to_entities(tags, scheme)
    assert all(0 <= e.start < e.end <= len(tags) for e in found)
    assert sorted(found) == sorted(drop_overlaps(found))


def test_conlleval_repair() -> None:
    tags = ["O", "I-a", "I-a", "I-b", "B-b", "I-a"]
    assert tags_to_entities(tags) == (E(1, 3, "a"), E(3, 4, "b"), E(4, 5, "b"), E(5, 6, "a"))
    assert tags_to_entities(tags, "iob2-strict") == (E(4, 5, "b"),)


def test_longer_entities_win_overlaps() -> None:
    assert sorted(drop_overlaps([E(0, 1, "a"), E(0, 3, "b"), E(3, 4, "a")])) == [E(0, 3, "b"), E(3, 4, "a")]


def test_sentence_files_round_trip(tmp_path: Path) -> None:
    sentences = [Sentence("test-000000", ("a", "\u2028", "😀"), (E(0, 2, "x"),)), Sentence("test-000001", ())]
    write_sentences(tmp_path / "s.jsonl", sentences)
    assert read_sentences(tmp_path / "s.jsonl") == sentences


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r":2: not JSON"),
        ('{"id": "x"}', r":2: not a sentence"),
        ('{"id": "x", "words": ["a"], "entities": [[0, 2, "t"]]}', r":2: entity \[0, 2, 't'\] lies outside"),
    ],
)
def test_malformed_sentences_name_the_line(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text('{"id": "a-000000", "words": [], "entities": []}\n' + line + "\n")
    with pytest.raises(DataError, match=message):
        read_sentences(path)


def test_tasks_hold_only_their_types(tmp_path: Path) -> None:
    train = Sentence(sentence_id("train", 0), ("a", "b"), (E(0, 1, "x"), E(1, 2, "y")))
    test = Sentence(sentence_id("test", 0), ("c",), (E(0, 1, "x"),))
    write_sentences(tmp_path / "train.jsonl", [train])
    write_sentences(tmp_path / "test.jsonl", [test])
    sample = Sample(1, ("y",), (train.id,), (test.id,), {"rule": "all"})
    write_samples(tmp_path / "b.jsonl", [sample])
    assert read_samples(tmp_path / "b.jsonl") == [sample]
    files = {name: tmp_path / f"{name}.jsonl" for name in ("train", "test")}
    task = build_tasks([sample], files)[0]
    assert task.support == (restrict(train, ["y"]),)
    assert task.query[0].entities == ()
    assert train.split == "train"


def test_a_sample_of_other_data_is_refused(tmp_path: Path) -> None:
    write_sentences(tmp_path / "train.jsonl", [])
    with pytest.raises(DataError, match="does not have"):
        build_tasks([Sample(1, (), ("train-000009",), ())], {"train": tmp_path / "train.jsonl"})
    with pytest.raises(DataError, match="names split 'dev'"):
        build_tasks([Sample(1, (), ("dev-000009",), ())], {"train": tmp_path / "train.jsonl"})
