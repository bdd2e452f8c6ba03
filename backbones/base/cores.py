"""How many CPU cores a run may use, and what they are shared out to."""

import contextlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path

# Set by a launcher that gives a worker a part of the machine.
CORES = "BACKBENCH_CORES"
# Number of loader processes of each training process, where somebody chose it.
WORKERS = "BACKBENCH_WORKERS"

# Beside a CPU that trains, loaders take cores away from it. A GPU leaves all cores but the one that
# feeds it; no use was seen for more than 16 loaders a GPU.
_LOADERS_AT_MOST, _LOADERS_A_GPU = 4, 16


def threads_of(cores: int, *, gpu: bool = False) -> int:
    """Return how many threads a training process on that many cores computes with.

    Args:
        cores: Of the process.
        gpu: Whether it trains on a GPU, which one thread feeds.
    """
    return 1 if gpu else max(1, cores - loaders_of(cores))


def usable_cores() -> int:
    """Return how many cores this process may use.

    A container's quota and the share that a launcher gave it count.
    """
    return min(_machine_cores(), share_of(os.environ) or _machine_cores())


def share_of(environment: Mapping[str, str]) -> int | None:
    """Return the number of cores that a launcher gave, None where it left all."""
    text = environment.get(CORES, "")
    return max(1, int(text)) if text.isdecimal() else None


def _machine_cores() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota = Path("/sys/fs/cgroup/cpu.max")
    with contextlib.suppress(OSError, ValueError):
        share, period = (int(number) for number in quota.read_text("utf-8").split())
        return max(1, min(cores or 1, share // period))
    return cores or 1


def loader_workers() -> int:
    """Return how many data-loading processes each process of a run gets.

    On a GPU: a core each, except for one. On the CPU: a quarter of the cores, at most four; none on
    fewer than four cores, where loading in the training process costs less than the threads it
    would take away. ``--workers`` says another number.
    """
    given = worker_choice()
    return loaders_of(usable_cores(), gpu=_on_gpu()) if given is None else given


def worker_choice() -> int | None:
    """Return the number of loader processes that somebody chose, None where nobody did."""
    given = os.environ.get(WORKERS, "")
    return int(given) if given.isdecimal() else None


def loaders_of(cores: int, *, gpu: bool = False) -> int:
    """Return how many loader processes a training process on that many cores gets.

    Args:
        cores: Of the process.
        gpu: Whether it trains on a GPU.
    """
    if gpu:
        return max(0, min(_LOADERS_A_GPU, cores - 1))
    return min(_LOADERS_AT_MOST, cores // 4)


def _on_gpu() -> bool:
    """Return whether this process has loaded torch and sees a GPU."""
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch.cuda.is_available())
