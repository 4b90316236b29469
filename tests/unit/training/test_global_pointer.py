"""The global pointer: positions, valid cells, loss, and which spans are proposed (methods/fs-07, unit checks)."""

from __future__ import annotations

import math

import pytest
import torch

from fewtable.training.global_pointer import GRID, GlobalPointer, Rule, cells, detection_loss, propose, rotated


def test_scores_of_equal_vectors_depend_on_distance_alone() -> None:
    torch.manual_seed(0)
    pointer = GlobalPointer(8, 6)
    with torch.no_grad():
        scores = pointer(torch.randn(8).expand(1, 7, 8))[0]
    for shift in range(-6, 7):
        diagonal = scores.diagonal(shift)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal))
    assert not torch.allclose(scores.diagonal(0)[0], scores.diagonal(3)[0])


def test_scores_are_those_of_the_definition() -> None:
    torch.manual_seed(0)
    pointer, states = GlobalPointer(8, 4), torch.randn(2, 5, 8)
    with torch.no_grad():
        scores, both, bias = pointer(states), pointer.turn(states), pointer.bias(states)
    query, key = both[1, 1, ::2].tolist(), both[1, 4, 1::2].tolist()
    turned = []
    for vector, place in ((query, 1), (key, 4)):
        pairs = [complex(vector[i], vector[i + 1]) for i in (0, 2)]
        turned.append(
            [p * complex(math.cos(place * r), math.sin(place * r)) for p, r in zip(pairs, (1.0, 0.01), strict=True)]
        )
    product = sum((q * k.conjugate()).real for q, k in zip(*turned, strict=True))
    expected = product / 2 + float(bias[1, 1, 0] + bias[1, 4, 1]) / 2
    assert float(scores[1, 1, 4]) == pytest.approx(expected, rel=1e-4)


def test_turning_changes_no_length() -> None:
    vectors = torch.randn(3, 9, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(rotated(vectors).norm(dim=-1), vectors.norm(dim=-1))
    torch.testing.assert_close(rotated(vectors)[:, 0], vectors[:, 0])


def test_cells_are_spans_outside_the_padding() -> None:
    found = cells(torch.tensor([2, 4]), 4)
    assert [tuple(c) for c in found[0].nonzero().tolist()] == [(0, 0), (0, 1), (1, 1)]
    assert int(found[1].sum()) == 10


def test_the_loss_is_the_naive_sum() -> None:
    scores = torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(0))
    valid = cells(torch.tensor([4, 3]), 4)
    gold = torch.zeros_like(valid)
    gold[0, 1, 2] = gold[0, 3, 3] = gold[1, 0, 0] = True
    for row, found in enumerate(detection_loss(scores, gold, valid).tolist()):
        wrong = sum(math.exp(s) for s in scores[row][valid[row] & ~gold[row]].tolist())
        right = sum(math.exp(-s) for s in scores[row][gold[row]].tolist())
        assert found == pytest.approx(math.log(1 + wrong) + math.log(1 + right), rel=1e-5)
    scores.requires_grad_(True)
    detection_loss(scores, gold, valid).sum().backward()  # type: ignore[no-untyped-call]
    assert scores.grad is not None
    assert torch.equal(scores.grad != 0, valid)


def test_likely_spans_are_proposed_up_to_a_number() -> None:
    chances = torch.zeros(2, 3, 3)
    chances[0, 0, 1], chances[0, 1, 1], chances[1, 2, 2], chances[1, 0, 0] = 0.9, 0.5, 0.7, 0.4
    found, likely = propose(chances, Rule(0.5, 10))
    assert found.tolist() == [[0, 0, 1], [0, 1, 1], [1, 2, 2]]
    assert likely.tolist() == pytest.approx([0.9, 0.5, 0.7])
    assert propose(chances, Rule(0.5, 1))[0].tolist() == [[0, 0, 1], [1, 2, 2]]
    assert propose(chances, Rule(0.95, 10))[0].shape == (0, 3)
    assert len(propose(chances, Rule(0.0, 10))[0]) == 4, "what is no span has the probability 0"


def test_the_released_threshold_falls_until_four_spans_are_found() -> None:
    assert (GRID[0], len(GRID)) == (0.95, 19)
    assert GRID[-1] == pytest.approx(0.05)
    chances = torch.zeros(3, 4, 4)
    chances[0, 0] = torch.tensor([0.97, 0.81, 0.62, 0.61])  # the fourth at 0.6
    chances[1, 0] = torch.tensor([0.99, 0.98, 0.97, 0.96])  # all at once
    chances[1, 1, 1] = 0.94
    chances[2, 0] = torch.tensor([0.5, 0.07, 0.04, 0.0])  # never four
    found, _ = propose(chances, Rule(0.5, 50, lowered=True))
    assert [found[:, 0].tolist().count(row) for row in range(3)] == [4, 4, 2]
