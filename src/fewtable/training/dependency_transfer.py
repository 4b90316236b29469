"""Collapsed dependency transfer (Hou et al. 2020, section 3.1; methods/fs-03): a CRF whose table knows no type."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fewtable.training.crf import Chain, best_paths, chain_loss, quick


class Dependencies(torch.nn.Module):
    """Learned scores between O, B and I, spread over the tags of any types.

    The columns of the table are O, B and I of the same type, B and I of another. From O, where no type is the same,
    only the first three are read. The table begins as Xavier has it, starts and ends as 0.5 N(0, 1).

    Args:
        rate: how many times as fast as the encoder these scores learn.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(torch.nn.init.xavier_normal_(torch.empty(3, 5)) / rate)
        self.start = torch.nn.Parameter(0.5 * torch.randn(3) / rate)
        self.end = torch.nn.Parameter(0.5 * torch.randn(3) / rate)
        self._rate = rate

    def spread(self, types: int) -> Chain:
        """Return the scores of starting, following (from, to) and ending over O and the B and I tag of each type."""
        rows, columns = places(types)
        start, table, end = (quick(p, self._rate) for p in (self.start, self.table, self.end))
        kinds = rows.to(start.device)
        return start[kinds], table[kinds[:, None], columns.to(start.device)], end[kinds]

    def loss(self, emissions: Sequence[torch.Tensor], gold: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the sum over sentences of the negative log-likelihood of their gold tags, in nats.

        Args:
            emissions: (words, 2 types + 1) of each sentence, at least one word.
            gold: tag indices (words) of each sentence.
        """
        return chain_loss(self.spread(emissions[0].shape[1] // 2), emissions, gold)

    @torch.inference_mode()
    def best(self, emissions: Sequence[torch.Tensor], types: int) -> list[list[int]]:
        """Return the best tag indices of each sentence; sentences without words have none."""
        return best_paths(self.spread(types), emissions)


def places(types: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return where the scores of O, B-1, I-1, B-2, I-2, ... stand: each tag's row, and each pair's column."""
    tags = torch.arange(2 * types + 1)
    kinds = torch.where(tags == 0, 0, 2 - tags % 2)
    owner = torch.where(tags == 0, -1, (tags - 1) // 2)
    other = (owner[:, None] != owner) & (owner[:, None] >= 0)
    columns = torch.where(kinds == 0, 0, kinds + 2 * other)
    return kinds, columns
