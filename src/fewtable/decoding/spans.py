"""Which of many scored spans are answered: no two share a word."""

from __future__ import annotations

from collections.abc import Iterable

from fewtable.corpus import Entity, without_overlap

Scored = tuple[float, Entity]


def _best_first(candidates: Iterable[Scored]) -> list[Scored]:
    return sorted(candidates, key=lambda pair: (-pair[0], pair[1]))


def greedy(candidates: Iterable[Scored]) -> list[Entity]:
    """Return the spans, best first, that share no word with a better one; sorted.

    Ties: the earlier start, then the shorter span, then the type's name.
    """
    return sorted(without_overlap(span for _, span in _best_first(candidates)))


def beam(candidates: Iterable[Scored], width: int = 5) -> list[Entity]:
    """Return the set of spans that a beam search finds, as ESD's code does (methods/fs-05, Decoding); sorted.

    It starts from the best span and adds spans that overlap none. Sets are ranked by their **mean** score, so one long
    span can beat two short ones.

    Args:
        candidates: scored spans.
        width: sets kept at each step.
    """
    ordered = _best_first(candidates)
    sets: dict[frozenset[int], float] = {frozenset([0]): ordered[0][0]} if ordered else {}
    grown = True
    while grown:
        grown = False
        longer: dict[frozenset[int], float] = {}
        for own, total in sets.items():
            fitting = [i for i, (_, span) in enumerate(ordered) if all(_apart(span, ordered[j][1]) for j in own)]
            longer |= {own | {i}: total + ordered[i][0] for i in fitting} or {own: total}
            grown |= bool(fitting)
        ranked = sorted(longer.items(), key=lambda item: (-item[1] / len(item[0]), sorted(item[0])))
        sets = dict(ranked[:width])
    return sorted(ordered[i][1] for i in next(iter(sets), frozenset()))


def _apart(one: Entity, other: Entity) -> bool:
    return one.end <= other.start or other.end <= one.start
