"""Greedy "never above k" (methods/fs-09-sampler-greedy-exact-k.md, B2).

As ``greedy``, but a sentence that would push any type above k is passed over. On sparse corpora every type ends
at exactly min(k, mentions there are); where it cannot, the sample is short and its header says of what.
"""

from __future__ import annotations

from fewtable.sampling.greedy import fill
from fewtable.sampling.pool import Choice, Drawer, Pool
from fewtable.specs import SamplerSpec


def prepare(pool: Pool, sampler: SamplerSpec) -> Drawer:
    """Return the drawer of ``capped``."""
    assert sampler.k is not None
    k = sampler.k
    target = pool.targets(k)
    order = pool.rarest_first()
    return lambda rng: Choice(fill(pool, order, target, rng, cap=k), target=pool.named(target))
