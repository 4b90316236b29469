"""Peers' scorers: equal to what they claim to be, defects included."""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics import f1_score, precision_score, recall_score
from seqeval.scheme import IOB2

from fewtable.corpus import Entity
from fewtable.errors import DataError
from fewtable.formats.base import Dropped
from fewtable.scoring.files import read_scored
from fewtable.scoring.mentions import Counts, count, count_types
from fewtable.scoring.peers import (
    FewNerd,
    Scored,
    chunk_counts,
    fewnerd,
    instructuie,
    instructuie_parse,
    normalise,
    peer_counts,
    uniner,
    uniner_parse,
    uniner_partial,
)
from fewtable.scoring.tags import ChunkRule, tag_mentions

Tags = list[list[str]]
IOB = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-a-b", "I-a-b", "B", "I"]
WIDE = [*IOB, "E-PER", "S-PER", "E-LOC", "S-LOC", "person-actor", "location-other", "PER"]


def tag_pairs(tags: Sequence[str]) -> st.SearchStrategy[tuple[Tags, Tags]]:
    word = st.tuples(st.sampled_from(tags), st.sampled_from(tags))
    corpora = st.lists(st.lists(word, max_size=8), min_size=1, max_size=4)
    return corpora.map(lambda data: ([[g for g, _ in row] for row in data], [[p for _, p in row] for row in data]))


def ours(gold: Tags, pred: Tags, rule: ChunkRule) -> Counts:
    _, left, right = tag_mentions(gold, pred, rule)
    return count(left, right)


def theirs(gold: Tags, pred: Tags, **options: Any) -> tuple[float, ...]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tuple(100 * f(gold, pred, **options) for f in (precision_score, recall_score, f1_score))


@given(tag_pairs(WIDE))
def test_seqeval_default(pair: tuple[Tags, Tags]) -> None:
    counts = ours(*pair, "seqeval-default")
    assert (counts.precision, counts.recall, counts.f1) == pytest.approx(theirs(*pair))


@given(tag_pairs(IOB))
def test_seqeval_strict(pair: tuple[Tags, Tags]) -> None:
    counts = ours(*pair, "seqeval-strict")
    expected = theirs(*pair, mode="strict", scheme=IOB2) if any(map(len, pair[0])) else (0.0, 0.0, 0.0)
    assert (counts.precision, counts.recall, counts.f1) == pytest.approx(expected)


@pytest.mark.shared
@pytest.mark.parametrize("name", ["conll2003/test.txt", "mit_movie/test.bio", "wnut17/test.conll"])
def test_seqeval_on_real_tags(mirror: Path, name: str) -> None:
    """The tags of a corpus against themselves with one in twenty dropped or changed."""
    rng = random.Random(name)
    gold = [list(read.tags or ())[:60] for read in read_scored(mirror / name, None)][:1500]
    if name.startswith("mit_movie"):  # tag first in this corpus' own layout
        gold = [list(read.words or ())[:60] for read in read_scored(mirror / name, None)][:1500]
    known = sorted({tag for tags in gold for tag in tags})
    assert len(known) > 4
    assert all(tag == "O" or tag[1] == "-" for tag in known)
    pred = [[rng.choice(known) if rng.random() < 0.05 else tag for tag in tags] for tags in gold]
    loose, strict = ours(gold, pred, "seqeval-default"), ours(gold, pred, "seqeval-strict")
    assert (loose.precision, loose.recall, loose.f1) == pytest.approx(theirs(gold, pred))
    expected = theirs(gold, pred, mode="strict", scheme=IOB2)
    assert (strict.precision, strict.recall, strict.f1) == pytest.approx(expected)
    assert loose.f1 != pytest.approx(strict.f1)


def conlleval(gold: Tags, pred: Tags) -> tuple[int, int, int]:
    """Return (correct, guessed, wanted) chunks by conlleval's own word-by-word state machine."""

    def split(tag: str) -> tuple[str, str]:
        prefix, _, kind = tag.partition("-")
        return prefix, kind

    def ends(old: tuple[str, str], new: tuple[str, str]) -> bool:
        pairs = {"BB", "BO", "IB", "IO", "EE", "EI", "EO"}
        return old[0] + new[0] in pairs or (old[0] not in "O." and old[1] != new[1])

    def starts(old: tuple[str, str], new: tuple[str, str]) -> bool:
        pairs = {"BB", "IB", "OB", "OI", "EE", "EI", "OE"}
        return old[0] + new[0] in pairs or (new[0] not in "O." and old[1] != new[1])

    correct = guessed = wanted = 0
    inside = False
    last_g = last_p = ("O", "")
    flat = [pair for g, p in zip(gold, pred, strict=True) for pair in (*zip(g, p, strict=True), ("O", "O"))]
    for g, p in ((split(a), split(b)) for a, b in flat):
        g_end, p_end = ends(last_g, g), ends(last_p, p)
        if inside and g_end and p_end and last_g[1] == last_p[1]:
            inside = False
            correct += 1
        elif inside and (g_end != p_end or g[1] != p[1]):
            inside = False
        if starts(last_g, g) and starts(last_p, p) and g[1] == p[1]:
            inside = True
        wanted += starts(last_g, g)
        guessed += starts(last_p, p)
        last_g, last_p = g, p
    return correct, guessed, wanted


