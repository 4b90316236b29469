"""Several processes of one job, one a GPU: each has a part of the weights (FSDP2) and of every step's forwards.

torchrun starts them and says in the environment who is who. A job of one process is the case of one rank.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


def launch(processes: int) -> None:
    """Start this script again in so many processes, in place of this one, unless there is one or they are running."""
    if processes > 1 and ranks() == 1:
        run = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        os.execv(sys.executable, [sys.executable, *run, *sys.argv])


def ranks() -> int:
    """Return the number of processes that train together."""
    return int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def rank() -> int:
    """Return the number of this process, from 0."""
    return int(os.environ["RANK"]) if ranks() > 1 else 0


def leads() -> bool:
    """Say whether this is the process that writes and logs."""
    return rank() == 0


@contextmanager
def together() -> Iterator[None]:
    """Connect the processes; nothing for one."""
    if ranks() == 1:
        yield
        return
    import torch
    from torch import distributed

    if torch.cuda.is_available():
        torch.cuda.set_device(rank())
    distributed.init_process_group()  # gloo on CPUs, NCCL on GPUs
    try:
        yield
    finally:
        distributed.destroy_process_group()


def agreed(value: T) -> T:
    """Return the leader's value in all processes."""
    if ranks() == 1:
        return value
    from torch import distributed

    values = [value]
    distributed.broadcast_object_list(values)
    return values[0]


def summed(*numbers: float) -> list[float]:
    """Return the sums of numbers over the processes."""
    if ranks() == 1:
        return list(numbers)
    import torch
    from torch import distributed

    sums = torch.tensor(numbers, dtype=torch.float64)
    distributed.all_reduce(sums)
    return [float(value) for value in sums]


def sharded(model: Any) -> Any:
    """Spread the weights of a decoder-only model over the processes, layer by layer; return it."""
    if ranks() == 1:
        return model
    import torch
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cuda" if torch.cuda.is_available() else "cpu", (ranks(),))
    for layer in model.get_decoder().layers:
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor in one piece, on the CPU if it was spread; all processes must ask for it."""
    from torch.distributed.tensor import DTensor

    if not isinstance(tensor, DTensor):
        return tensor
    piece: torch.Tensor = tensor.full_tensor()
    return piece.cpu() if leads() else piece.new_empty(0)


def spread_like(tensor: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """Return a tensor spread over the processes as ``parameter`` is."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(parameter, DTensor):
        return tensor
    # Each process has read the whole tensor, so none has to be sent.
    return distribute_tensor(tensor, parameter.device_mesh, parameter.placements, src_data_rank=None)
