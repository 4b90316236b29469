"""Scorers by a method's options, and what they learned, saved beside the encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from fewtable.errors import DataError
from fewtable.training.encoder import Encoder
from fewtable.training.metric import Distance, Matching, Scorer
from fewtable.training.tapnet import TapNet

FILE = "scorer.safetensors"


def start(options: Any, encoder: Encoder, folder: Path | None, seed: int) -> Scorer:
    """Return the scorer of a token-metric's ``train`` options, in evaluation mode.

    Args:
        options: with ``head``, ``match`` and ``tapnet``.
        encoder: whose vectors it scores.
        folder: where ``save`` left what it learned; None: it begins anew.
        seed: of what begins at random.

    Raises:
        DataError: the folder has none, or one of another shape.
    """
    torch.manual_seed(seed)
    scorer = _build(options, encoder.size).to(encoder.device).eval()
    own = scorer.state_dict()
    if folder is None or not own:
        return scorer
    path = folder / FILE
    found = load_file(path) if path.exists() else {}
    if {n: t.shape for n, t in found.items()} != {n: t.shape for n, t in own.items()}:
        raise DataError(
            "what this method learns beside the encoder is not there, or is another method's",
            where=str(path),
            fix="start from a run of the same train.head with the same options",
        )
    scorer.load_state_dict(found)
    return scorer


def _build(options: Any, size: int) -> Scorer:
    if options.match is not None:
        own = options.match
        return Matching(own.scale, own.rate, balance=own.balance)
    if options.tapnet is not None:
        own = options.tapnet
        return TapNet(size, own.bank, own.references, own.share, own.rate, dependencies=own.dependencies)
    return Distance(options.head)


def save(scorer: Scorer, folder: Path) -> None:
    """Write what ``scorer`` learned to ``folder``; nothing where it learns nothing."""
    if tensors := scorer.state_dict():
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / FILE)
        (folder / FILE).chmod(0o644)