@given(tag_pairs(["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-a-b", "I-a-b", "person-actor", "location-other"]))
def test_conlleval(pair: tuple[Tags, Tags]) -> None:
    tp, fp, fn = ours(*pair, "conlleval")
    assert (tp, tp + fp, tp + fn) == conlleval(*pair)


@pytest.mark.parametrize(
    ("gold", "pred", "loose", "strict"),
    [
        ("B-PER I-PER", "I-PER I-PER", 100, 0),
        ("O B-X O", "O I-X O", 100, 0),
        ("B-LOC O", "B-LOC I-PER", 200 / 3, 100),
        ("B-X B-X", "I-X I-X", 0, 0),
        ("O O", "O O", 0, 0),
    ],
)
def test_the_table_where_scorers_differ(gold: str, pred: str, loose: float, strict: float) -> None:
    """methods/fs-12, strict entity micro-F1: the same tags under three names."""
    tags = [gold.split()], [pred.split()]
    assert ours(*tags, "conlleval").f1 == pytest.approx(loose)
    assert ours(*tags, "seqeval-default").f1 == pytest.approx(loose)
    assert ours(*tags, "seqeval-strict").f1 == pytest.approx(strict)


def test_bare_tags_collapse_types_as_in_seqeval() -> None:
    gold, pred = [["location-other", "O"]], [["organization-other", "O"]]
    frame, left, right = tag_mentions(gold, pred, "seqeval-default")
    assert count_types(frame, left, right) == {"other": (1, 0, 0)}
    with pytest.raises(DataError, match="not IOB2"):
        ours(gold, pred, "seqeval-strict")


def test_shapes_must_agree() -> None:
    with pytest.raises(DataError, match="1 and 2 sentences"):
        ours([["O"]], [["O"], ["O"]], "conlleval")


@pytest.mark.parametrize(
    ("answer", "items"),
    [
        ('["a]b"]', []),
        ('["The Who"]', ["who"]),
        (' ["x"]', []),
        ('Sure: ["x"]', []),
        ('["Bob", "bob."]', ["bob"]),
        ('["x"] and more', ["x"]),
        ('[["Per", "The Bob"]]', []),
        ('[{"a": 1}', []),
        ('[{"a": 1}]', []),
        ("[1]", []),
        ("", []),
        ('[""]', [""]),
    ],
)
def test_uniner_parser(answer: str, items: list[str]) -> None:
    """notes/peers §3: read up to the first bracket, leading text empties, articles and repeats go."""
    assert uniner_parse(answer) == items


def test_uniner_normaliser() -> None:
    assert normalise("The  Fenway-Park, a theatre!") == "fenwaypark theatre"


def scored(words: str, gold: list[tuple[int, int, str]], pred: list[tuple[int, int, str]]) -> Scored:
    return Scored(words.split(" "), [Entity(*e) for e in gold], [Entity(*e) for e in pred])


def test_uniner_is_not_strict_in_positions() -> None:
    row = scored("near the park near the park", [(1, 3, "L"), (4, 6, "L")], [(2, 3, "L")])
    assert uniner([row]) == (1, 0, 0)
    bracket = scored("a]b c", [(0, 1, "L"), (1, 2, "L")], [(0, 1, "L")])
    assert uniner([bracket]) == (0, 0, 0)
    other = scored("bob", [(0, 1, "P")], [(0, 1, "L")])
    assert uniner([other]) == (0, 1, 1)


def test_uniner_partial_counts_a_shared_word_as_half() -> None:
    row = scored("new york city hall", [(0, 2, "L"), (2, 4, "L")], [(0, 3, "L"), (3, 4, "L")])
    assert uniner([row]) == (0, 2, 2)
    assert uniner_partial([row]) == (1.0, 1.0, 1.0)


def test_strings_that_the_passage_has_not_are_false_positives_of_string_scorers() -> None:
    """Bob is right, "New Yorkers" shares no normalised word with gold, "york city" one; a repeat adds nothing."""
    dropped = (
        Dropped("unmatched", "New Yorkers", "L"), Dropped("unmatched", "the York City", "L"),
        Dropped("surplus", "bob", "P"), Dropped("unmatched", "of no type"), Dropped("unknown-type", "who: bob"),
    )  # fmt: skip
    row = scored("bob in new york", [(0, 1, "P"), (2, 4, "L")], [(0, 1, "P")])._replace(dropped=dropped)
    assert uniner([row]) == (1, 2, 1)
    assert uniner_partial([row]) == (1.5, 1.5, 0.5)
    assert instructuie([row], none_bug=False) == (1, 3, 1)
    twin = scored("U.S. team", [(0, 1, "L")], [])._replace(dropped=(Dropped("unmatched", "U.S", "L"),))
    assert uniner([twin]) == (1, 0, 0)


