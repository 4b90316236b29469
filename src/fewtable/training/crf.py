"""A linear-chain conditional random field over tags (Lafferty et al. 2001; on a tagger as in Lample et al. 2016).

Own code because the libraries have stopped: the last releases of pytorch-crf and TorchCRF are years old, AllenNLP's
repository is an archive. It is a few lines: the forward algorithm here, the best path that of
``fewtable.decoding.transitions``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from fewtable.decoding.transitions import viterbi

Chain = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Scores of starting, following (from, to) and ending."""


class Crf(torch.nn.Module):
    """Scores of starting, following and ending tags, all 0 at first.

    A sentence's score for tags y is ``start[y1] + sum emission[t, yt] + sum table[yt-1, yt] + end[yn]``; its
    probability is the softmax over all sequences of tags. With scores of 0 that is a softmax a word.

    Args:
        tags: number of tags.
        rate: how many times as fast as other weights these scores learn: fine-tuning an encoder needs rates at which
            scores that begin at 0 would hardly move.
    """

    def __init__(self, tags: int, rate: float) -> None:
        super().__init__()
        self.start = torch.nn.Parameter(torch.zeros(tags))
        self.end = torch.nn.Parameter(torch.zeros(tags))
        self.table = torch.nn.Parameter(torch.zeros(tags, tags))
        """From, to."""
        self._rate = rate

    def scores(self) -> Chain:
        """Return start, table and end: the parameters times the rate."""
        start, table, end = (quick(p, self._rate) for p in (self.start, self.table, self.end))
        return start, table, end

    def loss(self, emissions: Sequence[torch.Tensor], gold: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the sum over sentences of the negative log-likelihood of their gold tags, in nats.

        Args:
            emissions: (words, tags) of each sentence, at least one word.
            gold: tag indices (words) of each sentence.
        """
        return chain_loss(self.scores(), emissions, gold)

    @torch.inference_mode()
    def best(self, emissions: Sequence[torch.Tensor]) -> list[list[int]]:
        """Return the best tag indices of each sentence; sentences without words have none."""
        return best_paths(self.scores(), emissions)


def quick(parameter: torch.Tensor, rate: float) -> torch.Tensor:
    """Return ``rate`` times the parameter, with the gradient of the parameter itself.

    AdamW's steps don't depend on the size of a gradient, so a parameter that counts ``rate`` times learns that much
    faster. Its gradient is left as it is, so that clipping weighs all weights alike.
    """
    return parameter + (rate - 1) * parameter.detach()


def chain_loss(scores: Chain, emissions: Sequence[torch.Tensor], gold: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the sum over sentences of the negative log-likelihood of their gold tags, in nats.

    Args:
        scores: of starting (tags), following (tags, tags; from, to) and ending (tags).
        emissions: (words, tags) of each sentence, at least one word.
        gold: tag indices (words) of each sentence.
    """
    start, table, end = scores
    lengths = torch.tensor([len(e) for e in emissions], device=start.device)
    padded, tags = pad_sequence(list(emissions), batch_first=True), pad_sequence(list(gold), batch_first=True)
    real = torch.arange(padded.shape[1], device=start.device) < lengths[:, None]
    rows = torch.arange(len(lengths), device=start.device)
    score = start[tags[:, 0]] + (padded.gather(2, tags[:, :, None])[:, :, 0] * real).sum(1)
    score = score + (table[tags[:, :-1], tags[:, 1:]] * real[:, 1:]).sum(1) + end[tags[rows, lengths - 1]]
    every = start + padded[:, 0]
    for position in range(1, padded.shape[1]):
        moved = (every[:, :, None] + table).logsumexp(1) + padded[:, position]
        every = torch.where(real[:, position, None], moved, every)
    return ((every + end).logsumexp(1) - score).sum()


def best_paths(scores: Chain, emissions: Sequence[torch.Tensor]) -> list[list[int]]:
    """Return the best tag indices of each sentence under ``scores``; sentences without words have none."""
    start, table, end = (s.double().cpu().numpy() for s in scores)
    chain = [e.double().cpu().numpy() for e in emissions]
    chain = [np.concatenate([e[:-1], e[-1:] + end]) for e in chain]
    return viterbi(chain, start, table)
