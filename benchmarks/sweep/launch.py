"""Submit runs to Slurm: the only file that imports submitit. Imports no torch.

One task of an array is one run, which knows its folder and nothing else and goes on from what lies
there. submitit writes the script file, calls sbatch and reads its answer. Its pickles, and its
handlers that requeue from inside of the run, stay out: a job whose submitter died starts without
them, and loader workers do not inherit them.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import submitit
from submitit.core.utils import FailedJobError
from submitit.helpers import clean_env

from backbones.errors import PreflightError
from benchmarks.sweep import slurm
from benchmarks.sweep.adopt import adopt, queued_runs
from benchmarks.sweep.cluster import Cluster
from benchmarks.sweep.executor import Ended
from benchmarks.sweep.plan import Cell
from benchmarks.sweep.sbatch import sbatch_text
from benchmarks.sweep.snapshot import take_snapshot
from benchmarks.sweep.store import BusyError, Store
from benchmarks.sweep.submission import CODE, FOLDER, Submission, plan_submission

_KEPT = ("SLURM_CONF", "SLURM_CLUSTERS")


class SlurmExecutor:
    """Runs of a plan as job arrays; returns as soon as they are submitted.

    Args:
        store: Where runs live; on a file system that all nodes share.
        cluster: The profile.
        max_parallel: Runs of an array at a time; 0 leaves that to the cluster.
        fresh: Drop what earlier attempts left.
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
        adopt(self._store)
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
