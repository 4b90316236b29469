"""Episodes that families train on: drawn from a source, or from the support itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Annotated

from pydantic import Field

from fewtable.corpus import Sentence, Task, restrict
from fewtable.files import stable_seed
from fewtable.sampling import episodes, mini_including
from fewtable.sampling.pool import Drawer, Pool
from fewtable.specs import SamplerSpec, Spec
from fewtable.training.episode import Episode


class Shape(Spec):
    """Episodes of a source: N-way k~2k-shot, or mini-including with all types of one domain."""

    ways: Annotated[int, Field(ge=1)] | None = None
    """Types of an episode; None: all types of a domain, and supports that are mini-including (Hou et al. 2020)."""
    shots: Annotated[int, Field(ge=1)]
    query: Annotated[int, Field(ge=1)]
    """Query shots; query sentences where ``ways`` is None."""


Episodes = Callable[[int], Episode]
"""Makes the episode of a number, the same one at every call."""


def leave_one_out(task: Task, sentences: int, seed: int) -> Episodes:
    """Return what makes episodes of some support sentences, each to be asked of the others."""
    size = min(sentences, len(task.support))

    def episode(number: int) -> Episode:
        rng = Random(stable_seed("leave-one-out", seed, number))
        return Episode(task.types, tuple(rng.sample(task.support, size)))

    return episode


def from_source(task: Task, shape: Shape, seed: int) -> Episodes:
    """Return what draws episodes from the support of a task, a whole source. One of a mixture is of one dataset.

    Raises:
        DataError: a dataset of the source has too few types or sentences for the shape.
    """
    domains = [_drawer(own, task.types, shape) for own in _domains(task.support)]

    def episode(number: int) -> Episode:
        rng = Random(stable_seed("episode", seed, number))
        pool, draw = rng.choice(domains) if len(domains) > 1 else domains[0]
        choice = draw(rng)
        types = tuple(sorted(choice.types or pool.types))
        support, query = (
            tuple(restrict(pool.sentences[i], types) for i in sorted(part))
            for part in (choice.support, choice.query or [])
        )
        return Episode(types, support, query)

    return episode


def _domains(sentences: Sequence[Sentence]) -> list[list[Sentence]]:
    """Return the sentences of each dataset of a mixture, or all."""
    found: dict[str, list[Sentence]] = {}
    for sentence in sentences:
        found.setdefault(sentence.source, []).append(sentence)
    return [found[name] for name in sorted(found)]


def _drawer(sentences: Sequence[Sentence], types: Sequence[str], shape: Shape) -> tuple[Pool, Drawer]:
    present = {entity.type for sentence in sentences for entity in sentence.entities}
    pool = Pool(sentences, [name for name in types if name in present])
    if shape.ways is None:
        sampler = SamplerSpec(rule="mini-including", k=shape.shots, q=shape.query)
        return pool, mini_including.prepare(pool, sampler)
    sampler = SamplerSpec(rule="episodes", n_way=shape.ways, k=shape.shots, q=shape.query)
    return pool, episodes.prepare(pool, sampler)
