"""Which executor the command line asks for. Imports no torch."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from typing import Protocol

from backbones.errors import PreflightError, UserError
from backbones.sharing import micro_batches
from benchmarks import output
from benchmarks.sweep.cluster import read_cluster
from benchmarks.sweep.environment import code_sha256, usable_cores
from benchmarks.sweep.executor import Ended, Executor
from benchmarks.sweep.plan import Cell, Rerun
from benchmarks.sweep.pool import Pool, Slot
from benchmarks.sweep.sbatch import plain_text, sbatch_text
from benchmarks.sweep.store import Store
from benchmarks.sweep.submission import CODE, FOLDER, plan_submission
from benchmarks.sweep.terminal import Screen
from benchmarks.sweep.tracking import choose_tracker

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
    def processes(self) -> int | None:
        """Processes of one run on this machine; None means one."""

    @property
    def cluster(self) -> str:
        """Name of the cluster's profile; empty for none."""

    @property
    def max_parallel(self) -> int | None:
        """Runs of an array at a time; None leaves that to the cluster."""

    @property
    def track(self) -> str:
        """Name of the tracker that runs tell how they go; empty for none."""

    @property
    def rerun(self) -> Rerun:
        """What to do again; "all" drops what is there."""


def make_executor(choice: Choice, store: Store, screen: Screen) -> Executor:
    """Return the executor.

    Raises:
        UserError: The profile is wrong.
        PreflightError: This machine has fewer devices than asked for.
    """
    fresh = choice.rerun == "all"
    if choice.executor == "local":
        slots = _slots(choice.jobs, choice.processes or 1)
        return Pool(store, screen, fresh, slots, warm=all(slot.gpus is None for slot in slots))
    if choice.executor == "print":
        return Printer(store)
    if choice.executor == "slurm":
        # Only here: submitit takes its time to import.
        from benchmarks.sweep.launch import SlurmExecutor

        cluster = read_cluster(choice.cluster)
        return SlurmExecutor(store, cluster, choice.max_parallel or 0, fresh)
    return Pool(store, screen, fresh, warm=not _gpus())


def preview(choice: Choice, store: Store, todo: Sequence[Cell]) -> list[str]:
    """Return the scripts that would be submitted, in lines; nothing is written.

    Raises:
        UserError: The profile is wrong.
    """
    if choice.executor != "slurm" or not todo:
        return []
    cluster = read_cluster(choice.cluster)
    code = (store.root / FOLDER / CODE / code_sha256()[:16]).absolute()
    submission = plan_submission(store, cluster, code, [cell.request for cell in todo])
    scripts = [
        sbatch_text(cluster, submission, index, choice.max_parallel or 0)
        for index in range(len(submission.arrays))
    ]
    return [line for script in scripts for line in ["", *script.splitlines()]]


class Printer:
    """Writes what workers need to know, and a script that starts them, for other schedulers.

    Args:
        store: Where runs live.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def run(self, cells: Sequence[Cell]) -> Iterator[Ended]:
        """Print the script and leave the rest to a person."""
        for cell in cells:
            self._store.prepare(cell.request)
        output.line(plain_text(self._store, [cell.request for cell in cells]))
        for cell in cells:
            yield Ended(cell, "submitted", "left to you")


def check(choice: Choice) -> None:
    """Refuse flags that do not go together, before anything is planned.

    Raises:
        UserError: They do not.
        PreflightError: The tracker is not installed.
    """
    choose_tracker(choice.track)
    flags = (
        ("--jobs", choice.jobs, "local"),
        ("--processes", choice.processes, "local"),
        ("--cluster", choice.cluster, "slurm"),
        ("--max-parallel", choice.max_parallel, "slurm"),
    )
    for flag, given, executor in flags:
        if given and choice.executor != executor:
            raise UserError(f"{flag} goes with --executor {executor}, not with {choice.executor}.")
    if choice.executor == "slurm" and not choice.cluster:
        raise UserError(
            "--executor slurm needs --cluster NAME, a profile; `run.py cluster init NAME` drafts "
            "one."
        )


def check_sharing(choice: Choice, todo: Sequence[Cell]) -> None:
    """Refuse runs whose batch their processes could not share out, before anything waits for them.

    Args:
        choice: Of the executor.
        todo: The runs.

    Raises:
        UserError: A batch cannot be shared out, or the profile is wrong.
    """
    cluster = read_cluster(choice.cluster) if choice.executor == "slurm" else None
    for request in (cell.request for cell in todo if cell.request.batch_size_per_device):
        task = request.spec.task
        number = cluster.shape_of(task).world_size if cluster else choice.processes or 1
        try:
            micro_batches(request.spec.batch_size, request.batch_size_per_device, number)
        except UserError as error:
            raise UserError(f"{task}, recipe {request.recipe}: {error}") from error


def has_gpus(choice: Choice) -> bool:
    """Tell whether runs get GPUs: the cluster's, or this machine's.

    Raises:
        UserError: The profile is wrong.
    """
    if choice.executor == "slurm":
        cluster = read_cluster(choice.cluster)
        return any(shape.gpus for shape in (cluster.shape, *dict(cluster.tasks).values()))
    return bool(_gpus())


def _slots(jobs: int | None, processes: int = 1) -> list[Slot]:
    """Return the parts that this machine is divided into.

    A process gets a GPU of its own; without GPUs, the cores are shared out.
    """
    gpus = _gpus()
    number = jobs or len(gpus) // processes or 1
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
    return [Slot(cores, ",".join(share) if gpus else None, processes) for share in shares]


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
