"""TapNet with label words (Yoon et al. 2019; L-TapNet of Hou et al. 2020, section 3.2; methods/fs-03)."""

from __future__ import annotations

from typing import ClassVar

import torch

from fewtable.errors import ConfigError
from fewtable.training.crf import quick
from fewtable.training.dependency_transfer import Dependencies
from fewtable.training.metric import Scorer, prototypes

TOLERANCE = 1e-5
"""Singular values below this share of the largest count as 0."""
SCALE = 0.5
"""What the scale begins with: the mean of the release's U(0, 1)."""


class TapNet(Scorer):
    """Scores in a space where the class means stand where the classes' anchors stand.

    The anchor of a class is ``(1 - references) label + references reference``, label the state of its text ("begin
    person") and reference a learned vector: a random one in each training step, the first ones at test, where the
    release draws them too. Directions in which the anchors (seen from the others' mean) and the class means differ are
    projected out; what a word is compared with is ``share mean + (1 - share) anchor``.

    Args:
        size: of word vectors.
        bank: number of references.
        references: share of the reference in an anchor.
        share: of the class mean.
        rate: how many times as fast as the encoder the scale and the dependencies learn.
        dependencies: score the tags of a sentence together, by collapsed dependency transfer.
    """

    texts: ClassVar[bool] = True

    def __init__(
        self, size: int, bank: int, references: float, share: float, rate: float, *, dependencies: bool
    ) -> None:
        super().__init__()
        self.references = torch.nn.Parameter(torch.nn.init.xavier_normal_(torch.empty(bank, size)))
        self.scale = torch.nn.Parameter(torch.tensor(SCALE / rate))
        self.chain = Dependencies(rate) if dependencies else None
        self._mix, self._share, self._rate = references, share, rate

    def forward(
        self,
        query: torch.Tensor,
        support: torch.Tensor,
        labels: torch.Tensor,
        classes: int,
        anchors: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return twice the product with each class in the projected space, scaled (words, classes).

        A class without a support word gives no direction to project out, and is its anchor alone.

        Args:
            query: (n, size) word vectors.
            support: (m, size) word vectors.
            labels: (m) classes of the support words.
            classes: number of classes.
            anchors: (classes, size) vectors of the classes' texts.

        Raises:
            ConfigError: there are more classes than references.
        """
        assert anchors is not None
        if classes > len(self.references):
            raise ConfigError(
                f"{classes} tags want a reference each and there are {len(self.references)}",
                where="train.tapnet.bank",
                fix="raise it, also in the run that this one starts from",
            )
        bank = len(self.references)
        taken = torch.randperm(bank)[:classes] if self.training else torch.arange(classes)
        anchors = (1 - self._mix) * anchors + self._mix * self.references[taken.to(anchors.device)]
        means, counts = prototypes(support, labels, classes)
        seen = counts > 0
        rows = error_space(anchors, means, seen)
        points = torch.where(seen[:, None], self._share * means + (1 - self._share) * anchors, anchors)
        products = query @ points.T - (query @ rows.T) @ (points @ rows.T).T
        return quick(self.scale, self._rate) * 2 * products


@torch.no_grad()
def error_space(anchors: torch.Tensor, means: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """Return an orthonormal basis (rank, size) of the errors, whose complement is TapNet's projection.

    An error is the anchor of a class less the mean of the other anchors, at length 1, less the class mean at length 1.
    No gradient goes through it: that of a singular value decomposition is unstable at ties.

    Args:
        anchors: (classes, size).
        means: (classes, size) of the support words.
        seen: (classes) which classes have support words; the others give no error.
    """
    others = (anchors.sum(0) - anchors) / max(len(anchors) - 1, 1)
    unit = torch.nn.functional.normalize
    errors = (unit(anchors - others, dim=-1) - unit(means, dim=-1))[seen]
    values: torch.Tensor
    basis: torch.Tensor
    _, values, basis = torch.linalg.svd(errors, full_matrices=False)
    return basis[values > TOLERANCE * values.max()]
