"""Mini-including episodes (Hou et al. 2020; rule of MetaDialog's meta_dataset_generator).

What is counted are BIO tags, O among them, and a shot is a sentence that holds the tag. Sentences are added
until every tag has k, then each sentence that can be spared is taken out with probability ``remove_rate``
(1: the set is minimal). The query is the next q random sentences, entity-free ones among them.

Differences from the released code, on purpose: a tag with fewer than k sentences is asked as often as it
occurs instead of doubling its sentences, and the removal pass looks at every sentence.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from random import Random

from fewtable.corpus import entities_to_tags, restrict
from fewtable.errors import DataError
from fewtable.sampling.pool import Choice, Drawer, Pool, shuffled
from fewtable.specs import SamplerSpec


def prepare(pool: Pool, sampler: SamplerSpec) -> Drawer:
    """Return the drawer of ``mini-including``.

    Raises:
        DataError: no tag occurs in two sentences.
    """
    assert sampler.k is not None and sampler.q is not None
    q, rate = sampler.q, sampler.remove_rate
    tags = [_tags(pool, position) for position in range(len(pool.sentences))]
    buckets = _buckets(pool, tags)
    target = {tag: min(sampler.k, len(holders)) for tag, holders in buckets.items()}
    types = frozenset(tag[2:] for tag in target if tag != "O")
    if not types:
        raise DataError(
            "no entity tag stands in two sentences of the split, so no episode can be drawn",
            fix="draw from another split or dataset",
        )

    def draw(rng: Random) -> Choice:
        kept = _fill(tags, buckets, target, rng)
        reached = _count(tags, kept, target)
        _prune(tags, kept, reached, target, rate, rng)
        query = _query(tags, kept, target, q, rng)
        notes = {"unit": "sentences with the tag", "query": {"sentences": len(query)}}
        return Choice(kept, target=target, counts=reached, most={}, types=types, query=query, notes=notes)

    return draw


def _tags(pool: Pool, position: int) -> frozenset[str]:
    sentence = restrict(pool.sentences[position], pool.types)
    return frozenset(entities_to_tags(sentence.entities, len(sentence.words)))


def _buckets(pool: Pool, tags: list[frozenset[str]]) -> dict[str, list[int]]:
    """Return tag -> the sentences that may stand for it; a tag of one sentence is dropped and bars it."""
    holders: dict[str, list[int]] = {}
    for position, found in enumerate(tags):
        for tag in found:
            holders.setdefault(tag, []).append(position)
    barred = {positions[0] for positions in holders.values() if len(positions) < 2}
    foreign = {p for p, s in enumerate(pool.sentences) if any(e.type not in pool.types for e in s.entities)}
    usable = {
        tag: [p for p in positions if p not in barred and p not in foreign]
        for tag, positions in sorted(holders.items())
    }
    return {tag: positions for tag, positions in usable.items() if positions}


def _fill(tags: list[frozenset[str]], buckets: dict[str, list[int]], target: dict[str, int], rng: Random) -> set[int]:
    kept: set[int] = set()
    reached = dict.fromkeys(target, 0)
    for tag, bucket in buckets.items():
        if reached[tag] >= target[tag]:
            continue
        for position in shuffled(bucket, rng):
            if position in kept:
                continue
            kept.add(position)
            for other in tags[position]:
                reached[other] += 1
            if reached[tag] >= target[tag]:
                break
    return kept


def _prune(
    tags: list[frozenset[str]],
    kept: set[int],
    reached: dict[str, int],
    target: dict[str, int],
    rate: float,
    rng: Random,
) -> None:
    """Take sentences out of ``kept`` whose tags all stay at their targets, in random order."""
    for position in shuffled(sorted(kept), rng):
        if all(reached[tag] > target[tag] for tag in tags[position]) and rng.random() < rate:
            kept.discard(position)
            for tag in tags[position]:
                reached[tag] -= 1


def _count(tags: list[frozenset[str]], kept: Iterable[int], target: dict[str, int]) -> dict[str, int]:
    reached = dict.fromkeys(target, 0)
    for position in kept:
        for tag in tags[position]:
            reached[tag] += 1
    return reached


def _query(tags: list[frozenset[str]], kept: Collection[int], target: dict[str, int], q: int, rng: Random) -> list[int]:
    query: list[int] = []
    for position in shuffled(range(len(tags)), rng):
        if position not in kept and not tags[position].isdisjoint(target):
            query.append(position)
            if len(query) == q:
                break
    return sorted(query)
