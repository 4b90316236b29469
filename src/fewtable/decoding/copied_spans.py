"""Answers in brackets that name runs of a sentence's words, as an automaton over bytes, from after the first "<<<"."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

OPEN, SHUT = b" <<<", b" >>>"
FAR = 1 << 30
"""No way to the end."""
CONTROL = frozenset(range(0x20))


@dataclass(eq=False, slots=True)
class _Node:
    """A text that begins at a word of the sentence, and where it stands there. Equal texts have one node."""

    starts: tuple[int, ...]
    """Bytes of the sentence at which the text begins."""
    length: int
    children: dict[int, _Node] | None = None
    room: int | None = None
    """How often an answer may name it, if it is one of whole words."""
    ahead: dict[tuple[_Node, ...], int] = field(default_factory=dict)
    """What has been named -> fewest bytes to a text of whole words that still may be."""


class _Inside(NamedTuple):
    """Between brackets: a text that may go on; after the end of one, so many bytes of what shuts it have been read."""

    node: _Node | None
    ended: _Node | None
    """None: nothing is named at all."""
    read: int
    named: tuple[_Node, ...]


class _Outside(NamedTuple):
    """After a bracket: what has been read of what follows. ``named`` is None where nothing else may be."""

    read: bytes
    named: tuple[_Node, ...] | None


class CopiedSpans:
    """Answers ``<<< thai >>> <<< the fenway park >>>``: strings between brackets, each a run of whole words as written.

    No more brackets than words, and no string more often than it may be mentioned. Words that hold white space, control
    characters or ``>>>`` are not copied, nor are runs that would spell ``>>>``.

    Args:
        words: the sentence's words.
        glued: indices of words that follow the one before without a space (``Sentence.glued``).
        close: what ends every answer.
        mentions: a string -> how often an answer may name it: at least once each run of words.
        lost: bytes that cannot be written (``Vocabulary.lost``); words with such are not copied.
    """

    def __init__(
        self,
        words: Sequence[str],
        glued: Sequence[int],
        close: str,
        mentions: Callable[[str], int],
        lost: frozenset[int] = frozenset(),
    ) -> None:
        self._close = close.encode()
        self._mentions = mentions
        self._most = len(words)
        self._text, self._until, self._ends = _laid_out(words, frozenset(glued), lost | CONTROL)
        self._root = _Node(tuple(self._until), 0)
        self._spent: dict[tuple[_Node, ...], frozenset[bytes]] = {}
        """What has been named -> the texts of it that may not be again."""
        self._following: dict[Hashable, Mapping[int, Hashable]] = {}
        self.start: Hashable = _Outside(OPEN, ())

    def following(self, state: Any) -> Mapping[int, Hashable]:
        """Return byte -> the state after it."""
        found = self._following.get(state)
        if found is None:
            found = self._inside(state) if isinstance(state, _Inside) else self._outside(state)
            self._following[state] = found
        return found

    def shortest(self, state: Any) -> int:
        """Return the fewest bytes from a state to the end of the answer."""
        if isinstance(state, _Inside):
            ways = [len(SHUT) - state.read] if state.read else []
            if state.node:
                ways.append(self._ahead(state.node, state.named) + len(SHUT))
            return min(ways) + len(self._close)
        if self._close.startswith(state.read):
            return len(self._close) - len(state.read)
        return len(OPEN) - len(state.read) + 1 + self.shortest(self._begun(state.named))

    def _begun(self, named: tuple[_Node, ...]) -> _Inside:
        """Return the state after an opening bracket and its space; the first pair may stay empty."""
        return _Inside(self._root, None, 0 if named else 1, named)

    def _inside(self, state: _Inside) -> dict[int, Hashable]:
        node, named = state.node, state.named
        found: dict[int, Hashable] = {}
        for byte, child in (self._children(node) if node else {}).items():
            if self._ahead(child, named) < FAR:
                found[byte] = _Inside(child, None, 0, named)
        if state.read:
            byte, read = SHUT[state.read], state.read + 1
            if read == len(SHUT):
                # What is named goes by an order of its own: the ways on do not depend on the order in the answer.
                more = tuple(sorted((*named, state.ended), key=id)) if state.ended else None
                found[byte] = _Outside(b"", more)
            else:
                found[byte] = self._with(found.get(byte), state.ended, read, named)
        if node and self._free(node, named):
            found[SHUT[0]] = self._with(found.get(SHUT[0]), node, 1, named)
        return found

    @staticmethod
    def _with(state: Any, ended: _Node | None, read: int, named: tuple[_Node, ...]) -> _Inside:
        """Return a state in which the text may go on as in ``state``, if there is one, or be shut."""
        return _Inside(state.node if state else None, ended, read, named)

    def _outside(self, state: _Outside) -> dict[int, Hashable]:
        read, named = state
        found: dict[int, Hashable] = {}
        if len(read) < len(self._close) and self._close.startswith(read):
            found[self._close[len(read)]] = _Outside(self._close[: len(read) + 1], named)
        if named is None or not OPEN.startswith(read):
            return found
        if not named or (len(named) < self._most and self._ahead(self._root, named) < FAR):
            if read == OPEN:
                found[ord(" ")] = self._begun(named)
            else:
                found[OPEN[len(read)]] = _Outside(OPEN[: len(read) + 1], named)
        return found

    def _children(self, node: _Node) -> dict[int, _Node]:
        if node.children is None:
            starts: dict[int, list[int]] = {}
            for start in node.starts:
                if start + node.length < self._until[start]:
                    starts.setdefault(self._text[start + node.length], []).append(start)
            node.children = {byte: _Node(tuple(some), node.length + 1) for byte, some in starts.items()}
        return node.children

    def _free(self, node: _Node, named: tuple[_Node, ...]) -> bool:
        """Whether a text is one of whole words that may be named (again)."""
        return node.length > 0 and self._ahead(node, named) == 0

    def _room(self, node: _Node) -> int:
        if node.room is None:
            node.room = self._mentions(self._spelled(node).decode())
        return node.room

    def _spelled(self, node: _Node) -> bytes:
        return self._text[node.starts[0] : node.starts[0] + node.length]

    def _ahead(self, node: _Node, named: tuple[_Node, ...]) -> int:
        """Return the fewest bytes from a text to one of whole words that may be named (again), FAR without one."""
        found = node.ahead.get(named)
        if found is None:
            if named not in self._spent:
                spent = {one for one in named if named.count(one) >= self._room(one)}
                self._spent[named] = frozenset(map(self._spelled, spent))
            ways = (self._way(start, max(node.length, 1), self._spent[named]) for start in node.starts)
            found = node.ahead[named] = min(ways, default=FAR + node.length) - node.length
        return found

    def _way(self, start: int, length: int, spent: frozenset[bytes]) -> int:
        """Return the length of the shortest run from ``start`` of at least ``length`` bytes that is not spent."""
        first = bisect_left(self._ends, start + length)
        for end in self._ends[first : bisect_right(self._ends, self._until[start])]:
            if self._text[start:end] not in spent:
                return end - start
        return FAR + length


def _laid_out(
    words: Sequence[str], glued: frozenset[int], lost: frozenset[int]
) -> tuple[bytes, dict[int, int], list[int]]:
    """Return a sentence's text, byte where a run may begin -> end of the longest one from there, and words' ends."""
    text = b""
    places = []
    for number, word in enumerate(words):
        text += b"" if number in glued or not number else b" "
        places.append((len(text), len(text) + len(word.encode())))
        text += word.encode()
    ends = [end for _, end in places]
    until: dict[int, int] = {}
    last = 0  # end of the words that may follow each other from here
    for word, (start, end) in reversed(list(zip(words, places, strict=True))):
        if word.split() != [word] or not lost.isdisjoint(word.encode()):
            last = 0
            continue
        last = last or end
        shut = text.find(SHUT.strip(), start)
        bound = last if shut < 0 else min(last, shut + 2)
        if bound >= end:
            until[start] = ends[bisect_right(ends, bound) - 1]
    return text, dict(sorted(until.items())), ends
