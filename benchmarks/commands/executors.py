"""Which executor the command line asks for."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from backbones.base.cores import WORKERS
from backbones.base.errors import UserError
from backbones.base.micro_batches import micro_batches
from benchmarks import output
from benchmarks.local.pool import Pool
from benchmarks.local.resources import divide, visible_gpus
from benchmarks.local.terminal import Screen
from benchmarks.options import HowToRun
from benchmarks.plan.plan import Cell
from benchmarks.slurm.cluster import read_cluster
from benchmarks.slurm.sbatch import check_folder, plain_text, sbatch_text
from benchmarks.slurm.submission import CODE, FOLDER, plan_submission
from benchmarks.store.environment import code_sha256
from benchmarks.store.folders import Store
from benchmarks.work.outcome import Ended, Executor
from benchmarks.work.tracking import choose_tracker


def make_executor(choice: HowToRun, store: Store, screen: Screen, todo: Sequence[Cell]) -> Executor:
    """Return the executor.

    Args:
        choice: Flags that name the executor.
        store: Folder of runs.
        screen: To show progress on.
        todo: Runs it will do.

    Raises:
        UserError: The profile is wrong.
        PreflightError: This machine has fewer devices than asked for.
    """
    fresh = choice.rerun == "all"
    name = chosen_executor(choice)
    if name == "local":
        allocations = divide(_at_most(todo), choice.jobs, choice.processes or 1)
        return Pool(
            store, screen, fresh, allocations, fork=all(one.gpus is None for one in allocations)
        )
    if name == "print":
        return Printer(store)
    if name == "slurm":
        # Only here: submitit takes its time to import.
        from benchmarks.slurm.launch import SlurmExecutor

        cluster = read_cluster(choice.cluster)
        return SlurmExecutor(store, cluster, choice.max_parallel or 0, fresh, choice.wait)
    return Pool(store, screen, fresh, fork=not visible_gpus())


def chosen_executor(choice: HowToRun) -> str:
    """Return what was asked for; else one run on each GPU, or several small runs on the CPU.

    Raises:
        PreflightError: The GPUs cannot be counted.
    """
    return choice.executor or ("inline" if len(visible_gpus()) == 1 else "local")


def preview(choice: HowToRun, store: Store, todo: Sequence[Cell]) -> list[str]:
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


def advice(choice: HowToRun, todo: Sequence[Cell]) -> list[str]:
    """Return a sentence on GPUs that are in use or idle, or on an executor that is done sooner.

    Raises:
        PreflightError: The GPUs cannot be counted.
    """
    gpus, name = visible_gpus(), chosen_executor(choice)
    if todo and gpus and name in ("inline", "local"):
        return _about_gpus(choice, todo, len(gpus))
    if chosen_executor(choice) != "inline" or (number := len(divide(_at_most(todo)))) < 2:
        return []
    return [f"one after the other; --executor local does {number} at a time here"]


def _about_gpus(choice: HowToRun, todo: Sequence[Cell], gpus: int) -> list[str]:
    """Return a sentence on the GPUs of this machine that runs use, and on those that they do not.

    Args:
        choice: Flags that name the executor.
        todo: The runs.
        gpus: Number of GPUs.
    """
    processes, runs = choice.processes or 1, 1
    if chosen_executor(choice) == "local":
        runs = len(divide(_at_most(todo), choice.jobs, processes))
    used = runs * processes
    each = f", {processes} each" if processes > 1 else ""
    at_once = "one run at a time" if runs == 1 else f"{runs} runs at a time"
    text = f"{used} of {gpus} GPU{'s' * (gpus > 1)}: {at_once}{each}"
    idle, more = gpus - used, gpus // runs
    if not idle:
        return [text]
    text += f"; {idle} stay idle" if idle > 1 else "; one stays idle"
    if len(todo) > runs:
        return [f"{text}, --executor local uses all"]
    if more > processes:
        return [f"{text}, --executor local --processes {more} uses all"]
    return [text]


class Printer:
    """Writes what workers need to know, and a script that starts them, for other schedulers.

    Args:
        store: Folder of runs.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def run(self, cells: Sequence[Cell]) -> Iterator[Ended]:
        """Print the script and leave the rest to a person."""
        for cell in cells:
            self._store.prepare(cell.request)
        requests = [cell.request for cell in cells]
        output.line(plain_text(self._store, requests, Path.cwd()))
        for cell in cells:
            yield Ended(cell, "submitted", "left to you")


def check_flags(choice: HowToRun) -> None:
    """Refuse flags that do not go together, before anything is planned.

    Raises:
        UserError: They do not.
        PreflightError: The tracker is not installed.
    """
    choose_tracker(choice.track)
    if choice.workers is not None:
        os.environ[WORKERS] = str(choice.workers)
    flags = (
        ("--jobs", choice.jobs, "local"),
        ("--processes", choice.processes, "local"),
        ("--cluster", choice.cluster, "slurm"),
        ("--max-parallel", choice.max_parallel, "slurm"),
        ("--wait", choice.wait, "slurm"),
    )
    name = chosen_executor(choice)
    for flag, given, executor in flags:
        if given and name != executor:
            raise UserError(f"{flag} goes with --executor {executor}, not with {name}.")
    if choice.executor == "slurm" and not choice.cluster:
        raise UserError(
            "--executor slurm needs --cluster NAME, a profile; `run.py cluster init NAME` drafts "
            "one."
        )
    if choice.executor == "slurm":
        check_folder(choice.out)


def check_batches(choice: HowToRun, todo: Sequence[Cell]) -> None:
    """Refuse runs whose batch cannot be divided among their processes, before anything starts.

    Args:
        choice: Flags that name the executor.
        todo: The runs.

    Raises:
        UserError: A batch cannot be divided, or the profile is wrong.
    """
    cluster = read_cluster(choice.cluster) if choice.executor == "slurm" else None
    for request in (cell.request for cell in todo if cell.request.batch_size_per_device):
        task = request.spec.task
        number = cluster.shape_of(task).world_size if cluster else choice.processes or 1
        try:
            micro_batches(request.spec.batch_size, request.batch_size_per_device, number)
        except UserError as error:
            raise UserError(f"{task}, recipe {request.recipe}: {error}") from error


def has_gpus(choice: HowToRun) -> bool:
    """Return whether runs get GPUs, of the cluster or of this machine.

    Raises:
        UserError: The profile is wrong.
    """
    if choice.executor == "slurm":
        cluster = read_cluster(choice.cluster)
        return any(shape.gpus for shape in (cluster.shape, *dict(cluster.tasks).values()))
    return bool(visible_gpus())


def _at_most(todo: Sequence[Cell]) -> int:
    """Return how many runs can be active at the same time, because some wait for others."""
    needed = {cell.request.needs for cell in todo}
    return sum(cell.request.spec.run_id not in needed for cell in todo)
