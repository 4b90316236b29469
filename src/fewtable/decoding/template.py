"""The best statement of each span, without scoring all of them, and the entities that follow (methods/05, Decoding).

A statement's score is a sum of log-probabilities, none above 0: what is known of it so far is an upper bound.
Statements are scored in the order of their bounds until none that is left can beat the best, so that the result is that
of scoring all. Statements of one start share the pieces of their common words, and those of one span the pieces that
their tails have in common; each is read once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Annotated, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fewtable.corpus import without_overlap
from fewtable.specs import Spec

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

SLOTS = 16384
"""Tokens whose keys and values are kept at once: 1.6 GB of BART-large in float32."""


class Options(Spec):
    """How statements become entities."""

    per_start: bool = False
    """The released code's rule: of all spans with one start only the best statement stays. Else one a span stays."""
    code_cut: bool = False
    """Score up to the type as the released code does, without ``entity .`` and the end."""
    batch_size: Annotated[int, Field(ge=1)] = 8
    """Sentences scored together. No knob: answers change with it in bf16, so it is part of the result."""


# --- entities -------------------------------------------------------------------------------------


class Candidate(NamedTuple):
    """A span of words [start, end), its best statement (0: no entity) and that one's score."""

    start: int
    end: int
    statement: int
    score: float


def resolve(candidates: Sequence[Candidate], per_start: bool) -> list[Candidate]:
    """Return the entities: no negative statement, no overlap, the higher score first.

    Ties: the earlier start, then the longer span.
    """
    ordered = sorted(candidates, key=lambda c: (-c.score, c.start, -c.end))
    if per_start:
        first: dict[int, Candidate] = {}
        for candidate in ordered:
            first.setdefault(candidate.start, candidate)
        ordered = list(first.values())
    return sorted(without_overlap(candidate for candidate in ordered if candidate.statement))


# --- statements -----------------------------------------------------------------------------------


class Tails:
    """The tails of all statements as a tree of tokens; node numbers rise from parent to child.

    Args:
        tails: token ids that follow a span; of each the last is predicted and never read.
    """

    def __init__(self, tails: Sequence[Sequence[int]]) -> None:
        nodes: dict[tuple[int, ...], int] = {}
        for tail in tails:
            for length in range(1, len(tail) + 1):
                nodes.setdefault(tuple(tail[:length]), len(nodes))
        self.longest = max(map(len, tails))
        self.tokens: Ints = np.array([key[-1] for key in nodes])
        self.steps = [[nodes[tuple(tail[:n])] for n in range(1, len(tail) + 1)] for tail in tails]
        """The nodes of each statement."""
        self.children: list[Ints] = [
            np.array([n for key, n in nodes.items() if key[:-1] == parent], dtype=np.int64) for parent in nodes
        ]
        self.first: Ints = np.array([n for key, n in nodes.items() if len(key) == 1])
        """The nodes that can follow a span."""
        self.paths: Floats = np.zeros((len(tails), len(nodes)))
        self.read: Floats = np.zeros((len(tails), len(nodes)))
        """Which nodes must be read to score a statement: all but its last."""
        for row, path in enumerate(self.steps):
            self.paths[row, path] = 1
            self.read[row, path[:-1]] = 1
        self.shared: Ints = np.flatnonzero(self.read.sum(0) > 1)
        """Nodes that more than one statement reads, whose keys and values are kept."""


@dataclass(frozen=True, slots=True)
class Branch:
    """New tokens after tokens that were read before."""

    source: int
    """Which of the sources the tokens are about."""
    past: Sequence[int]
    """Slots of all tokens before."""
    tokens: Sequence[int]
    slots: Sequence[int]
    """Where each new token's keys and values are kept; -1: nowhere."""
    nodes: Sequence[int]
    """For each wanted prediction the index of the new token after which it stands, not falling."""
    wanted: Sequence[int]
    """For each wanted prediction the token whose log-probability is asked."""


Extend = Callable[[Sequence[Branch]], Floats]
"""Reads the branches; returns the log-probabilities wanted, those of all branches in one row."""


class Text(NamedTuple):
    """What the decoder may say of one sentence."""

    words: Sequence[Sequence[int]]
    """Pieces of each word."""
    spans: Sequence[tuple[int, int]]
    """Candidate spans of words, by start, then end."""


class _Chain(NamedTuple):
    """A start's longest span, read once for all spans that begin there."""

    source: int
    tokens: list[int]
    ends: list[int]
    """Number of tokens, the head among them, up to the end of each span."""


def _chains(texts: Sequence[Text], head: Sequence[int]) -> Iterator[_Chain]:
    for source, text in enumerate(texts):
        starts: dict[int, list[int]] = {}
        for start, end in text.spans:
            starts.setdefault(start, []).append(end)
        for start, ends in starts.items():
            pieces = [len(word) for word in text.words[start : ends[-1]]]
            tokens = [*head, *(piece for word in text.words[start : ends[-1]] for piece in word)]
            yield _Chain(source, tokens, [len(head) + sum(pieces[: end - start]) for end in ends])


def _parts(chains: Iterable[_Chain], shared: int) -> Iterator[list[_Chain]]:
    """Cut the chains into parts of at most SLOTS slots, ``shared`` of each span among them."""
    part: list[_Chain] = []
    size = 0
    for chain in chains:
        own = len(chain.tokens) + len(chain.ends) * shared
        if part and size + own > SLOTS:
            yield part
            part, size = [], 0
        part.append(chain)
        size += own
    if part:
        yield part


