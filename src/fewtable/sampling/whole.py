"""The rules without chance: ``all`` takes every sentence of the split, ``none`` no sentence."""

from __future__ import annotations

from fewtable.sampling.pool import Choice, Drawer, Pool
from fewtable.specs import SamplerSpec


def prepare(pool: Pool, sampler: SamplerSpec) -> Drawer:
    """Return the drawer of ``all`` or ``none``."""
    if sampler.rule == "none":
        return lambda _: Choice((), target={})
    everything = range(len(pool.sentences))
    return lambda _: Choice(everything, target=pool.named(pool.count(everything)))
