"""The device that models run on."""

from __future__ import annotations

import contextlib
import os
from contextlib import AbstractContextManager

import torch


def pick_device() -> torch.device:
    """Return this process's CUDA device if there is one (asking for repeatable kernels), else the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    return torch.device("cuda", torch.cuda.current_device())


def precision(device: torch.device, *, autocast: bool) -> AbstractContextManager[object]:
    """Return the context of a forward: bfloat16 over float32 weights (autocast), or the weights' own precision."""
    return torch.autocast(device.type, torch.bfloat16) if autocast else contextlib.nullcontext()
