"""What every rule draws from: the sentences of a split, indexed by entity type."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

from fewtable.corpus import Sentence
from fewtable.errors import DataError

T = TypeVar("T")

Counts = tuple[tuple[int, int], ...]
"""(type index, mentions) pairs of a sentence, by type index."""


class Pool:
    """A split's sentences in the order of their ids, so that the file's order and the types' order don't matter.

    Rules speak of sentences by their position in ``sentences`` and of types by their position in ``types``.
    Candidates are the sentences that hold at least one mention and none of a type outside ``types``.
    """

    def __init__(self, sentences: Iterable[Sentence], types: Iterable[str]) -> None:
        self.sentences: list[Sentence] = sorted(sentences, key=lambda s: s.id)
        self.types: tuple[str, ...] = tuple(sorted(types))
        number = {name: index for index, name in enumerate(self.types)}
        self.counts: list[Counts] = []
        self.candidates: list[int] = []
        self.by_type: list[list[int]] = [[] for _ in self.types]
        self.totals: list[int] = [0] * len(self.types)
        known: dict[tuple[str, ...], tuple[Counts, bool]] = {}
        for position, sentence in enumerate(self.sentences):
            kinds = tuple([entity.type for entity in sentence.entities])
            if kinds not in known:
                seen = Counter(kinds)
                counts = tuple(sorted((number[name], n) for name, n in seen.items() if name in number))
                known[kinds] = counts, 0 < len(counts) == len(seen)
            counts, usable = known[kinds]
            self.counts.append(counts)
            if not usable:
                continue
            self.candidates.append(position)
            for index, mentions in counts:
                self.by_type[index].append(position)
                self.totals[index] += mentions

    def targets(self, k: int) -> list[int]:
        """Return min(k, mentions there are) a type.

        Raises:
            DataError: a type has no mention at all, so nothing can be learnt of it.
        """
        absent = [name for name, total in zip(self.types, self.totals, strict=True) if not total]
        if absent:
            split = self.sentences[0].split if self.sentences else "empty"
            raise DataError(
                f"no sentence to draw for {len(absent)} of {len(self.types)} types in split '{split}': "
                + ", ".join(absent[:5]),
                fix="take the type out of 'types' in the dataset's YAML and put its tags under 'drop', "
                "or draw the support from another split",
            )
        return [min(k, total) for total in self.totals]

    def rarest_first(self) -> list[int]:
        """Return the type indices by (mentions, name)."""
        return sorted(range(len(self.types)), key=lambda t: (self.totals[t], self.types[t]))

    def count(self, positions: Iterable[int]) -> list[int]:
        """Return the mentions a type in the given sentences."""
        sums = [0] * len(self.types)
        for position in positions:
            for index, mentions in self.counts[position]:
                sums[index] += mentions
        return sums

    def grouped(self, positions: Iterable[int]) -> dict[Counts, list[int]]:
        """Group sentences by identical counts: to a programme over counts they are interchangeable."""
        groups: dict[Counts, list[int]] = {}
        for position in positions:
            groups.setdefault(self.counts[position], []).append(position)
        return groups

    def named(self, values: Sequence[int]) -> dict[str, int]:
        """Return one value a type under the types' names."""
        return dict(zip(self.types, values, strict=True))


@dataclass(frozen=True)
class Choice:
    """What a rule chose, as positions in a pool."""

    support: Iterable[int]
    target: dict[str, int]
    """What the rule aims at: type (or tag) -> number; the keys are what is counted."""
    counts: dict[str, int] | None = None
    """What was reached, where the rule does not count mentions."""
    most: dict[str, int] | None = None
    """What is still no excess, where that is more than the target; empty where nothing is."""
    types: frozenset[str] | None = None
    """The types of the task, where the rule chooses them."""
    query: list[int] | None = None
    """The query sentences, where the rule chooses them."""
    notes: dict[str, Any] = field(default_factory=dict)
    """More for the sample's header."""


Drawer = Callable[[Random], Choice]
"""Makes one draw. A rule module's ``prepare(pool, sampler)`` returns one that serves all draws of a block."""


def shuffled(items: Sequence[T], rng: Random) -> Iterator[T]:
    """Yield ``items`` in a uniformly random order, paying only for those that are taken."""
    rest = list(items)
    for position in range(len(rest)):
        other = rng.randrange(position, len(rest))
        rest[position], rest[other] = rest[other], rest[position]
        yield rest[position]
