"""Scores by distance (methods/fs-01, unit checks)."""

from __future__ import annotations

from typing import Literal

import pytest
import torch

from fewtable.corpus import Entity, Sentence
from fewtable.training.metric import class_names, deal, logits, squared_distances, word_classes
from fewtable.training.neighbours import means, nearest

Head = Literal["prototype", "nearest", "mass"]
HEADS: tuple[Head, ...] = ("prototype", "nearest", "mass")


def vectors(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 16, generator=torch.Generator().manual_seed(seed))


def test_distances_are_those_of_the_definition() -> None:
    left, right = vectors(5), vectors(7, 1)
    expected = (left[:, None] - right[None]).square().sum(-1)
    torch.testing.assert_close(squared_distances(left, right), expected, rtol=1e-5, atol=1e-5)


def test_nearest_with_one_word_a_class_equals_prototypes() -> None:
    query, support, labels = vectors(9), vectors(4, 1), torch.tensor([2, 0, 3, 1])
    near, mean = (logits(head, query, support, labels, 4) for head in HEADS[:2])
    torch.testing.assert_close(near, mean)


@pytest.mark.parametrize("head", HEADS)
def test_the_order_of_the_support_does_not_matter(head: Head) -> None:
    query, support, labels = vectors(9), vectors(30, 1), torch.arange(30) % 4
    order = torch.randperm(30, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(
        logits(head, query, support, labels, 4), logits(head, query, support[order], labels[order], 4)
    )


@pytest.mark.parametrize("head", HEADS)
def test_an_absent_class_has_a_column_of_minus_infinity(head: Head) -> None:
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


def test_the_mass_of_a_class_is_its_share_of_all_words() -> None:
    query, support = torch.tensor([[1.0, 2.0], [0.0, -1.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, -1.0]])
    scores = logits("mass", query, support, torch.tensor([3, 0, 3]), 4)
    shares = (query @ support.T).softmax(-1)  # products 1, 2, 0 and 0, -1, 1
    expected = torch.stack([shares[:, 1], torch.zeros(2), torch.zeros(2), shares[:, 0] + shares[:, 2]], dim=1)
    torch.testing.assert_close(scores.softmax(-1), expected)
    assert scores.softmax(-1)[0].tolist() == pytest.approx(
        [2.718281828**2 / 11.107337927, 0, 0, (2.718281828 + 1) / 11.107337927]
    )


@pytest.mark.parametrize("head", HEADS)
def test_an_absent_class_leaves_a_gradient_that_is_a_number(head: Head) -> None:
    query = vectors(3).requires_grad_()
    scores = logits(head, query, vectors(4, 1), torch.tensor([0, 1, 1, 3]), 5)
    torch.nn.functional.cross_entropy(scores, torch.tensor([0, 1, 3])).backward()  # type: ignore[no-untyped-call]
    assert query.grad is not None
    assert torch.isfinite(query.grad).all()


def test_classes_are_types_or_their_b_and_i_tags() -> None:
    text = Sentence("a-0", tuple("abcd"), (Entity(0, 2, "x"), Entity(3, 4, "y")))
    assert class_names(("x", "y"), "io") == ("O", "x", "y")
    names = class_names(("x", "y"), "bio")
    assert names == ("O", "B-x", "I-x", "B-y", "I-y")
    assert word_classes(text, names, (0, 1, 2, 3), "bio") == [1, 2, 0, 3]
    assert word_classes(text, ("O", "x", "y"), (0, 1, 3), "io") == [1, 1, 2]


def test_the_support_is_dealt_by_mentions() -> None:
    def sentence(number: int, *kinds: str) -> Sentence:
        entities = tuple(Entity(i, i + 1, kind) for i, kind in enumerate(kinds))
        return Sentence(f"train-{number}", tuple("abcdef"), entities)

    kinds = [("x",), ("x", "y"), ("y",), ("x", "x"), (), ("y", "y"), ("z",), ("z", "x"), (), ("y",)]
    support = [sentence(i, *k) for i, k in enumerate(kinds)]
    assert deal(support, ("x", "y", "z"), 1) == [list(range(10))]
    groups = deal(support, ("x", "y", "z"), 2)
    assert sorted(i for g in groups for i in g) == list(range(10))
    for kind, total in (("x", 5), ("y", 5), ("z", 2)):
        shares = [sum(e.type == kind for i in g for e in support[i].entities) for g in groups]
        assert sum(shares) == total
        assert abs(shares[0] - shares[1]) <= 1, (kind, shares)
    assert deal(support[:1], ("x", "y", "z"), 3) == [[0], [], []]


def test_neighbours_are_the_nearest_by_the_cosine_of_means() -> None:
    sentences = [vectors(n, n) for n in (1, 4, 2, 3)] + [torch.zeros(0, 16)]
    pooled = means(sentences)
    for row, words in zip(pooled[:4], sentences, strict=False):
        torch.testing.assert_close(row, words.mean(0) / words.mean(0).norm())
    assert pooled[4].tolist() == [0.0] * 16
    asked = means([vectors(3, 9)])
    ranked = sorted(range(5), key=lambda i: -float(pooled[i] @ asked[0]))
    assert nearest(asked, pooled, 2) == [sorted(ranked[:2])]
    assert nearest(asked, pooled, 100) == [[0, 1, 2, 3, 4]]
    assert nearest(pooled, pooled, 4, others=True) == [[j for j in range(5) if j != i] for i in range(5)]
