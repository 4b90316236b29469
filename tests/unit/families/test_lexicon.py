"""The lexicon: longest match, most frequent type, and a session that writes and reads it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from fewtable.corpus import Entity, Sentence, Task
from fewtable.families import lexicon
from fewtable.families.base import Fit, Job
from fewtable.specs import RunSpec

SUPPORT = (
    Sentence("train-000000", ("In", "New", "York", "and", "York"), (Entity(1, 3, "loc"), Entity(4, 5, "loc"))),
    Sentence("train-000001", ("new", "york", "times"), (Entity(0, 3, "org"),)),
    Sentence("train-000002", ("Jordan", "and", "jordan"), (Entity(0, 1, "per"), Entity(2, 3, "loc"))),
    Sentence("train-000003", ("York",), (Entity(0, 1, "per"),)),
)
TYPES = ("per", "loc", "org")


def test_the_most_frequent_type_wins_and_ties_go_to_the_first_type() -> None:
    entries = lexicon.collect(SUPPORT, TYPES, lower=True)
    assert entries == {("new", "york"): "loc", ("york",): "per", ("new", "york", "times"): "org", ("jordan",): "per"}
    twice = (*SUPPORT, SUPPORT[0])
    assert lexicon.collect(twice, TYPES, lower=True)[("york",)] == "loc"
    assert ("Jordan",) in lexicon.collect(SUPPORT, TYPES, lower=False)


def test_the_longest_entry_is_taken_from_left_to_right() -> None:
    entries = lexicon.collect(SUPPORT, TYPES, lower=True)
    words = ("The", "NEW", "York", "Times", "of", "New", "York", "York")
    assert lexicon.match(words, entries, lower=True) == [(1, 4, "org"), (5, 7, "loc"), (7, 8, "per")]
    assert lexicon.match(words, {}, lower=True) == []


@given(
    words=st.lists(st.sampled_from("abc"), max_size=12),
    keys=st.sets(st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map(tuple)),
)
def test_matches_are_entries_that_do_not_overlap_and_none_is_missed(
    words: list[str], keys: set[tuple[str, ...]]
) -> None:
    found = lexicon.match(words, dict.fromkeys(keys, "loc"), lower=False)
    assert all(tuple(words[e.start : e.end]) in keys for e in found)
    assert all(a.end <= b.start for a, b in pairwise(found))
    covered = {i for e in found for i in range(e.start, e.end)}
    free = [i for i in range(len(words)) if i not in covered]
    assert all((words[i],) not in keys for i in free)


def test_a_session_finds_its_support_again(tmp_path: Path) -> None:
    spec = RunSpec(
        dataset="d", setting="s", method="lexicon", backbone="none", draws=(1,), types={}, family="lexicon",
        format={}, train={}, dtype="float32", code="",
    )  # fmt: skip
    session = lexicon.load(Job(spec, None, 16))
    task = Task(1, TYPES, SUPPORT[:2], SUPPORT[:2])
    session.fit(task, Fit(tmp_path, tmp_path / "c", None, 1, lambda *_, **__: None))
    assert list(session.decode(task, tmp_path)) == [[[1, 3, "loc"], [4, 5, "loc"]], [[0, 3, "org"]]]
