"""The only file that talks to process groups."""

import os
from typing import Any, TypeVar

import torch
import torch.distributed as dist

T = TypeVar("T")


def join_process_group() -> None:
    """Join the process group that RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT describe, if any.

    NCCL where every rank has a CUDA device, gloo otherwise. Without WORLD_SIZE, or with 1, the
    process stays alone.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")


def leave_process_group() -> None:
    """Undo ``join_process_group``."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """Return this process's number, 0 when alone."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def world_size() -> int:
    """Return the number of processes, 1 when alone."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def any_rank(flag: bool) -> bool:
    """Return whether ``flag`` is set on any rank, so that all ranks act on the same step."""
    if world_size() == 1:
        return flag
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    raised = torch.tensor(int(flag), device=device)
    dist.all_reduce(raised, op=dist.ReduceOp.MAX)
    return bool(raised.item())


def mean_over_ranks(values: torch.Tensor) -> torch.Tensor:
    """Return the mean of ``values`` over all ranks; NaN on one rank is NaN on all."""
    if world_size() == 1:
        return values
    total = values.detach().clone()
    dist.all_reduce(total)
    return total / world_size()


def sum_over_ranks(values: torch.Tensor) -> torch.Tensor:
    """Return the sum of ``values`` over all ranks, through which gradients go back to all of them.

    Every rank has to call this, in the same order, and to go backward through it.
    """
    if world_size() == 1:
        return values
    total: torch.Tensor = _Sum.apply(values)
    return total


class _Sum(torch.autograd.Function):
    """A sum that every rank uses: its gradient is the sum of what all ranks feel."""

    @staticmethod
    def forward(context: Any, values: torch.Tensor) -> torch.Tensor:
        del context
        total = values.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> torch.Tensor:
        del context
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total


@torch.no_grad()
def gather_rows(rows: torch.Tensor) -> torch.Tensor:
    """Return every rank's rows, in order of rank; no gradient goes through.

    Args:
        rows: (N, ...), of the same shape on all ranks.

    Returns:
        (world size * N, ...); ``rows`` itself when alone.
    """
    if world_size() == 1:
        return rows.detach()
    own = rows.detach().contiguous()
    found = [torch.empty_like(own) for _ in range(world_size())]
    dist.all_gather(found, own)
    return torch.cat(found)


def gather(value: T) -> list[T]:
    """Return every rank's ``value``, which must be picklable, in order of rank, on every rank."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def barrier() -> None:
    """Wait for all ranks."""
    if world_size() > 1:
        dist.barrier()