@pytest.mark.parametrize(
    ("answer", "counts"),
    [
        ('["Bo"]', (1, 0, 0)),
        (' ["the bo", "Bo"]', (1, 0, 0)),
        ('["Al", "Bo"] and so on', (1, 1, 0)),
        ('ASSISTANT: ["Al"] ASSISTANT: ["Bo"]', (1, 0, 0)),
        ('Sure: ["Bo"]', (0, 0, 1)),
        ("['Bo']", (0, 0, 1)),
        ('["Bo", 3]', (0, 0, 1)),
        ('["Bo", "a]b"]', (0, 0, 1)),
        ("", (0, 0, 1)),
    ],
)
def test_uniner_reads_raw_answers_as_released(answer: str, counts: tuple[int, int, int]) -> None:
    """methods/11, parsing: what our own reader finds in the answer does not count."""
    row = scored("Bo left", [(0, 1, "P")], [(0, 1, "P")])._replace(answers={"P": answer, "L": "['left']"})
    assert uniner([row]) == uniner_partial([row]) == counts


def test_instructuie_counts_none_as_an_entity() -> None:
    """notes/peers §3: nine empty sentences and one wrong one give 0.90; mended, 0."""
    rows = [scored("x", [], [])] * 9 + [scored("a b", [(0, 1, "P")], [(1, 2, "P")])]
    assert instructuie(rows).f1 == pytest.approx(90.0)
    assert instructuie(rows, none_bug=False).f1 == 0.0


def test_instructuie_text() -> None:
    assert instructuie_parse("Location :  New {York}..;; ") == {"located:new york.", ""}
    twice = scored("bob met bob", [(0, 1, "P"), (2, 3, "P")], [(0, 1, "P")])
    assert instructuie([twice]) == (1, 0, 0)
    semicolon = scored("a;b", [(0, 1, "P")], [(0, 1, "P")])
    assert instructuie([semicolon]) == (2, 0, 0)


def test_fewnerd_merges_over_sentence_ends() -> None:
    rows = [scored("a b", [(1, 2, "p-x")], [(1, 2, "p-x")]), scored("c d", [(0, 1, "p-x")], [])]
    assert fewnerd(rows)[:3] == (0, 1, 1)
    assert chunk_counts(rows, "conlleval") == (1, 0, 1)


def test_fewnerd_error_rates() -> None:
    gold = [(0, 1, "p-x"), (2, 3, "p-x"), (4, 5, "l-z")]
    pred = [(0, 1, "p-y"), (2, 3, "l-z"), (6, 7, "p-x")]
    result = fewnerd([scored("a b c d e f g h", gold, pred)])
    assert result == FewNerd(tp=0, fp=3, fn=3, words=8, fp_words=1, fn_words=1, spans=2, within=1, outer=1)
    assert result.rates() == pytest.approx({"fp": 12.5, "fn": 12.5, "within": 50, "outer": 50}, rel=1e-5)


@given(st.lists(tag_pairs(["O", "p-x", "p-y", "l-z"]), min_size=1, max_size=2))
def test_fewnerd_is_runs_over_the_flat_text(pairs: list[tuple[Tags, Tags]]) -> None:
    gold = [tags for pair in pairs for tags in pair[0]]
    pred = [tags for pair in pairs for tags in pair[1]]
    flat = [tag for tags in gold for tag in tags], [tag for tags in pred for tag in tags]
    left, right = (runs(tags) for tags in flat)
    rows = [
        Scored(["w"] * len(g), [Entity(i, j, t) for i, j, t in runs(g)], [Entity(i, j, t) for i, j, t in runs(p)])
        for g, p in zip(gold, pred, strict=True)
    ]
    assert fewnerd(rows)[:3] == (len(left & right), len(right - left), len(left - right))


def runs(tags: Sequence[str]) -> set[tuple[int, int, str]]:
    found, start = set(), 0
    for i in range(1, len(tags) + 1):
        if i == len(tags) or tags[i] != tags[start]:
            if tags[start] != "O":
                found.add((start, i, tags[start]))
            start = i
    return found


def test_nested_entities_are_flattened_for_tag_scorers() -> None:
    row = scored("a b c", [(0, 3, "X"), (0, 1, "Y")], [(0, 3, "X"), (1, 2, "Y")])
    assert chunk_counts([row], "seqeval-strict") == (1, 0, 0)
    assert fewnerd([row])[:3] == (1, 0, 0)


def test_unknown_peer() -> None:
    with pytest.raises(DataError, match="unknown scorer 'muc'"):
        peer_counts([], "muc")


def test_parser_reads_what_json_writes() -> None:
    assert uniner_parse(json.dumps(['say "hi"', "naïve\u2028x"])) == ["say hi", "naïve x"]
