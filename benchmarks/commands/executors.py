"""Which executor the command line asks for. Imports no torch."""

import os
import shutil
import subprocess
from typing import Protocol

from backbones.errors import PreflightError, UserError
from benchmarks.sweep.environment import usable_cores
from benchmarks.sweep.executor import Executor
from benchmarks.sweep.plan import Rerun
from benchmarks.sweep.pool import Pool, Slot
from benchmarks.sweep.store import Store
from benchmarks.sweep.terminal import Screen

_PATIENCE_SECONDS = 30


class Choice(Protocol):
    """What of the command line decides how runs are executed."""

    @property
    def executor(self) -> str:
        """Name of the way to run."""

    @property
    def jobs(self) -> int | None:
        """Runs at a time on this machine; None leaves the choice."""

    @property
    def rerun(self) -> Rerun:
        """What to do again; "all" drops what is there."""


def make_executor(choice: Choice, store: Store, screen: Screen) -> Executor:
    """Return the executor.

    Raises:
        UserError: Flags that do not go together.
        PreflightError: This machine has fewer devices than asked for.
    """
    fresh = choice.rerun == "all"
    if choice.executor == "local":
        return Pool(store, screen, fresh, _slots(choice.jobs))
    if choice.jobs is not None:
        raise UserError(f"--jobs goes with --executor local, not with {choice.executor}.")
    return Pool(store, screen, fresh)


def _slots(jobs: int | None) -> list[Slot]:
    """Return the parts that this machine is divided into.

    A run gets a GPU of its own; without GPUs, the cores are shared out.
    """
    gpus = _gpus()
    if gpus and jobs is not None and jobs > len(gpus):
        raise PreflightError(
            f"--jobs {jobs}: there are {len(gpus)} GPUs here, and every run needs one of its own."
        )
    number = jobs or len(gpus) or 1
    cores = max(1, usable_cores() // number)
    return [Slot(cores, gpus[index] if gpus else None) for index in range(number)]


def _gpus() -> list[str]:
    """Return the CUDA devices that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name.strip() for name in given.split(",") if name.strip() not in ("", "-1")]
    if shutil.which("nvidia-smi") is None:
        return []
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=_PATIENCE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise PreflightError(
            "nvidia-smi does not answer, so the GPUs cannot be shared out."
        ) from error
    return done.stdout.split() if done.returncode == 0 else []
