"""How many CPU cores a run may use, and what they are shared out to."""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

# Set by a launcher that gives a worker a part of the machine.
CORES = "BACKBENCH_CORES"


_LOADER_WORKERS_AT_MOST = 4


def threads_of(cores: int) -> int:
    """Return how many threads a training process on that many cores computes with."""
    return max(1, cores - _loaders(cores))


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
    """Return how many data-loading processes a run gets: a quarter of the cores, up to four.

    None on fewer than four cores: there, loading in the training process costs less than the
    threads it would take away.
    """
    return _loaders(usable_cores())


def _loaders(cores: int) -> int:
    return min(_LOADER_WORKERS_AT_MOST, cores // 4)
