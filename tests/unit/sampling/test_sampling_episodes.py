"""Episodes and mini-including sets: bands, disjointness, dead ends, minimality."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sampling_corpora import column_file, corpus, mentions, setting

from fewtable.corpus import Entity, Sample, Sentence, entities_to_tags, sentence_id
from fewtable.errors import DataError
from fewtable.sampling import draw, draw_all
from fewtable.sampling.band import band_episode
from fewtable.sampling.episodes import fill_band, group_by_types
from fewtable.sampling.pool import Pool

NAMES = tuple(f"t{i}" for i in range(8))


def mixed(size: int = 600, seed: int = 0) -> list[Sentence]:
    """Mostly one type a sentence, some with two or three, some with none."""
    rng = Random(seed)
    rows = []
    for _ in range(size):
        kinds = rng.sample(NAMES, rng.choice((0, 1, 1, 1, 1, 2, 2, 3)))
        rows.append({kind: rng.choice((1, 1, 1, 2, 3)) for kind in kinds})
    return corpus(rows, "test")


def check_episode(sentences: list[Sentence], sample: Sample, n_way: int, k: int, q: int) -> None:
    assert len(sample.types) == n_way
    assert not set(sample.support) & set(sample.query)
    for part, shots in ((sample.support, k), (sample.query, q)):
        got = mentions(sentences, part)
        assert set(got) == set(sample.types)
        assert all(shots <= n <= 2 * shots for n in got.values())
    assert sample.header["counts"] == dict(mentions(sentences, sample.support))
    assert sample.header["short"] == sample.header["over"] == {}, "up to 2k is no excess"
    assert sample.header["query"]["counts"] == dict(mentions(sentences, sample.query))


def test_a_thousand_episodes_stay_in_the_band() -> None:
    sentences = mixed()
    for n_way, k, q in ((5, 1, 1), (5, 5, 5), (3, 2, 1)):
        spec = setting("episodes", "test", n_way=n_way, k=k, q=q)
        for sample in draw_all(spec, "d", NAMES, sentences, [], range(1, 335)):
            check_episode(sentences, sample, n_way, k, q)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(1, 2), st.integers(1, 2))
def test_episodes_of_random_corpora_are_valid_or_refused(seed: int, n_way: int, k: int, q: int) -> None:
    sentences = mixed(25, seed)
    try:
        sample = draw(setting("episodes", "test", n_way=n_way, k=k, q=q), "d", NAMES, sentences, [], 1)
    except DataError:
        return
    check_episode(sentences, sample, n_way, k, q)


def test_every_type_is_drawn_equally_often() -> None:
    spec = setting("episodes", "test", n_way=4, k=1, q=1)
    seen = Counter(t for s in draw_all(spec, "d", NAMES, mixed(), [], range(1, 801)) for t in s.types)
    assert all(340 < seen[name] < 460 for name in NAMES)  # 400 expected, sd 14


def test_a_dead_end_starts_the_episode_over() -> None:
    # When the support takes both plain a, the query finds an a only beside three b, which break its band of two.
    rows = [{"a": 1, "b": 3}] * 4 + [{"a": 1}] * 2 + [{"b": 1}] * 6
    sentences = corpus(rows, "test")
    spec = setting("episodes", "test", n_way=2, k=2, q=1)
    samples = draw_all(spec, "d", ("a", "b"), sentences, [], range(1, 101))
    for sample in samples:
        check_episode(sentences, sample, 2, 2, 1)
    assert any(sample.header.get("restarts") for sample in samples)


def test_the_programme_finds_what_chance_hardly_does() -> None:
    # a and b only co-occur, 1:3 or 3:1; k=4 needs one of each kind, and the query the other two.
    rows = [{"a": 1, "b": 3}] * 2 + [{"a": 3, "b": 1}] * 2
    pool = Pool(corpus(rows, "test"), ("a", "b"))
    found = band_episode(pool, pool.candidates, [0, 1], (4, 4), Random(1), 60)
    assert found is not None
    for part in found:
        assert pool.count(part) == [4, 4]
    assert not set(found[0]) & set(found[1])
    assert band_episode(pool, pool.candidates, [0, 1], (5, 5), Random(1), 60) is None


def test_a_set_that_cannot_be_finished_is_given_up_at_once() -> None:
    # Each sentence holds one a and three b: k=2 needs two of them, whose six b break the band of four.
    pool = Pool(corpus([{"a": 1, "b": 3}] * 50, "test"), ("a", "b"))
    assert fill_band(pool, group_by_types(pool), [0, 1], 2, frozenset(), Random(1)) is None


def test_types_that_cannot_be_had_are_drawn_again() -> None:
    # c and d come in eights only, which no band of k=1 holds.
    rows = [{"a": 1}, {"b": 1}] * 10 + [{"c": 8}, {"d": 8}] * 10
    spec = setting("episodes", "test", n_way=2, k=1, q=1)
    samples = draw_all(spec, "d", ("a", "b", "c", "d"), corpus(rows, "test"), [], range(1, 21))
    assert {sample.types for sample in samples} == {("a", "b")}
    assert any(sample.header.get("redraws") for sample in samples)


def test_an_impossible_episode_is_an_error() -> None:
    sentences = corpus([{"a": 9}, {"b": 9}] * 3, "test")
    with pytest.raises(DataError, match="no 2 types"):
        draw(setting("episodes", "test", n_way=2, k=1, q=1), "d", ("a", "b"), sentences, [], 1)
    with pytest.raises(DataError, match="needs 3 types"):
        draw(setting("episodes", "test", n_way=3, k=1, q=1), "d", ("a", "b", "c"), sentences, [], 1)


# --- mini-including -----------------------------------------------------------------------------------


def tagged(size: int = 200, seed: int = 0) -> list[Sentence]:
    """Sentences with mentions of one to three words, so that I- tags occur."""
    rng = Random(seed)
    found = []
    for index in range(size):
        words, entities = ["w"], []
        for kind in rng.sample(("a", "b", "c"), rng.randrange(4)):
            length = rng.choice((1, 1, 2, 3))
            entities.append(Entity(len(words), len(words) + length, kind))
            words += [kind] * length + ["."]
        found.append(Sentence(sentence_id("test", index), tuple(words), tuple(entities)))
    return found


def tag_counts(sentences: list[Sentence], ids: tuple[str, ...]) -> Counter[str]:
    index = {s.id: s for s in sentences}
    return Counter(t for i in ids for t in set(entities_to_tags(index[i].entities, len(index[i].words))))


TAGS = ("B-a", "B-b", "B-c", "I-a", "I-b", "I-c", "O")


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("rate", [0.0, 0.79, 1.0])
def test_every_tag_stands_in_k_sentences(k: int, rate: float) -> None:
    sentences = tagged()
    spec = setting("mini-including", "test", k=k, q=20, remove_rate=rate)
    for sample in draw_all(spec, "d", ("a", "b", "c"), sentences, [], range(1, 51)):
        got = tag_counts(sentences, sample.support)
        assert all(got[tag] >= k for tag in TAGS)
        assert sample.header["counts"] == dict(got)
        assert len(sample.query) == 20
        assert not set(sample.query) & set(sample.support)


def test_remove_rate_one_gives_a_minimal_set() -> None:
    sentences = tagged()
    spec = setting("mini-including", "test", k=2, q=5)
    for sample in draw_all(spec, "d", ("a", "b", "c"), sentences, [], range(1, 31)):
        for left_out in sample.support:
            got = tag_counts(sentences, tuple(i for i in sample.support if i != left_out))
            assert any(got[tag] < 2 for tag in TAGS)


def test_a_tag_of_one_sentence_bars_that_sentence_only_from_the_support() -> None:
    sentences = [*tagged(40), Sentence("test-000040", ("x",), (Entity(0, 1, "rare"),))]
    spec = setting("mini-including", "test", k=1, q=40)
    samples = draw_all(spec, "d", ("a", "b", "c", "rare"), sentences, [], range(1, 31))
    assert all("test-000040" not in s.support and "rare" not in s.types for s in samples)
    spec = setting("mini-including", "test", k=1, q=1)
    with pytest.raises(DataError, match="two sentences"):
        draw(spec, "d", ("rare",), sentences[-1:], [], 1)


def test_a_tag_with_fewer_than_k_sentences_is_asked_as_often_as_it_occurs() -> None:
    sentences = corpus([{"a": 1}] * 9 + [{"b": 1}] * 2, "test")
    sample = draw(setting("mini-including", "test", k=5, q=2), "d", ("a", "b"), sentences, [], 1)
    assert sample.header["target"] == {"B-a": 5, "B-b": 2, "O": 5}
    assert len(set(sample.support)) == len(sample.support)


@pytest.mark.shared
def test_few_nerd_episodes_have_the_sizes_of_the_released_sampler(mirror: Path) -> None:
    # methods/fs-10: 4.9 support sentences and 1.30 k mentions a type in 5-way 1-shot on the INTER test split.
    sentences = column_file(mirror / "fewnerd_inter" / "test.txt", "test", 0, 1, "io")
    types = sorted({e.type for s in sentences for e in s.entities})
    spec = setting("episodes", "test", n_way=5, k=1, q=1)
    samples = draw_all(spec, "few-nerd", types, sentences, [], range(1, 301))
    size = sum(len(s.support) for s in samples) / len(samples)
    mean = sum(sum(s.header["counts"].values()) for s in samples) / len(samples) / 5
    assert 4.7 < size < 5.2
    assert 1.25 < mean < 1.36
