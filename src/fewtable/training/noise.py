"""NEFTune: uniform noise on the embeddings of what a text model is trained on (Jain et al. 2023, arXiv 2310.05914)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from fewtable.training.sft import Loss, Row


def noisy(loss: Loss[Row], model: Any, alpha: float) -> Loss[Row]:
    """Return ``loss`` with noise on each token's embedding, from -a to a with a = alpha / sqrt(length * size).

    Args:
        loss: of a model that reads packs.
        model: the decoder-only model; it is noisy while it trains.
        alpha: the paper's scale; 5 there.

    ``length`` is that of the token's row, of any of them where several begin with it. The noise is torch's, which the
    training loop seeds at each step.
    """
    import torch

    from fewtable.training.packing import laid

    def with_noise(rows: Sequence[Row]) -> tuple[torch.Tensor, float]:
        def hook(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
            lengths = torch.zeros(output.shape[1])
            for at in sorted(laid(rows).at, key=len):
                lengths[list(at)] = len(at)
            noise = torch.empty_like(output).uniform_(-1, 1)
            return output + noise * (alpha / (lengths * output.shape[-1]).sqrt()).to(output)[None, :, None]

        if not model.training:
            return loss(rows)
        handle = model.get_input_embeddings().register_forward_hook(hook)
        try:
            return loss(rows)
        finally:
            handle.remove()

    return with_noise