class Search:
    """The statements of some sentences; ``run`` scores those that can win.

    Statements of different starts share nothing, so they are searched in parts that have the same slots in turn.

    Args:
        texts: the sentences.
        tails: what follows a span; statement 0 is tried first where nothing is known.
        head: tokens that every statement begins with, of which the first is not predicted.
        per_start: look for the best statement of each start, not of each span.
    """

    def __init__(self, texts: Sequence[Text], tails: Tails, head: Sequence[int], per_start: bool) -> None:
        parts = _parts(_chains(texts, head), len(tails.shared))
        self._parts = [_Part(chains, tails, per_start) for chains in parts]
        self._width = len(tails.steps)
        self.capacity = max((part.capacity for part in self._parts), default=0)
        """Number of slots: SLOTS at most, unless a single start needs more."""

    def run(self, extend: Extend) -> Floats:
        """Return the score of each statement (spans, statements); -inf where it cannot be the best."""
        return np.concatenate([np.zeros((0, self._width)), *(part.run(extend) for part in self._parts)])


class _Part:
    """The statements of some chains."""

    def __init__(self, chains: Sequence[_Chain], tails: Tails, per_start: bool) -> None:
        self._tails = tails
        self._chains = chains
        at = [(number, end) for number, chain in enumerate(chains) for end in chain.ends]
        self._at = at
        self._begins = list(accumulate((len(chain.tokens) for chain in chains), initial=0))
        """The first slot of each chain; then the first of the tails."""
        self.capacity = self._begins[-1] + len(at) * len(tails.shared)
        self._rank = {int(node): rank for rank, node in enumerate(tails.shared)}
        size = len(at), len(tails.tokens)
        self._group: Ints = np.array([number for number, _ in at]) if per_start else np.arange(len(at))
        self._prefix: Floats = np.zeros(len(at))
        self._known: Floats = np.zeros(size)
        """Log-probability of each node after each span; 0, the most that it can be, where it is unknown."""
        self._seen: Floats = np.zeros(size)
        """Which nodes were read."""

    def run(self, extend: Extend) -> Floats:
        """Return the scores as ``Search.run`` does."""
        self._read_chains(extend)
        width = 1
        while True:
            bounds = self._prefix[:, None] + self._known @ self._tails.paths.T
            finished = (1 - self._seen) @ self._tails.read.T == 0
            picks = self._pick(bounds, finished, max(width // 2, 1))
            if not picks:
                return np.where(finished, bounds, -np.inf)
            self._read_tails(picks, extend)
            width *= 2

    def _pick(self, bounds: Floats, finished: Flags, width: int) -> list[tuple[int, int]]:
        """Return the (span, statement) pairs to score next: of each span the most promising that can still win.

        More than one of a span only where they read no new token in common.
        """
        best = np.full(len(bounds), -np.inf)
        np.maximum.at(best, self._group, np.where(finished, bounds, -np.inf).max(1))
        able = ~finished & (bounds >= best[self._group][:, None])
        shared = self._tails.shared
        ready = (1 - self._seen[:, shared]) @ self._tails.read[:, shared].T == 0
        order = np.argsort(np.where(able, -bounds, np.inf), axis=1, kind="stable")
        picks = []
        for span in np.flatnonzero(able.any(1)).tolist():
            first, *others = order[span][: int(able[span].sum())].tolist()
            picks.append((span, first))
            picks += [(span, other) for other in others if ready[span, other]][: width - 1]
        return picks

    def _read_chains(self, extend: Extend) -> None:
        tails = self._tails
        first = tails.tokens[tails.first].tolist()
        branches = []
        for begin, chain in zip(self._begins, self._chains, strict=False):
            nodes: list[int] = []
            wanted: list[int] = []
            for place, token in enumerate(chain.tokens):
                if place:
                    nodes.append(place - 1)
                    wanted.append(token)
                if place + 1 in chain.ends:
                    nodes += [place] * len(first)
                    wanted += first
            slots = range(begin, begin + len(chain.tokens))
            branches.append(Branch(chain.source, (), chain.tokens, slots, nodes, wanted))
        values = iter(extend(branches).tolist())
        span = 0
        for chain, branch in zip(self._chains, branches, strict=True):
            total = 0.0
            answers = iter([next(values) for _ in branch.wanted])
            for place in range(len(chain.tokens)):
                if place + 1 in chain.ends:
                    self._prefix[span] = total
                    self._known[span, tails.first] = [next(answers) for _ in first]
                    span += 1
                if place + 1 < len(chain.tokens):
                    total += next(answers)

    def _read_tails(self, picks: Sequence[tuple[int, int]], extend: Extend) -> None:
        tails = self._tails
        branches, places = [], []
        for span, statement in picks:
            number, end = self._at[span]
            chain = self._chains[number]
            path = tails.steps[statement][:-1]
            old = [node for node in path if self._seen[span, node]]
            new = path[len(old) :]
            begin = self._begins[number]
            past = [*range(begin, begin + end), *(self._slot(span, node) for node in old)]
            children = [tails.children[node] for node in new]
            asked = np.concatenate(children)
            nodes = np.repeat(np.arange(len(new)), [len(c) for c in children])
            slots = [self._slot(span, node) for node in new]
            tokens = tails.tokens[new].tolist()
            branches.append(Branch(chain.source, past, tokens, slots, nodes.tolist(), tails.tokens[asked].tolist()))
            places.append((np.full(len(asked), span), asked))
            self._seen[span, new] = 1
        rows, columns = (np.concatenate([place[axis] for place in places]) for axis in (0, 1))
        self._known[rows, columns] = extend(branches)

    def _slot(self, span: int, node: int) -> int:
        rank = self._rank.get(node)
        return -1 if rank is None else self._begins[-1] + span * len(self._rank) + rank
