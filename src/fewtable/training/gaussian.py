"""Words as Gaussians, drawn together by label (CONTaiNER, Das et al. 2022, section 3; methods/fs-04)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file, save_file

from fewtable.corpus import Sentence
from fewtable.errors import DataError
from fewtable.files import stable_seed
from fewtable.training.encoder import Encoder
from fewtable.training.metric import class_names, squared_distances, word_classes

Divergence = Literal["kl", "euclidean"]
FILE = "gaussians.safetensors"
LEAST = 1e-14
"""Added to a variance."""


class Gaussians(torch.nn.Module):
    """Two heads on word vectors: the mean and the variances of a diagonal Gaussian (equations 1 and 2).

    Args:
        size: of word vectors.
        dimensions: of the Gaussians.
    """

    def __init__(self, size: int, dimensions: int) -> None:
        super().__init__()
        self.mean = torch.nn.Linear(size, dimensions)
        self.spread = torch.nn.Linear(size, dimensions)

    def forward(self, states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return means and variances (words, dimensions); a variance is ELU + 1 of its head, and so positive."""
        states = states.relu()
        raw = self.spread(states)
        # ELU + 1 without the difference of two numbers near 1, which is 0 for variances that are small.
        return self.mean(states), torch.where(raw > 0, raw + 1, raw.clamp_max(0).exp()) + LEAST

    def save(self, folder: Path) -> None:
        """Write the heads to ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file(self.state_dict(), folder / FILE)
        (folder / FILE).chmod(0o644)

    def load(self, folder: Path) -> None:
        """Take the heads that ``save`` wrote; raise DataError when they are not there or of another shape."""
        path = folder / FILE
        found = load_file(path) if path.exists() else {}
        if {n: t.shape for n, t in found.items()} != {n: t.shape for n, t in self.state_dict().items()}:
            raise DataError(
                "the run to start from has no Gaussians of this shape",
                where=str(path),
                fix="start from a run that trained them, with the same train.dimensions",
            )
        self.load_state_dict(found)


def divergences(mean: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
    """Return the mean of the Kullback-Leibler divergences of each pair of Gaussians both ways (n, n), in nats.

    Equations 3 and 4 by products of matrices: the logarithms of one way and the other cancel. The diagonal is 0 but for
    rounding.

    Args:
        mean: (n, dimensions).
        variance: (n, dimensions), positive.
    """
    inverse = variance.reciprocal()
    one_way = (variance + mean.square()) @ inverse.T - 2 * mean @ (mean * inverse).T
    one_way = one_way + (mean.square() * inverse).sum(-1)
    return ((one_way + one_way.T) / 4 - mean.shape[-1] / 2).clamp_min(0)


def contrast(distances: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Return the sum of the words' contrastive losses (equation 5), and the number of words that have one.

    A word's loss is ``log sum exp(-d) over all others - log mean exp(-d) over the others of its label``, in nats; O is
    a label. A word that no other shares its label with has none.

    Args:
        distances: (n, n) between words.
        labels: (n).
    """
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    alike = (labels[:, None] == labels) & ~itself
    counted = alike.any(1)
    if not counted.any():
        return distances.sum() * 0, 0
    near, alike, itself = -distances[counted], alike[counted], itself[counted]
    every = near.masked_fill(itself, -torch.inf).logsumexp(1)
    own = near.masked_fill(~alike, -torch.inf).logsumexp(1) - alike.sum(1).log()
    return (every - own).sum(), int(counted.sum())


class ContrastLoss:
    """The loss of the words of some sentences among themselves.

    Args:
        encoder: of the words.
        heads: of their Gaussians.
        types: what labels there are besides O.
        divergence: ``kl`` of the Gaussians, or the squared distance of their means at length 1 (``euclidean``).
    """

    def __init__(self, encoder: Encoder, heads: Gaussians, types: Sequence[str], divergence: Divergence) -> None:
        self._encoder = encoder
        self._heads = heads
        self._classes = class_names(types, "io")
        self._divergence = divergence

    def __call__(self, sentences: Sequence[Sentence]) -> tuple[torch.Tensor, float]:
        """Return the sum of the words' losses, and the number of words that have one."""
        cut = [(s, ws) for s in sentences if (ws := self._encoder.windows(s.words))]
        if not cut:
            return next(self._encoder.model.parameters()).sum() * 0, 0.0
        states = self._encoder.states([w for _, ws in cut for w in ws])
        numbers = [n for s, ws in cut for n in word_classes(s, self._classes, [i for w in ws for i in w.words], "io")]
        mean, variance = self._heads(states)
        if self._divergence == "kl":
            distances = divergences(mean, variance)
        else:
            unit = torch.nn.functional.normalize(mean, dim=-1)
            distances = squared_distances(unit, unit)
        loss, words = contrast(distances, torch.tensor(numbers, device=states.device))
        return loss, float(words)


def finetune(
    model: torch.nn.Module,
    loss: Callable[[], tuple[torch.Tensor, float]],
    *,
    lr: float,
    clip: float,
    most: int,
    seed: int,
    log: Callable[..., None],
) -> int:
    """Train on the same examples until their loss rises; return the number of steps that were kept.

    After each step the loss is taken without dropout. The first step after which it is larger than before is taken
    back, and ends the training. A killed training begins anew: it is short, and gives the same weights.

    Args:
        model: whose parameters are trained, by AdamW without decay; in evaluation mode at the end.
        loss: the sum of the losses and its weight; weight 0 ends the training.
        lr: learning rate, the same in all steps.
        clip: largest norm of the gradient.
        most: steps, at most.
        seed: of dropout.
        log: told each kept step with its loss without dropout.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=lr, weight_decay=0.0)
    before = _value(model, loss)
    for step in range(most):
        torch.manual_seed(stable_seed("finetune", seed, step))
        model.train()
        total, weight = loss()
        if not weight:
            model.eval()
            return step
        optimizer.zero_grad(set_to_none=True)
        (total / weight).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(trained, clip)
        kept = [p.detach().clone() for p in trained]
        optimizer.step()
        after = _value(model, loss)
        if not after <= before:  # a loss that is no number ends it too
            with torch.no_grad():
                for parameter, value in zip(trained, kept, strict=True):
                    parameter.copy_(value)
            return step
        log(step + 1, loss=after, lr=lr)
        before = after
    return most


@torch.no_grad()
def _value(model: torch.nn.Module, loss: Callable[[], tuple[torch.Tensor, float]]) -> float:
    model.eval()
    total, weight = loss()
    return float(total) / (weight or 1.0)
