"""k sentences a type (the likely rule behind LightNER's and templateNER's files; methods/fs-09, C).

For each type k sentences that hold it are drawn, and the draws are united: mention counts are at least
min(k, sentences there are) and often far more.
"""

from __future__ import annotations

from random import Random

from fewtable.sampling.pool import Choice, Drawer, Pool
from fewtable.specs import SamplerSpec


def prepare(pool: Pool, sampler: SamplerSpec) -> Drawer:
    """Return the drawer of ``per-type``."""
    assert sampler.k is not None
    k = sampler.k
    target = pool.targets(k)

    def draw(rng: Random) -> Choice:
        chosen: set[int] = set()
        for holders in pool.by_type:
            chosen.update(rng.sample(holders, min(k, len(holders))))
        return Choice(chosen, target=pool.named(target))

    return draw
