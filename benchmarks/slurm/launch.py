"""Submit runs to Slurm: the only file that imports submitit.

One task of an array is one run, which knows its folder and nothing else and goes on from what lies
there. submitit writes the script file, calls sbatch and reads its answer. Its pickles, and its
handlers that requeue from inside of the run, stay out: a job whose submitter died starts without
them, and loader workers do not inherit them.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import submitit
from submitit.core.utils import FailedJobError
from submitit.helpers import clean_env

from backbones.base.errors import PreflightError
from backbones.base.files import cannot_write
from benchmarks.plan.plan import Cell
from benchmarks.slurm import client as slurm
from benchmarks.slurm.cluster import Cluster
from benchmarks.slurm.sbatch import sbatch_text
from benchmarks.slurm.submission import (
    CODE,
    FOLDER,
    Submission,
    plan_submission,
    queued_runs,
    recover_jobs,
)
from benchmarks.store.environment import PACKAGES, ROOT, SNAPSHOT, code_sha256, git_commit
from benchmarks.store.folders import BusyError, Store
from benchmarks.work.outcome import Ended


def take_snapshot(folder: Path) -> Path:
    """Copy the packages into ``folder``, under a name that is their hash, and return the place.

    Equal code is kept once; submitting from inside a snapshot makes no other.

    Raises:
        PreflightError: The copy cannot be written, or the code changed meanwhile.
    """
    target = folder / code_sha256()[:16]
    if (target / SNAPSHOT).exists():
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=folder, prefix=".part-"))
        try:
            _copy(part)
            # Whoever comes second finds the same content there.
            if not target.exists():
                part.rename(target)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        raise cannot_write(target, error) from error
    return target


def _copy(part: Path) -> None:
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, part / package, ignore=shutil.ignore_patterns("__pycache__", "*.pyc")
        )
    if code_sha256(part) != code_sha256():
        raise PreflightError("The code changed while it was copied; submit again.")
    # mkdtemp makes folders private; other nodes and people may have to read this one.
    part.chmod(0o755)
    (part / SNAPSHOT).write_text(json.dumps({"git": git_commit()}), "utf-8")


_KEPT = ("SLURM_CONF", "SLURM_CLUSTERS")


class SlurmExecutor:
    """Runs of a plan as job arrays; returns as soon as they are submitted.

    Args:
        store: Folder of runs, on a file system that all nodes share.
        cluster: The profile.
        max_parallel: Runs of an array at a time; 0 leaves that to the cluster.
        fresh: Delete what earlier attempts left.
    """

    def __init__(self, store: Store, cluster: Cluster, max_parallel: int, fresh: bool) -> None:
        self._store = store
        self._cluster = cluster
        self._max_parallel = max_parallel
        self._fresh = fresh

    def run(self, cells: Sequence[Cell]) -> Iterator[Ended]:
        """Submit the runs; one that is in the queue already is not submitted again.

        Raises:
            PreflightError: No cluster answers, or it refuses the job.
        """
        slurm.check_reachable()
        recover_jobs(self._store)
        queued = queued_runs(self._store, slurm.queue())
        todo: list[Cell] = []
        for cell in cells:
            job = queued.get(cell.request.spec.run_id)
            busy = f"already in the queue as job {job.job}" if job else self._make_ready(cell)
            if busy:
                yield Ended(cell, "busy", busy)
            else:
                todo.append(cell)
        if todo:
            yield from self._submit(todo, {run: job.job for run, job in queued.items()})

    def _make_ready(self, cell: Cell) -> str:
        """Write what the worker needs to know; return why it must not start, if so."""
        folder = self._store.prepare(cell.request)
        try:
            # Held for a moment: nobody else may be at work on what is dropped or submitted.
            with folder.lock():
                if self._fresh:
                    folder.reset()
        except BusyError as error:
            return str(error)
        return ""

    def _submit(self, cells: Sequence[Cell], queued: Mapping[str, str]) -> Iterator[Ended]:
        code = take_snapshot((self._store.root / FOLDER / CODE).absolute())
        requests = [cell.request for cell in cells]
        submission = plan_submission(self._store, self._cluster, code, requests, queued)
        by_id = {cell.request.spec.run_id: cell for cell in cells}
        submission.folder.mkdir(parents=True)
        # Before anything is submitted: who finds this later can ask Slurm what became of it.
        submission.save()
        for index, array in enumerate(submission.arrays):
            text = sbatch_text(self._cluster, submission, index, self._max_parallel)
            submission.script(index).write_text(text, "utf-8")
            job = sbatch(submission, text)
            submission = submission.with_job(index, job)
            submission.save()
            for number, run_id in enumerate(array.runs):
                yield Ended(by_id[run_id], "submitted", f"job {job}_{number}")


@contextmanager
def _outside_of_jobs() -> Iterator[None]:
    """Hide the variables of the job that this process may itself be in; they would be inherited.

    Where Slurm's configuration lies is no such variable.
    """
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    with clean_env():
        os.environ.update(kept)
        yield


def sbatch(submission: Submission, text: str) -> str:
    """Return the id of the array job that a script became.

    Raises:
        PreflightError: Slurm refuses it.
    """
    executor = submitit.SlurmExecutor(folder=submission.folder)
    executor._make_submission_file_text = lambda command, uid: text
    try:
        with _outside_of_jobs():
            return str(executor._submit_command("").job_id)
    except FailedJobError as error:
        lines = [line.strip() for line in str(error).splitlines() if "error:" in line]
        reason = lines[-1].partition("error:")[2].strip() if lines else "see sbatch's own message"
        raise PreflightError(
            f"Slurm refuses the job: {reason}. Mend the profile clusters/{submission.cluster}.toml."
        ) from error
