"""Answers in brackets held to the sentence: whatever a model would rather say, all of it is read and none dropped."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_constrained import TOKENIZERS, VOCABULARIES

from fewtable.corpus import Entity, EntityType, Sentence, split_words
from fewtable.decoding.constrained import CopiedList, Paths
from fewtable.decoding.copied_spans import CopiedSpans
from fewtable.decoding.greedy import _Batch
from fewtable.formats._surfaces import mentions
from fewtable.formats.brackets import FORMAT, Options

ODD = [
    "a",
    "ab",
    "A",
    ">",
    ">>",
    ">>>",
    "<<<",
    "a>>>b",
    "é",
    "日",
    "本",
    "🍜",
    "👩‍🍳",
    "a\u00a0b",
    "\u2003",
    "\n",
    "{",
    "i",
]
WORDS = st.lists(st.sampled_from(ODD) | st.text(min_size=1, max_size=3), min_size=0, max_size=7)
GLUED = st.sets(st.integers(1, 6))
WORDINGS = st.sampled_from(["obp", "cllmfs"])


def sentence(words: list[str], glued: set[int]) -> Sentence:
    kept = [w for w in words if not any(0xD800 <= ord(c) < 0xE000 for c in w)]
    return Sentence("x-0", tuple(kept), (), tuple(sorted(i for i in glued if i < len(kept))))


def form(wording: str = "obp") -> Any:
    return FORMAT([EntityType("t", "thing", "")], Options.model_validate({"wording": wording}))


def language(made: Sentence, close: str = "") -> CopiedSpans:
    return CopiedSpans(made.words, made.glued, close, lambda text: len(mentions(made.words, text)))


def written(paths: Paths, name: str, limit: int, choice: Any) -> str:
    """An answer whose tokens ``choice`` takes among those offered."""
    allowed, ids = paths.constraint(limit), []
    stop = TOKENIZERS[name].eos_token_id
    while len(ids) < limit:
        offered = allowed(ids)
        assert len(offered) and (np.diff(offered) > 0).all()
        token = int(choice(offered))
        if token == stop:
            break
        ids.append(token)
    return str(TOKENIZERS[name].decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


@settings(max_examples=300, deadline=None)
@given(WORDS, GLUED, WORDINGS, st.sampled_from(list(TOKENIZERS)), st.integers(13, 90), st.randoms())
def test_any_model_names_runs_of_words_and_all_are_read(
    words: list[str], glued: set[int], wording: str, name: str, limit: int, random: Any
) -> None:
    made, own = sentence(words, glued), form(wording)
    paths = Paths(VOCABULARIES[name], language(made, own.close), TOKENIZERS[name].eos_token_id)
    for eager in (0.0, 0.9):  # the second would rather not end

        def choice(offered: Any, eager: float = eager) -> int:
            kept = offered[offered != TOKENIZERS[name].eos_token_id]
            return random.choice((kept if len(kept) and random.random() < eager else offered).tolist())

        answer = written(paths, name, limit, choice)
        read = own.parse(made.words, [own.lead + answer])
        assert not read.dropped, answer
        named = answer.count(" >>>") - (answer == " >>>" + own.close)
        assert len(read.entities) == named <= len(made.words) and answer.endswith(" >>>" + own.close)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from(["a", "ab", "b", "é", "日", "<<", ">"]), min_size=1, max_size=6),
    GLUED,
    WORDINGS,
    st.data(),
)
def test_every_answer_to_an_entity_list_can_be_written_and_the_way_to_the_end_is_as_long_as_said(
    words: list[str], glued: set[int], wording: str, data: Any
) -> None:
    made, own = sentence(words, glued), form(wording)
    size = len(words)
    spans = [(i, j) for i in range(size) for j in range(i + 1, size + 1) if ">>>" not in made.surface(i, j)]
    chosen = data.draw(st.lists(st.sampled_from(spans), max_size=min(3, size), unique=True))
    surfaces = [made.surface(*span) for span in chosen]
    if any(surfaces.count(s) > len(mentions(made.words, s)) for s in surfaces):
        return  # overlapping ones of one text
    automaton: Any = language(made, own.close)
    state = automaton.start
    for byte in own.answer(surfaces).removeprefix(own.lead).encode():
        edge, steps = {state}, 0
        while all(automaton.shortest(one) for one in edge):
            edge, steps = {after for one in edge for after in automaton.following(one).values()}, steps + 1
        assert steps == automaton.shortest(state)
        state = automaton.following(state)[byte]
    assert automaton.shortest(state) == 0


def test_a_string_is_named_as_often_as_it_stands_there_and_words_bound_the_brackets() -> None:
    made = Sentence("x-0", ("a", "b", "a"))

    def accepts(answer: str) -> bool:
        automaton: Any = language(made)
        state = automaton.start
        for byte in answer.encode():
            state = automaton.following(state).get(byte)
            if state is None:
                return False
        return bool(automaton.shortest(state) == 0)

    assert accepts(" >>>") and not accepts(" >>> <<< a >>>") and not accepts(" ")
    assert accepts(" a >>> <<< a >>> <<< b >>>") and not accepts(" a >>> <<< a >>> <<< a >>>")
    assert accepts(" a b >>> <<< a >>> <<< b a >>>") and not accepts(" b >>> <<< b >>>")
    assert not accepts(" a >>> <<< b >>> <<< a >>> <<< a b >>>")  # four brackets, three words
    assert not accepts(" a  b >>>") and not accepts(" ab >>>") and not accepts(" a >>> <<< >>>")


def test_raw_text_is_copied_as_it_is_written() -> None:
    words, glued = split_words("AC/DC (日本) rocks")
    made = Sentence("x-0", words, (Entity(0, 3, "t"), Entity(4, 5, "t")), glued)
    own = form()
    (example,) = own.render(made)
    assert example.target == own.lead + " AC/DC >>> <<< 日本 >>>"
    read = own.parse(made.words, [example.target])
    assert read.entities == made.entities and not read.dropped
    state: Any = (automaton := language(made)).start
    for byte in example.target.removeprefix(own.lead).encode():
        state = automaton.following(state)[byte]
    assert automaton.shortest(state) == 0


def test_tokens_across_borders_are_offered_and_no_others() -> None:
    tokenizer = TOKENIZERS["fallback"]
    paths = Paths(VOCABULARIES["fallback"], language(Sentence("x-0", ("ab", "é"))), tokenizer.eos_token_id)
    allowed, ids = paths.constraint(99), tokenizer.get_vocab()

    def offered(*tokens: str) -> set[str]:
        return set(tokenizer.convert_ids_to_tokens(allowed([ids[t] for t in tokens]).tolist()))

    bar = "\u2581"
    assert offered() == {bar, "<0x20>"}
    assert offered(bar) == {"a", "ab", "é", ">", "<0x61>", "<0xC3>", "<0x3E>"}
    assert offered(bar, "ab") == {bar, "<0x20>"}
    assert offered(bar, "ab", bar) == {"é", ">", "<0xC3>", "<0x3E>"}
    assert offered(bar, "ab", bar, ">", ">", ">") == {"</s>", bar, "<0x20>"}


def test_a_long_word_needs_no_deep_search() -> None:
    long = "x" * 5000
    made = Sentence("x-0", (long, "a", long))
    automaton: Any = language(made)
    state = automaton.start
    for byte in f" {long} >>> <<< {long} >>> <<< ".encode():
        state = automaton.following(state)[byte]
    assert set(automaton.following(state)) == set(b"xa") and automaton.shortest(state) == 5


def test_the_best_of_what_is_offered_is_taken_for_all_rows_at_once() -> None:
    torch.manual_seed(3)
    offered = [np.array([4, 9]), np.array([7]), np.array([0, 5, 8, 11])]
    scores = torch.randn(3, 20)
    batch = _Batch(None, [], 1, 0, (), [lambda answer, own=own: own for own in offered])
    expected = [int(own[int(scores[row, own].argmax())]) for row, own in enumerate(offered)]
    assert batch._best(scores, [[], [], []], [0, 1, 2]) == expected


@pytest.mark.parametrize("listed", [True, False])
@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["a", "é", "日", "b"]), min_size=1, max_size=5), GLUED, st.randoms())
def test_words_that_no_tokens_spell_are_not_copied(
    listed: bool, words: list[str], glued: set[int], random: Any
) -> None:
    made, lost = sentence(words, glued), frozenset("é".encode())
    automaton = (
        CopiedList(made.words, made.glued, "", lost)
        if listed
        else CopiedSpans(made.words, made.glued, "", lambda text: len(mentions(made.words, text)), lost)
    )
    paths, stop = Paths(VOCABULARIES["bytes"], automaton, 1), 1
    answer = written(paths, "bytes", 60, lambda offered: random.choice(offered[offered != stop].tolist() or [stop]))
    assert not set(answer.encode()) & lost
    copied = [i for i, word in enumerate(made.words) if word != "é"]
    state: Any = automaton.start
    for byte in "[" if listed else " ":
        state = automaton.following(state)[ord(byte)]
    if listed and copied:
        state = automaton.following(state)[ord('"')]
    begun = set(automaton.following(state)) - set(b">]")
    assert begun == {made.words[i].encode()[0] for i in copied}
