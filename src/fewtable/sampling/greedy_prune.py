"""``greedy``, then sentences that can be spared are taken out (methods/01-instructionner.md, few-shot sampling).

The chosen sentences are visited in random order; each goes whose removal leaves every type at its target.
Fewer sentences than ``greedy``, every type still at least at its target, equality only by luck.
"""

from __future__ import annotations

from random import Random

from fewtable.sampling.greedy import fill
from fewtable.sampling.pool import Choice, Drawer, Pool
from fewtable.specs import SamplerSpec


def prepare(pool: Pool, sampler: SamplerSpec) -> Drawer:
    """Return the drawer of ``greedy-prune``."""
    assert sampler.k is not None
    target = pool.targets(sampler.k)
    order = pool.rarest_first()

    def draw(rng: Random) -> Choice:
        chosen = fill(pool, order, target, rng)
        reached = pool.count(chosen)
        kept = set(chosen)
        rng.shuffle(chosen)
        for position in chosen:
            counts = pool.counts[position]
            if all(reached[index] - mentions >= target[index] for index, mentions in counts):
                kept.discard(position)
                for index, mentions in counts:
                    reached[index] -= mentions
        return Choice(kept, target=pool.named(target))

    return draw
