"""CONTaiNER's Gaussians and contrast (methods/fs-04, unit checks)."""

from __future__ import annotations

import math

import pytest
import torch

from fewtable.training.gaussian import Gaussians, contrast, divergences, finetune


def gaussians(count: int, size: int = 6, scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(count)
    mean = scale * torch.randn(count, size, generator=generator)
    return mean, torch.rand(count, size, generator=generator) * 3 + 0.1


def divergence(mean: torch.Tensor, variance: torch.Tensor, p: int, q: int) -> float:
    """Equation 3 of the paper, a dimension after the other."""
    total = 0.0
    for j in range(mean.shape[1]):
        m, n, s, t = (float(x) for x in (mean[p, j], mean[q, j], variance[p, j], variance[q, j]))
        total += s / t + (n - m) ** 2 / t - 1 + math.log(t) - math.log(s)
    return total / 2


def test_divergences_equal_the_sum_over_dimensions() -> None:
    mean, variance = gaussians(7)
    found = divergences(mean, variance)
    for p in range(7):
        for q in range(7):
            both = (divergence(mean, variance, p, q) + divergence(mean, variance, q, p)) / 2
            assert float(found[p, q]) == pytest.approx(both, abs=1e-3)
    torch.testing.assert_close(found, found.T)
    assert found.diagonal().abs().max() < 1e-4


def test_the_contrast_equals_the_released_loss_by_pairs() -> None:
    mean, variance = gaussians(6)
    labels, distances = torch.tensor([0, 0, 1, 1, 1, 2]), divergences(mean, variance)
    expected = 0.0
    for p in range(5):  # the sixth is alone in its class
        others = [q for q in range(6) if q != p]
        own = [q for q in others if labels[q] == labels[p]]
        near = sum(math.exp(-float(distances[p, q])) for q in own) / len(own)
        expected -= math.log(near / sum(math.exp(-float(distances[p, q])) for q in others))
    loss, words = contrast(distances, labels)
    assert words == 5
    assert float(loss) == pytest.approx(expected, rel=1e-4)
    order = torch.tensor([3, 5, 0, 2, 1, 4])
    again, _ = contrast(distances[order][:, order], labels[order])
    assert float(again) == pytest.approx(expected, rel=1e-4)


def test_words_far_apart_have_a_loss_that_is_a_number() -> None:
    mean, variance = gaussians(6, scale=100.0)
    mean.requires_grad_()
    assert torch.exp(-divergences(mean, variance)).fill_diagonal_(0).sum() == 0  # the released form's 0 / 0
    loss, _ = contrast(divergences(mean, variance), torch.tensor([0, 0, 1, 1, 1, 2]))
    loss.backward()
    assert torch.isfinite(loss)
    assert mean.grad is not None
    assert torch.isfinite(mean.grad).all()


@pytest.mark.parametrize(("labels", "words"), [([0, 0, 0], 3), ([0, 1, 2], 0), ([0], 0)])
def test_one_label_alone_and_labels_without_a_pair(labels: list[int], words: int) -> None:
    mean, variance = gaussians(len(labels))
    mean.requires_grad_()
    loss, counted = contrast(divergences(mean, variance), torch.tensor(labels))
    loss.backward()
    assert counted == words
    assert mean.grad is not None
    assert torch.isfinite(mean.grad).all()
    if not words:
        assert float(loss.detach()) == 0


def test_variances_are_positive_and_elu_plus_one() -> None:
    torch.manual_seed(0)
    heads = Gaussians(8, 4)
    states = torch.randn(50, 8)
    _, variance = heads(states)
    expected = torch.nn.functional.elu(heads.spread(states.relu())) + 1
    torch.testing.assert_close(variance, expected)
    with torch.no_grad():
        heads.spread.bias -= 50
    _, variance = heads(states)
    assert (variance > 0).all()
    variance.log().sum().backward()
    assert torch.isfinite(heads.spread.weight.grad).all()


class Slope(torch.nn.Module):
    """One number whose loss is told beforehand, evaluation by evaluation; in training it only falls."""

    def __init__(self, values: list[float]) -> None:
        super().__init__()
        self.number = torch.nn.Parameter(torch.tensor(0.0))
        self._values = iter(values)

    def loss(self) -> tuple[torch.Tensor, float]:
        return (self.number * 1.0, 1.0) if self.training else (self.number * 0 + next(self._values), 1.0)


@pytest.mark.parametrize(
    ("values", "steps"),
    [([5, 4, 3, 3.5, 1], 2), ([5, 6], 0), ([5, 4, 3, 2], 3), ([5, 4, math.nan], 1), ([5, 5, 5, 5], 3)],
)
def test_training_ends_before_the_step_after_which_the_loss_rises(values: list[float], steps: int) -> None:
    model = Slope(values)
    logged: list[int] = []
    found = finetune(
        model, model.loss, lr=0.1, clip=1.0, most=3, seed=1, log=lambda step, **values: logged.append(step)
    )
    assert found == steps
    assert logged == list(range(1, steps + 1))
    assert float(model.number.detach()) == pytest.approx(-0.1 * steps, abs=1e-6)  # AdamW goes by the rate each step
    assert not model.training


def test_a_support_without_pairs_trains_nothing() -> None:
    model = torch.nn.Linear(2, 2)
    before = [p.detach().clone() for p in model.parameters()]
    steps = finetune(
        model, lambda: (model.weight.sum() * 0, 0.0), lr=0.1, clip=1.0, most=9, seed=1, log=lambda step, **values: None
    )
    assert steps == 0
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
