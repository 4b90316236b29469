"""Answers kept inside a language: the tokens that may follow, found by walking the vocabulary beside an automaton.

The automaton reads bytes and the vocabulary is a trie of bytes, so no token boundary can lead out of the language, and
a token that spells part of a character can be chosen. A token is offered only if the shortest way from there to the
end still fits: with a token for every byte, an answer is always whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from fewtable.errors import ConfigError

Tokens = NDArray[np.int64]
Allowed = Callable[[Sequence[int]], Tokens]
"""The tokens that may follow an answer so far, one at least. It is called with an answer as it grows."""
NEEDED = range(0x20, 0x7F)
"""The bytes of printable ASCII, which lists and brackets are written with."""
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


class Language(Protocol):
    """An automaton over bytes without dead ends."""

    @property
    def start(self) -> Hashable:
        """The state before the first byte."""

    def following(self, state: Any) -> Mapping[int, Hashable]:
        """Return byte -> the state after it."""

    def shortest(self, state: Any) -> int:
        """Return the fewest bytes from a state to the end of an answer; 0 where it may end."""


class _Node:
    __slots__ = ("children", "tokens")

    def __init__(self) -> None:
        self.children: dict[int, _Node] = {}
        self.tokens: list[int] = []


class Vocabulary:
    """What each token of a tokenizer spells, as a trie of bytes; special and added tokens are left out.

    Raises:
        ConfigError: there is a byte of ASCII that no token spells alone.
    """

    def __init__(self, tokenizer: Any) -> None:
        plain = _plain_bytes(tokenizer)
        added = set(tokenizer.get_added_vocab().values())
        self.root = _Node()
        for text, token in tokenizer.get_vocab().items():
            if token not in added and (spelled := plain(text)):
                node = self.root
                for byte in spelled:
                    node = node.children.get(byte) or node.children.setdefault(byte, _Node())
                node.tokens.append(token)
        alone = {byte for byte, node in self.root.children.items() if node.tokens}
        self.lost = frozenset(range(0x100)) - alone
        """Bytes that no token spells alone: words with such are not copied."""
        if lost := [byte for byte in NEEDED if byte in self.lost]:
            raise ConfigError(
                f"no token of the tokenizer spells the byte 0x{lost[0]:02x} alone",
                where="decode.copied",
                fix="take a backbone whose tokenizer falls back on bytes, or leave the option out",
            )


_KNOWN: WeakKeyDictionary[Any, Vocabulary] = WeakKeyDictionary()


def vocabulary(tokenizer: Any) -> Vocabulary:
    """Return a tokenizer's vocabulary, made once."""
    if tokenizer not in _KNOWN:
        _KNOWN[tokenizer] = Vocabulary(tokenizer)
    return _KNOWN[tokenizer]


def among(tokens: Sequence[int]) -> Allowed:
    """Return what lets an answer be of some tokens alone, in any order: nothing keeps it whole."""
    offered = np.array(tokens, np.int64)
    return lambda answer: offered


class Paths:
    """The answers of a language, spelled by a vocabulary and ended by the token ``stop``.

    What is found is kept for all answers that take the same ways.
    """

    def __init__(self, vocabulary: Vocabulary, language: Language, stop: int) -> None:
        self._language = language
        self._stop = stop
        self._root = vocabulary.root
        self._known: dict[Hashable, _Offer] = {}

    def constraint(self, limit: int) -> Allowed:
        """Return what keeps one answer of at most ``limit`` tokens in the language.

        Raises:
            ConfigError: the shortest answer may take more tokens.
        """
        state, read = self._language.start, 0
        if self._language.shortest(state) > limit:
            raise ConfigError(
                f"{limit} tokens may not be enough for the shortest answer",
                where="decode.max_new_tokens",
                fix=f"set it to {self._language.shortest(state)} at least",
            )

        def allowed(answer: Sequence[int]) -> Tokens:
            nonlocal state, read
            for token in answer[read:]:
                state = self._offer(state).after[token]
            read = len(answer)
            offer, left = self._offer(state), limit - read - 1
            return offer.tokens if left >= offer.most else offer.tokens[offer.ends <= left]

        return allowed

    def _offer(self, state: Hashable) -> _Offer:
        found = self._known.get(state)
        if found is None:
            after: dict[int, Hashable] = {}
            _walk(self._root, state, self._language, after)
            ends = {token: self._language.shortest(one) for token, one in after.items()}
            if not self._language.shortest(state):
                ends[self._stop] = 0
            tokens = np.array(sorted(ends), np.int64)
            found = _Offer(after, tokens, np.array([ends[t] for t in sorted(ends)], np.int64), max(ends.values()))
            self._known[state] = found
        return found


