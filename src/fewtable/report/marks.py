"""Gold and predicted entities of a sentence, laid side by side: what was right, and what kind of error the rest is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from fewtable.corpus import Entity

Kind = Literal["correct", "type", "boundary", "spurious", "missed"]
KINDS: tuple[Kind, ...] = ("correct", "type", "boundary", "spurious", "missed")


class Mark(NamedTuple):
    """A gold entity, a predicted one, or a pair of them."""

    kind: Kind
    gold: Entity | None
    predicted: Entity | None


def align(gold: Iterable[Entity], predicted: Iterable[Entity]) -> list[Mark]:
    """Return the marks of a sentence, sorted by position.

    ``correct``: the same span and type. ``type``: the same span, another type, one to one. ``boundary``: a
    prediction that overlaps a gold entity that is not found (the one it shares most words with, of its own type
    when there is a choice); several may be paired with one. ``spurious``: overlaps none. ``missed``: no prediction is
    paired with it.
    """
    wanted, answers = set(gold), set(predicted)
    marks = [Mark("correct", entity, entity) for entity in wanted & answers]
    open_gold, open_answers = sorted(wanted - answers), sorted(answers - wanted)
    for answer in list(open_answers):
        same = next((g for g in open_gold if (g.start, g.end) == (answer.start, answer.end)), None)
        if same:
            marks.append(Mark("type", same, answer))
            open_gold.remove(same)
            open_answers.remove(answer)
    touched: set[Entity] = set()
    for answer in open_answers:
        near = [g for g in open_gold if _shared(g, answer) > 0]
        if near:
            best = max(near, key=lambda g: (_shared(g, answer), g.type == answer.type, -g.start))
            touched.add(best)
            marks.append(Mark("boundary", best, answer))
        else:
            marks.append(Mark("spurious", None, answer))
    marks += [Mark("missed", entity, None) for entity in open_gold if entity not in touched]
    return sorted(marks, key=_position)


def _shared(a: Entity, b: Entity) -> int:
    return min(a.end, b.end) - max(a.start, b.start)


def _position(mark: Mark) -> tuple[Entity, int]:
    first = mark.gold or mark.predicted
    assert first is not None
    return first, KINDS.index(mark.kind)
