"""Answers kept inside a language: the tokens that may follow, found by walking the vocabulary beside an automaton.

The automaton reads bytes and the vocabulary is a trie of bytes, so no token boundary can lead out of the language, and
a token that spells part of a character can be chosen. A token is offered only if the shortest way from there to the
end still fits: with a token for every byte, an answer is always whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from fewtable.errors import ConfigError

Allowed = Callable[[Sequence[int]], Sequence[int]]
"""The tokens that may follow an answer so far, one at least."""
SPELLED = (*range(0x20, 0xC0), *range(0xC2, 0xF5))
"""The bytes of printable UTF-8."""
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
        ConfigError: there is a byte that no token spells alone.
    """

    def __init__(self, tokenizer: Any) -> None:
        plain = _plain_bytes(tokenizer)
        added = set(tokenizer.get_added_vocab().values())
        self.spelled: dict[int, bytes] = {
            token: plain(text) for text, token in sorted(tokenizer.get_vocab().items()) if token not in added
        }
        self.root = _Node()
        for token, spelled in self.spelled.items():
            node = self.root
            for byte in spelled:
                node = node.children.setdefault(byte, _Node())
            if spelled:
                node.tokens.append(token)
        if lost := [b for b in SPELLED if b not in self.root.children or not self.root.children[b].tokens]:
            raise ConfigError(
                f"no token of the tokenizer spells the byte 0x{lost[0]:02x} alone",
                where="decode.copied",
                fix="take a backbone whose tokenizer falls back on bytes, or leave the option out",
            )

    def constraint(self, language: Language, stop: int, limit: int) -> Allowed:
        """Return what keeps one answer of at most ``limit`` tokens in a language; ``stop`` ends it."""
        states: list[Hashable] = [language.start]

        def allowed(answer: Sequence[int]) -> list[int]:
            for token in answer[len(states) - 1 :]:
                state = states[-1]
                for byte in self.spelled[token]:
                    state = language.following(state)[byte]
                states.append(state)
            state = states[len(answer)]
            ends = [] if language.shortest(state) else [stop]
            return ends + list(_walk(self.root, state, language, limit - len(answer) - 1))

        return allowed


def _walk(node: _Node, state: Hashable, language: Language, left: int) -> Iterator[int]:
    """Yield the tokens below a node after which the shortest end takes at most ``left`` tokens of one byte."""
    for byte, after in language.following(state).items():
        if child := node.children.get(byte):
            if language.shortest(after) <= left:
                yield from child.tokens
            yield from _walk(child, after, language, left)


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
    """

    def __init__(self, words: Sequence[str], glued: Sequence[int] = (), lead: str = "") -> None:
        self.start: Hashable = ("lead", 0)
        self._lead = f"{lead}[".encode()
        self._text = b""
        starts, ends = [], []
        for place, word in enumerate(words):
            self._text += b"" if place in glued or not place else b" "
            starts.append(len(self._text))
            self._text += json.dumps(word, ensure_ascii=False)[1:-1].encode()
            ends.append(len(self._text))
        self._starts = frozenset(starts)
        self._ends = frozenset(ends)
        self._word = min((end - start for start, end in zip(starts, ends, strict=True)), default=0)
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
        for byte in {self._text[place] for place in at if place < len(self._text)}:
            places = (place + 1 for place in at if place < len(self._text) and self._text[place] == byte)
            found[byte] = ("within", frozenset(places))
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