class _Offer(NamedTuple):
    """The tokens that may follow in a state, were there no limit."""

    after: dict[int, Hashable]
    """Token -> the state after it."""
    tokens: Tokens
    """Rising, so that equal scores are told apart as among all tokens."""
    ends: Tokens
    """Fewest bytes from after each token to the end."""
    most: int
    """The largest of them."""


def _walk(node: _Node, state: Hashable, language: Language, found: dict[int, Hashable]) -> None:
    """Put the tokens below a node, and the state after each, into ``found``."""
    for byte, after in language.following(state).items():
        if child := node.children.get(byte):
            for token in child.tokens:
                found[token] = after
            if child.children:
                _walk(child, after, language, found)


def _plain_bytes(tokenizer: Any) -> Callable[[str], bytes]:
    """Return what gives a token's bytes: byte-level tokens spell them in letters, others are text with a lower bar."""
    if '"ByteLevel"' in json.dumps(json.loads(tokenizer.backend_tokenizer.to_str())["decoder"]):
        printed = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
        hidden = [byte for byte in range(0x100) if byte not in printed]
        letters = {chr(byte): byte for byte in printed} | {chr(0x100 + n): byte for n, byte in enumerate(hidden)}
        return lambda text: bytes(letters[c] for c in text)

    def spelled(text: str) -> bytes:
        if found := _BYTE.fullmatch(text):
            return bytes([int(found[1], 16)])
        return text.replace("\u2581", " ").encode()

    return spelled


class CopiedList:
    """JSON lists of strings, each a run of whole words as the sentence spells them: ``["the fenway park", "thai"]``.

    Args:
        words: the sentence's words.
        glued: indices of words that follow the one before without a space (``Sentence.glued``).
        lead: what stands before the list.
        lost: bytes that cannot be written (``Vocabulary.lost``); words with such are not copied.
    """

    def __init__(
        self, words: Sequence[str], glued: Sequence[int] = (), lead: str = "", lost: frozenset[int] = frozenset()
    ) -> None:
        self.start: Hashable = ("lead", 0)
        self._lead = f"{lead}[".encode()
        self._text = b""
        starts, ends = [], []
        for place, word in enumerate(words):
            self._text += b"" if place in glued or not place else b" "
            starts.append(len(self._text))
            self._text += json.dumps(word, ensure_ascii=False)[1:-1].encode()
            ends.append(len(self._text))
        sizes = {
            start: end - start
            for start, end in zip(starts, ends, strict=True)
            if lost.isdisjoint(self._text[start:end])
        }
        self._starts = frozenset(sizes)
        self._ends = frozenset(ends)
        barred = set(starts) - self._starts
        self._barred = frozenset(ends) & (barred | {start - 1 for start in barred})
        """Ends of words before one that is not copied."""
        self._word = min(sizes.values(), default=0)
        self._left = [0] * (len(self._text) + 1)
        """Bytes to the next end of a word."""
        for place in range(len(self._text) - 1, -1, -1):
            self._left[place] = 0 if place in self._ends else self._left[place + 1] + 1

    def following(self, state: Any) -> Mapping[int, Hashable]:
        """Return byte -> the state after it."""
        phase, at = state
        if phase == "lead":
            after = ("lead", at + 1) if at + 1 < len(self._lead) else ("open", 0)
            return {self._lead[at]: after}
        if phase == "open":
            return {ord("]"): ("done", 0)} | ({ord('"'): ("begun", self._starts)} if self._starts else {})
        if phase == "closed":
            return {ord("]"): ("done", 0), ord(","): ("comma", 0)}
        if phase == "comma":
            return {ord(" "): ("item", 0)}
        if phase == "item":
            return {ord('"'): ("begun", self._starts)}
        if phase == "done":
            return {}
        found: dict[int, Hashable] = {}
        on = [place for place in at if place < len(self._text) and (phase == "begun" or place not in self._barred)]
        for byte in {self._text[place] for place in on}:
            found[byte] = ("within", frozenset(place + 1 for place in on if self._text[place] == byte))
        if phase == "within" and at & self._ends:
            found[ord('"')] = ("closed", 0)
        return found

    def shortest(self, state: Any) -> int:
        """Return the fewest bytes from a state to the end of the list."""
        phase, at = state
        if phase == "lead":
            return len(self._lead) - int(at) + 1
        if phase == "within":
            return 2 + min((self._left[int(place)] for place in at), default=0)
        fixed: dict[str, int] = {"open": 1, "closed": 1, "done": 0, "begun": self._word + 2, "item": self._word + 3}
        return fixed.get(str(phase), self._word + 4)
