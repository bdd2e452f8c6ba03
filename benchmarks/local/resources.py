"""Divide this machine among runs that are done at the same time."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache

from backbones.base.cores import CORES, usable_cores
from backbones.base.errors import PreflightError
from benchmarks.store.environment import memory_gib, worker_environment

_PATIENCE_SECONDS = 30
# Runs on the mini data take 0.5 to 0.9 GiB in addition to the libraries; larger networks take more.
_GIB_A_RUN = 4


@dataclass(frozen=True)
class Allocation:
    """The part of this machine that one run gets.

    Attributes:
        cores: Cores of each process; None leaves all, or what the environment says.
        gpus: Its devices, as in CUDA_VISIBLE_DEVICES; None leaves all.
        processes: Number of processes that do the run together, each with one GPU if there are any.
    """

    cores: int | None = None
    gpus: str | None = None
    processes: int = 1

    def environment(self) -> dict[str, str]:
        """Return the environment variables of a worker with this allocation."""
        base = dict(os.environ)
        if self.cores is not None:
            base[CORES] = str(self.cores)
        if self.gpus is not None:
            base["CUDA_VISIBLE_DEVICES"] = self.gpus
        return worker_environment(
            base, gpu=bool(visible_gpus() if self.gpus is None else self.gpus)
        )


def divide(runs: int, jobs: int | None = None, processes: int = 1) -> list[Allocation]:
    """Return the parts of this machine.

    Every process gets one GPU; without GPUs, the cores are divided equally.

    Args:
        runs: Largest number of runs that can be done at the same time.
        jobs: How many of them at a time; None means one a GPU, or where there is none one a core
            (or as many cores as OMP_NUM_THREADS says), as far as memory reaches: two small runs on
            a core each are faster than one after the other on both.
        processes: Number of processes that do a run together.

    Raises:
        PreflightError: There are fewer GPUs than asked for.
    """
    gpus = visible_gpus()
    room = len(gpus) if gpus else min(usable_cores() / _threads(), memory_gib() / _GIB_A_RUN)
    number = jobs or min(runs, int(room / processes)) or 1
    if gpus and number * processes > len(gpus):
        asked = " ".join(
            f"{flag} {value}"
            for flag, value in (("--jobs", jobs), ("--processes", processes))
            if value and value > 1
        )
        raise PreflightError(
            f"{asked}: there are {len(gpus)} GPUs here, and every process needs one of its own."
        )
    cores = max(1, usable_cores() // (number * processes))
    shares = [gpus[n * processes : (n + 1) * processes] for n in range(number)]
    return [Allocation(cores, ",".join(share) if gpus else None, processes) for share in shares]


def _threads() -> int:
    """Return the number of threads the user chose for a process, 1 without a choice."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, int(given)) if given.isdecimal() else 1


def visible_gpus() -> list[str]:
    """Return the CUDA devices that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name.strip() for name in given.split(",") if name.strip() not in ("", "-1")]
    tool = shutil.which("nvidia-smi")
    return list(_indices(tool)) if tool else []


def gpu_memory_gib() -> float | None:
    """Return the memory of this machine's smallest GPU, None where nobody tells."""
    tool = shutil.which("nvidia-smi")
    said = _asked(tool, "memory.total") if tool else ()
    # In MiB; a tool that does not know the question may say anything.
    sizes = [float(text) for text in said if text.isdecimal() and float(text) > 1024]
    return min(sizes) / 1024 if sizes else None


def _indices(tool: str) -> tuple[str, ...]:
    return _asked(tool, "index")


@cache
def _asked(tool: str, value: str) -> tuple[str, ...]:
    """Return what nvidia-smi says of each GPU: numbers, without units.

    It takes up to a second, and devices do not come and go.
    """
    try:
        done = subprocess.run(
            [tool, f"--query-gpu={value}", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=_PATIENCE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise PreflightError(
            "nvidia-smi does not answer, so the GPUs cannot be shared out."
        ) from error
    return tuple(done.stdout.split()) if done.returncode == 0 else ()
