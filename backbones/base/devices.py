"""Where a run computes: device, threads, and its share among processes."""

import os
import resource
import sys

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from backbones.base.distributed import join_process_group, world_size


def join() -> torch.device:
    """Join the processes of the run, if it has several, and return this one's device."""
    join_process_group()
    if not torch.cuda.is_available():
        return torch.device("cpu")
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cuda", local_rank % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device


def choose_threads(device: torch.device, num_workers: int) -> int:
    """Set torch's threads to the cores that loader processes leave, and return their number.

    OMP_NUM_THREADS, where it holds a number, is a decision already made.

    More threads than free cores do not slow a CPU run down a little but many times: threads that
    wait at a barrier spin (measured: 3 to 40 times). On a GPU one thread feeds the device.

    Args:
        device: Where the network runs.
        num_workers: Loader processes beside this one.
    """
    if os.environ.get("OMP_NUM_THREADS"):
        return torch.get_num_threads()
    cores = len(os.sched_getaffinity(0)) // processes_here()
    threads = 1 if device.type == "cuda" else max(1, cores - num_workers)
    torch.set_num_threads(threads)
    return threads


def arithmetic_of(device: torch.device) -> str:
    """Return what decides how floating-point sums round on a device, in words.

    Two trainings of one seed end with the same bits only where this is the same.

    Args:
        device: Where the network runs; on a CPU its thread count has been chosen.
    """
    if device.type == "cuda":
        return f"{processes_here()} x {torch.cuda.get_device_name(device)}"
    threads = torch.get_num_threads()
    kernels = torch.backends.cpu.get_cpu_capability()
    return f"{world_size()} x {threads} thread{'s' * (threads > 1)} with {kernels} kernels"


def wrap(module: nn.Module, device: torch.device) -> nn.Module:
    """Return a module ready for gradients from all processes; itself when alone.

    Args:
        module: On ``device``.
        device: A CPU has no number, which has to be said explicitly.
    """
    if world_size() == 1:
        return module
    device_ids = [device.index] if device.type == "cuda" else None
    # Without buffers: what they hold is made equal on all ranks by whoever changes it.
    wrapped: nn.Module = DistributedDataParallel(
        module, device_ids=device_ids, broadcast_buffers=False, gradient_as_bucket_view=True
    )
    return wrapped


def processes_here() -> int:
    """Return the number of processes of the run on this machine."""
    return min(world_size(), int(os.environ.get("LOCAL_WORLD_SIZE", world_size())))


def peak_memory_gib() -> float:
    """Return the most memory this process held: of the GPU where there is one, else of the host."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
