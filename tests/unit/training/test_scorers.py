"""What is learned beside an encoder: a Matching Network's scale, TapNet's space and CDT's table (methods/fs-02, 03)."""

from __future__ import annotations

import math
from itertools import pairwise, product

import pytest
import torch

from fewtable.errors import ConfigError
from fewtable.training.dependency_transfer import Dependencies, places
from fewtable.training.metric import Matching, class_texts, logits
from fewtable.training.tapnet import TapNet, error_space


def vectors(count: int, seed: int = 0, size: int = 64) -> torch.Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed))


def shares(scorer: Matching, query: torch.Tensor, support: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    scores: torch.Tensor = scorer(query, support, labels, 4)
    return scores.softmax(-1)


@pytest.mark.parametrize("balance", [True, False])
def test_a_matching_network_gives_shares_of_a_softmax(balance: bool) -> None:
    query, support, labels = vectors(5), vectors(9, 1), torch.tensor([0, 0, 0, 0, 0, 1, 1, 3, 3])
    found = shares(Matching(10.0, rate=100.0, balance=balance), query, support, labels)
    cosines = torch.nn.functional.cosine_similarity(query[:, None], support[None], dim=-1)
    attention = (10 * cosines).softmax(-1)
    mass = torch.stack([attention[:, labels == c].sum(1) for c in range(4)], dim=1)
    if balance:
        mass = mass / torch.tensor([5.0, 2.0, 1.0, 2.0])
    torch.testing.assert_close(found, mass / mass.sum(1, keepdim=True))
    assert (found[:, 2] == 0).all()


def test_doubling_the_words_of_o_changes_nothing_where_classes_are_balanced() -> None:
    query, support, labels = vectors(5), vectors(9, 1), torch.tensor([0, 0, 0, 1, 1, 2, 2, 3, 3])
    doubled, twice = torch.cat([support, support[:3]]), torch.cat([labels, labels[:3]])
    balanced, plain = (Matching(10.0, 1.0, balance=b) for b in (True, False))
    torch.testing.assert_close(shares(balanced, query, support, labels), shares(balanced, query, doubled, twice))
    difference = shares(plain, query, support, labels) - shares(plain, query, doubled, twice)
    assert difference.abs().max() > 0.02


def test_a_sharp_matching_network_takes_the_nearest_word() -> None:
    query, support, labels = vectors(50), vectors(4, 1), torch.tensor([2, 0, 3, 1])
    unit = torch.nn.functional.normalize
    nearest = logits("nearest", unit(query, dim=-1), unit(support, dim=-1), labels, 4).argmax(-1)
    assert shares(Matching(500.0, 1.0, balance=True), query, support, labels).argmax(-1).tolist() == nearest.tolist()


def test_the_scale_stays_positive_and_learns_at_its_rate() -> None:
    scorer = Matching(10.0, rate=100.0, balance=True)
    with torch.no_grad():
        scorer.scale -= 1.0
    scores = scorer(vectors(3), vectors(4, 1), torch.tensor([0, 1, 2, 3]), 4)
    assert torch.isfinite(scores).all()  # softplus(10 - 100) > 0
    scores.logsumexp(-1).sum().backward()
    assert scorer.scale.grad is not None


def test_the_projection_is_a_null_space_of_the_errors() -> None:
    anchors, means, seen = vectors(9), vectors(9, 1), torch.tensor([True] * 7 + [False, True])
    basis = error_space(anchors, means, seen)
    assert basis.shape == (8, 64)
    torch.testing.assert_close(basis @ basis.T, torch.eye(8), atol=1e-5, rtol=0)
    unit = torch.nn.functional.normalize
    others = torch.stack([torch.cat([anchors[:k], anchors[k + 1 :]]).mean(0) for k in range(9)])
    errors = (unit(anchors - others, dim=-1) - unit(means, dim=-1))[seen]
    assert (errors - (errors @ basis.T) @ basis).norm(dim=-1).max() < 1e-4


def test_directions_that_are_only_noise_are_not_projected_out() -> None:
    anchors, means = vectors(4), vectors(4, 1)
    anchors[3], means[3] = anchors[2], means[2]  # two tags alike: one error twice
    assert len(error_space(anchors, means, torch.tensor([True] * 4))) == 3


def test_tapnet_compares_in_the_projected_space() -> None:
    torch.manual_seed(0)
    scorer = TapNet(64, bank=10, references=0.5, share=0.3, rate=100.0, dependencies=False).eval()
    query, support, labels, texts = vectors(6), vectors(20, 1), torch.arange(20) % 4, vectors(5, 2)
    scores = scorer(query, support, labels, 5, texts)
    anchors = 0.5 * texts + 0.5 * scorer.references.detach()[:5]
    means = torch.stack([support[labels == c].mean(0) for c in range(4)])
    seen = torch.tensor([True] * 4 + [False])
    every = torch.cat([means, torch.zeros(1, 64)])
    unit = torch.nn.functional.normalize
    others = (anchors.sum(0) - anchors) / 4
    errors = (unit(anchors - others, dim=-1) - unit(every, dim=-1))[seen]
    space = torch.linalg.svd(errors, full_matrices=True)[2][4:].T  # (64, 60)
    torch.testing.assert_close(space.T @ space, torch.eye(60), atol=1e-5, rtol=0)
    points = torch.cat([0.3 * means + 0.7 * anchors[:4], anchors[4:]])  # without support words: the anchor alone
    expected = 0.5 * 2 * (query @ space) @ (points @ space).T
    torch.testing.assert_close(scores, expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(scores, scorer(query, support, labels, 5, texts))


def test_references_are_dealt_anew_in_training_and_stay_at_test() -> None:
    torch.manual_seed(0)
    scorer = TapNet(64, bank=10, references=1.0, share=0.0, rate=1.0, dependencies=True)
    given = (vectors(2), vectors(6, 1), torch.arange(6) % 3, 3, vectors(3, 2))
    assert not torch.equal(scorer.train()(*given), scorer(*given))
    assert torch.equal(scorer.eval()(*given), scorer(*given))
    with pytest.raises(ConfigError, match="11 tags want a reference each and there are 10"):
        scorer(vectors(2), vectors(6, 1), torch.arange(6) % 3, 11, vectors(11, 2))


def test_no_gradient_goes_through_the_projection() -> None:
    torch.manual_seed(0)
    scorer = TapNet(64, bank=10, references=0.5, share=0.3, rate=1.0, dependencies=True)
    support, texts = vectors(6, 1).requires_grad_(), vectors(3, 2).requires_grad_()
    assert not error_space(texts, support[:3], torch.tensor([True] * 3)).requires_grad
    scorer(vectors(2), support, torch.arange(6) % 3, 3, texts).sum().backward()
    for part in (support, texts, scorer.references, scorer.scale):
        assert part.grad is not None
        assert torch.isfinite(part.grad).all()
        assert part.grad.abs().sum() > 0


def test_texts_of_tags() -> None:
    assert class_texts(["PER", "work"], {"PER": "person", "work": "creative work"}) == [
        "ordinary", "begin person", "inner person", "begin creative work", "inner creative work",
    ]  # fmt: skip


@pytest.mark.parametrize(("types", "cells"), [(1, 9), (2, 13), (5, 13)])
def test_the_table_is_spread_over_the_tags_of_all_types(types: int, cells: int) -> None:
    torch.manual_seed(0)
    chain = Dependencies(rate=100.0)
    with torch.no_grad():
        chain.table.copy_(torch.arange(15.0).reshape(3, 5) / 100)
    start, table, end = (t.detach() for t in chain.spread(types))
    assert len(table.unique()) == cells
    assert start.tolist() == [start[0], *[start[1], start[2]] * types]
    assert end.tolist() == [end[0], *[end[1], end[2]] * types]
    if types == 2:  # O, B-1, I-1, B-2, I-2
        assert table.round().int().tolist() == [
            [0, 1, 2, 1, 2], [5, 6, 7, 8, 9], [10, 11, 12, 13, 14], [5, 8, 9, 6, 7], [10, 13, 14, 11, 12],
        ]  # fmt: skip


def test_dependencies_agree_with_trying_all_paths() -> None:
    torch.manual_seed(1)
    chain = Dependencies(rate=10.0)
    start, table, end = (t.detach() for t in chain.spread(1))
    emissions = [vectors(n, n, 3) for n in (1, 3, 5)]
    gold = [torch.tensor([1, 2, 0, 1, 1][:n]) for n in (1, 3, 5)]

    def score(path: tuple[int, ...], scores: torch.Tensor) -> float:
        total = start[path[0]] + end[path[-1]] + sum(scores[i, t] for i, t in enumerate(path))
        return float(total + sum(table[a, b] for a, b in pairwise(path)))

    expected, best = 0.0, []
    for scores, tags in zip(emissions, gold, strict=True):
        every = {path: score(path, scores) for path in product(range(3), repeat=len(scores))}
        expected += math.log(sum(math.exp(v) for v in every.values())) - every[tuple(tags.tolist())]
        best.append(list(max(every, key=every.__getitem__)))
    assert float(chain.loss(emissions, gold).detach()) == pytest.approx(expected, rel=1e-5)
    assert chain.best(emissions, 1) == best
    moved = [scores + torch.arange(len(scores))[:, None] for scores in emissions]
    assert chain.best(moved, 1) == best


def test_places_without_types_is_o_alone() -> None:
    kinds, columns = places(0)
    assert (kinds.tolist(), columns.tolist()) == ([0], [[0]])
