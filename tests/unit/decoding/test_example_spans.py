"""Example-based NER's spans: threshold and length, no overlap, windows put together, types that nothing is known of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from fewtable.corpus import Entity
from fewtable.decoding.example import answer, spans
from fewtable.training.encoder import Window

WINDOW = Window((), (), (0, 1, 3, 4))  # the third word has no piece


class Fixed:
    """What ``answer`` asks: given probabilities, the last window's first."""

    def __init__(self, names: Sequence[str], likely: Sequence[Any]) -> None:
        self.names = list(names)
        self._likely = [torch.tensor(part) for part in likely]

    def probabilities(self, windows: Sequence[Window]) -> Iterator[tuple[int, torch.Tensor]]:
        yield from reversed(list(enumerate(self._likely)))


def answers(known: Any, sentences: Sequence[Sequence[Window]], threshold: float) -> list[list[Entity]]:
    return list(answer(known, sentences, threshold, longest=4))


def test_spans_reach_the_threshold_and_are_not_too_long() -> None:
    likely = torch.tensor([[[0.9, 0.1, 0.0, 0.0]], [[0.1, 0.0, 0.8, 0.1]]])
    found = spans(likely, WINDOW, ["x"], threshold=0.45, longest=4)
    assert [(round(s, 3), e) for s, e in found] == [
        (0.5, Entity(0, 1, "x")), (0.45, Entity(0, 2, "x")), (0.85, Entity(0, 4, "x")), (0.45, Entity(1, 4, "x")),
    ]  # fmt: skip
    assert [e for _, e in spans(likely, WINDOW, ["x"], 0.46, 3)] == [Entity(0, 1, "x")]


def test_of_overlapping_spans_the_higher_score_stays() -> None:
    """The third best overlaps the best, not the last one taken (the re-implementation looks at that alone)."""
    words = Window((), (), tuple(range(8)))
    starts, ends = torch.zeros(2, 8), torch.zeros(2, 8)
    for kind, start, end, score in ((1, 0, 2, 0.9), (1, 5, 7, 0.8), (0, 1, 3, 0.7)):
        starts[kind, start] = ends[kind, end] = score
    known = Fixed(["x", "y"], [torch.stack([starts, ends]).tolist()])
    assert len(spans(torch.stack([starts, ends]), words, ["x", "y"], 0.69, 4)) == 3
    assert answers(known, [[words]], 0.69) == [[Entity(0, 3, "y"), Entity(5, 8, "y")]]


def test_of_equal_spans_the_type_decides() -> None:
    known = Fixed(["y", "x"], [[[[0.5], [0.5]], [[0.5], [0.5]]]])
    assert answers(known, [[Window((), (), (0,))]], 0.45) == [[Entity(0, 1, "x")]]


def test_a_sentence_has_the_spans_of_its_windows() -> None:
    one = [[[0.9, 0.0]], [[0.9, 0.0]]]
    windows = [Window((), (), (0, 1)), Window((), (), (2, 3)), Window((), (), (0, 1))]
    known = Fixed(["x"], [one, one, one])
    assert answers(known, [windows[:2], [], windows[2:]], 0.6) == [
        [Entity(0, 1, "x"), Entity(2, 3, "x")], [], [Entity(0, 1, "x")],
    ]  # fmt: skip


def test_where_nothing_is_known_nothing_is_answered() -> None:
    assert answers(Fixed([], []), [[WINDOW], [WINDOW]], 0.0) == [[], []]
