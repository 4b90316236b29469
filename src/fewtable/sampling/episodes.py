"""N-way k~2k-shot episodes (Ding et al. 2021; rule of Few-NERD's util/fewshotsampler.py).

Types are drawn uniformly. Sentences that hold those types and no other are drawn uniformly and added when no
type rises above 2k and some type of theirs is still below k; the query likewise with q, apart from the support.
The distribution is the released code's. Only the way differs: candidates come from an index by type set, and
where no sentence fits any more (the released code then never ends) the episode starts over.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from random import Random
from typing import Any, NamedTuple

from fewtable.errors import DataError
from fewtable.sampling.band import band_episode
from fewtable.sampling.greedy import overflows
from fewtable.sampling.pool import Choice, Drawer, Pool
from fewtable.specs import SamplerSpec

RESTARTS = 20
"""Dead ends before the integer programme is asked."""
REDRAWS = 1000
"""Type sets tried before giving up."""
PATIENCE = 50
"""Rejections in a row before the sentences that still fit are listed."""


class Group(NamedTuple):
    """Sentences that hold the same types."""

    mask: int
    """Bit t is set when they hold type t."""
    members: list[int]


def prepare(pool: Pool, sampler: SamplerSpec) -> Drawer:
    """Return the drawer of ``episodes``.

    Raises:
        DataError: the split has fewer than n_way types; in a draw, no type set has enough mentions.
    """
    n_way, k, q = sampler.n_way, sampler.k, sampler.q
    assert n_way is not None and k is not None and q is not None
    present = [index for index, total in enumerate(pool.totals) if total]
    if len(present) < n_way:
        raise DataError(
            f"an episode needs {n_way} types, but the split has mentions of {len(present)}",
            fix="use a setting with fewer ways, or another split",
        )
    groups = group_by_types(pool)
    hopeless: set[frozenset[int]] = set()

    def draw(rng: Random) -> Choice:
        for redraws in range(REDRAWS):
            ways = rng.sample(present, n_way)
            # A generator of its own: what other draws have proven hopeless must not shift this draw's numbers.
            attempt = Random(rng.getrandbits(64))
            if (key := frozenset(ways)) in hopeless:
                continue
            if parts := _episode(pool, groups, ways, (k, q), attempt, sampler.time_limit):
                return _choice(pool, ways, parts, (k, q), redraws)
            hopeless.add(key)
        raise DataError(
            f"no {n_way} types of the split have {k} + {q} mentions in sentences of their own",
            fix="lower k or q in the setting's YAML",
        )

    return draw


def group_by_types(pool: Pool) -> list[Group]:
    """Return the candidates grouped by the set of types they hold."""
    members: dict[int, list[int]] = {}
    for position in pool.candidates:
        mask = sum(1 << index for index, _ in pool.counts[position])
        members.setdefault(mask, []).append(position)
    return [Group(mask, found) for mask, found in members.items()]


class _Parts(NamedTuple):
    support: list[int]
    query: list[int]
    notes: dict[str, int | bool]


def _episode(
    pool: Pool, groups: Sequence[Group], ways: Sequence[int], shots: tuple[int, int], rng: Random, limit: int
) -> _Parts | None:
    """Draw support and query for the types ``ways``; None when they cannot be had."""
    outside = ~sum(1 << index for index in ways)
    usable = [group for group in groups if not group.mask & outside]
    for restarts in range(RESTARTS + 1):
        support = fill_band(pool, usable, ways, shots[0], frozenset(), rng)
        query = support and fill_band(pool, usable, ways, shots[1], frozenset(support), rng)
        if support and query:
            return _Parts(support, query, {"restarts": restarts} if restarts else {})
    solved = band_episode(pool, [p for group in usable for p in group.members], ways, shots, rng, limit)
    return solved and _Parts(*solved, {"restarts": RESTARTS, "programme": True})


def fill_band(
    pool: Pool, usable: Sequence[Group], ways: Sequence[int], k: int, taken: frozenset[int], rng: Random
) -> list[int] | None:
    """Draw sentences until each type of ``ways`` has k to 2k mentions; None at a dead end.

    Args:
        pool: the split.
        usable: groups whose sentences hold no type outside ``ways``.
        ways: type indices.
        k: mentions wanted a type.
        taken: positions that must not be drawn.
        rng: the draw's random numbers.
    """
    chosen: set[int] = set()
    reached = [0] * len(pool.types)
    needy = sum(1 << index for index in ways)

    def fits(position: int) -> bool:
        return position not in chosen and position not in taken and not overflows(pool.counts[position], reached, 2 * k)

    while needy:
        live = [group.members for group in usable if group.mask & needy]
        ends = list(accumulate(len(members) for members in live))
        before = needy
        while needy == before:
            position = _uniform(live, ends, fits, rng)
            if position is None:
                return None
            chosen.add(position)
            for index, mentions in pool.counts[position]:
                reached[index] += mentions
                if reached[index] >= k:
                    needy &= ~(1 << index)
    return sorted(chosen)


def _uniform(
    live: Sequence[Sequence[int]], ends: Sequence[int], fits: Callable[[int], bool], rng: Random
) -> int | None:
    """Draw uniformly among the positions in ``live`` that fit; ``ends`` are the running lengths of ``live``."""
    if not live:
        return None
    for _ in range(PATIENCE):
        drawn = rng.randrange(ends[-1])
        group = bisect_right(ends, drawn)
        if fits(position := live[group][drawn - ends[group]]):
            return position
    rest = [position for members in live for position in members if fits(position)]
    return rng.choice(rest) if rest else None


def _choice(pool: Pool, ways: Sequence[int], parts: _Parts, shots: tuple[int, int], redraws: int) -> Choice:
    """Put an episode's header together: counts of its own types alone, support and query."""
    k, q = shots
    names = {index: pool.types[index] for index in sorted(ways)}
    support, query = pool.count(parts.support), pool.count(parts.query)
    notes: dict[str, Any] = {
        "band": [k, 2 * k],
        "query": {
            "band": [q, 2 * q],
            "counts": {name: query[index] for index, name in names.items()},
            "sentences": len(parts.query),
        },
        **parts.notes,
    }
    if redraws:
        notes["redraws"] = redraws
    return Choice(
        parts.support,
        target=dict.fromkeys(names.values(), k),
        most=dict.fromkeys(names.values(), 2 * k),
        counts={name: support[index] for index, name in names.items()},
        types=frozenset(names.values()),
        query=parts.query,
        notes=notes,
    )
