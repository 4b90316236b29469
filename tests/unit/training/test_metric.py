"""Scores by distance (methods/fs-01, unit checks)."""

from __future__ import annotations

from typing import Literal

import pytest
import torch

from fewtable.training.metric import logits, squared_distances

HEADS: tuple[Literal["prototype", "nearest"], ...] = ("prototype", "nearest")


def vectors(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 16, generator=torch.Generator().manual_seed(seed))


def test_distances_are_those_of_the_definition() -> None:
    left, right = vectors(5), vectors(7, 1)
    expected = (left[:, None] - right[None]).square().sum(-1)
    torch.testing.assert_close(squared_distances(left, right), expected, rtol=1e-5, atol=1e-5)


def test_nearest_with_one_word_a_class_equals_prototypes() -> None:
    query, support, labels = vectors(9), vectors(4, 1), torch.tensor([2, 0, 3, 1])
    near, mean = (logits(head, query, support, labels, 4) for head in HEADS)
    torch.testing.assert_close(near, mean)


@pytest.mark.parametrize("head", HEADS)
def test_the_order_of_the_support_does_not_matter(head: Literal["prototype", "nearest"]) -> None:
    query, support, labels = vectors(9), vectors(30, 1), torch.arange(30) % 4
    order = torch.randperm(30, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(
        logits(head, query, support, labels, 4), logits(head, query, support[order], labels[order], 4)
    )


@pytest.mark.parametrize("head", HEADS)
def test_an_absent_class_has_a_column_of_minus_infinity(head: Literal["prototype", "nearest"]) -> None:
    scores = logits(head, vectors(3), vectors(4, 1), torch.tensor([0, 1, 1, 3]), 5)
    assert scores.shape == (3, 5)
    assert torch.isneginf(scores[:, [2, 4]]).all()
    assert torch.isfinite(scores[:, [0, 1, 3]]).all()
    assert not torch.isnan(scores.log_softmax(-1)).any()


def test_a_word_that_is_in_the_support_gets_its_class() -> None:
    support = vectors(200) * 50
    labels = torch.arange(200) % 7
    assert logits("nearest", support, support, labels, 7).argmax(-1).tolist() == labels.tolist()


def test_prototypes_are_means() -> None:
    support = torch.tensor([[0.0, 0.0], [2.0, 0.0], [5.0, 5.0]])
    scores = logits("prototype", torch.tensor([[1.0, 1.0]]), support, torch.tensor([0, 0, 1]), 2)
    assert scores.tolist() == [[-1.0, -32.0]]
