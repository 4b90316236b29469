"""Greedy "at least k" (Yang & Katiyar 2020, Algorithm 1).

Types from the rarest on: while a type has fewer than k mentions, a random sentence that holds it is added whole.
Every type reaches min(k, mentions there are); frequent types overshoot. The paper leaves the order of equally
rare types open: here by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from fewtable.sampling.pool import Choice, Counts, Drawer, Pool, shuffled
from fewtable.specs import SamplerSpec


def prepare(pool: Pool, sampler: SamplerSpec) -> Drawer:
    """Return the drawer of ``greedy``."""
    assert sampler.k is not None
    target = pool.targets(sampler.k)
    order = pool.rarest_first()
    return lambda rng: Choice(fill(pool, order, target, rng), target=pool.named(target))


def fill(pool: Pool, order: Sequence[int], target: Sequence[int], rng: Random, cap: int | None = None) -> list[int]:
    """Add random sentences until each type, in ``order``, has its target or no sentence is left that fits.

    Args:
        pool: where to draw from.
        order: type indices.
        target: mentions wanted, a type.
        rng: the draw's random numbers.
        cap: no type may get more mentions than this.
    """
    chosen: dict[int, None] = {}
    reached = [0] * len(target)
    for kind in order:
        if reached[kind] >= target[kind]:
            continue
        for position in shuffled(pool.by_type[kind], rng):
            counts = pool.counts[position]
            if position in chosen or (cap is not None and overflows(counts, reached, cap)):
                continue
            chosen[position] = None
            for index, mentions in counts:
                reached[index] += mentions
            if reached[kind] >= target[kind]:
                break
    return list(chosen)


def overflows(counts: Counts, reached: Sequence[int], cap: int) -> bool:
    """Say whether adding a sentence pushes any type above ``cap`` mentions."""
    return any(reached[index] + mentions > cap for index, mentions in counts)
