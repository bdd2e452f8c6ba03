"""Submit runs to Slurm: the only file that imports submitit.

One task of an array is one run, which knows its folder and nothing else and goes on from what lies
there. submitit writes the script file, calls sbatch and reads its answer. Its pickles, and its
handlers that requeue from inside of the run, stay out: a job whose submitter died starts without
them, and loader workers do not inherit them.
"""

import io
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError
from submitit.helpers import clean_env

from backbones.base.errors import PreflightError
from backbones.base.files import cannot_write
from backbones.base.leftovers import SUFFIX, prefix_of, remove_leftovers
from benchmarks import output
from benchmarks.plan.plan import Cell
from benchmarks.slurm import client as slurm
from benchmarks.slurm.cluster import Cluster
from benchmarks.slurm.lock import submitting
from benchmarks.slurm.sbatch import sbatch_text
from benchmarks.slurm.submission import (
    CODE,
    FOLDER,
    LARGEST_ARRAY,
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
        remove_leftovers(folder)
        part = Path(tempfile.mkdtemp(dir=folder, prefix=prefix_of(target.name), suffix=SUFFIX))
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
# How often --wait asks for places in the queue.
_AGAIN_SECONDS = 30.0
_NO_ID = "sbatch succeeded without naming a job; squeue --me shows whether there is one"
# What sbatch says where a limit on the number of submitted jobs is reached: the name of the limit
# of an association or QOS, that the controller holds as many jobs as it may (it retries for a
# while before), or, in versions that name no limit, the last one
# (https://github.com/SchedMD/slurm, src/common/job_state_reason.c and slurm_errno.c).
_FULL = re.compile(
    r"\w*MaxSubmitJobs?\w*|\w*GrpSubmitJobs?\w*|Slurm temporarily unable to accept job|"
    r"Job violates accounting/QOS policy"
)


class SlurmExecutor:
    """Runs of a plan as job arrays; returns as soon as they are submitted.

    Args:
        store: Folder of runs, on a file system that all nodes share.
        cluster: The profile.
        max_parallel: Runs of an array at a time; 0 leaves that to the cluster.
        fresh: Delete what earlier attempts left.
        wait: Where Slurm takes no more jobs, wait until it takes the rest.
    """

    def __init__(
        self, store: Store, cluster: Cluster, max_parallel: int, fresh: bool, wait: bool = False
    ) -> None:
        self._store = store
        self._cluster = cluster
        self._max_parallel = max_parallel
        self._fresh = fresh
        self._wait = wait

    def run(self, cells: Sequence[Cell]) -> Iterator[Ended]:
        """Submit the runs; one that is in the queue already is not submitted again.

        Raises:
            PreflightError: No cluster answers, or it refuses the job.
        """
        slurm.check_reachable()
        left: Sequence[Cell] = cells
        while True:
            with submitting(self._store.root):
                left, why = yield from self._put(left)
            if not left or not self._wait:
                break
            output.note(
                f"{len(cells) - len(left)} of {len(cells)} runs are submitted; {why}. The rest is "
                f"tried again every {_AGAIN_SECONDS:.0f} s."
            )
            time.sleep(_AGAIN_SECONDS)
        for cell in left:
            yield Ended(cell, "unsubmitted", why)

    def _put(self, cells: Sequence[Cell]) -> Generator[Ended, None, tuple[Sequence[Cell], str]]:
        """Submit what is neither queued nor done, as far as Slurm takes it; return the rest."""
        recover_jobs(self._store)
        queue = slurm.queue()
        queued = queued_runs(self._store, queue)
        todo: list[Cell] = []
        for cell in cells:
            ended = self._needs_no_job(cell, queued.get(cell.request.spec.run_id))
            if ended is not None:
                yield ended
            else:
                todo.append(cell)
        if not todo:
            return [], ""
        jobs = {run: job.job for run, job in queued.items()}
        left, why = yield from self._submit(todo, jobs)
        if len(left) == len(todo) and not queue:
            # Waiting does not help where this person has not a single job.
            raise PreflightError(
                f"{why}, although none of your jobs is in the queue; the partition, account or "
                f"QOS of the profile {self._cluster.name}.toml may not take any."
            )
        return left, why

    def _needs_no_job(self, cell: Cell, job: slurm.QueuedJob | None) -> Ended | None:
        """Write what the worker needs to know; return why no job is submitted, if so."""
        if job is not None:
            return Ended(cell, "busy", f"already in the queue as job {job.job}")
        folder = self._store.prepare(cell.request)
        try:
            # Held for a moment: nobody else may be at work on what is dropped or submitted.
            with folder.lock():
                if self._fresh:
                    folder.reset()
                elif folder.is_done():
                    # Another submission was faster, and so was its job.
                    return Ended(cell, "done", record=folder.read_record())
        except BusyError as error:
            return Ended(cell, "busy", str(error))
        return None

    def _submit(
        self, cells: Sequence[Cell], queued: Mapping[str, str]
    ) -> Generator[Ended, None, tuple[Sequence[Cell], str]]:
        """Submit runs array by array; return those that Slurm takes no more, and why."""
        code = take_snapshot((self._store.root / FOLDER / CODE).absolute())
        requests = [cell.request for cell in cells]
        largest = slurm.largest_array(LARGEST_ARRAY)
        submission = plan_submission(self._store, self._cluster, code, requests, queued, largest)
        left = {cell.request.spec.run_id: cell for cell in cells}
        submission.folder.mkdir(parents=True)
        # Before anything is submitted: who finds this later can ask Slurm what became of it.
        submission.save()
        waiting = list(range(len(submission.arrays)))
        while waiting:
            index = waiting[0]
            try:
                job = self._submit_array(submission, index)
            except slurm.UnreachableError:
                # It may have become a job all the same; `recover` asks.
                raise
            except slurm.FullQueueError as error:
                if len(submission.arrays[index].runs) > 1:
                    waiting.insert(1, len(submission.arrays))
                    submission = submission.halved(index)
                    submission.save()
                    continue
                submission.without_runs_of(waiting).save()
                return list(left.values()), str(error)
            except PreflightError as error:
                submission.without_runs_of(waiting).save()
                before = len(cells) - len(left)
                went_in = f" {before} of {len(cells)} runs are submitted." if before else ""
                raise PreflightError(f"{error}{went_in}") from error
            waiting.pop(0)
            submission = submission.with_job(index, job)
            submission.save()
            for number, run_id in enumerate(submission.arrays[index].runs):
                yield Ended(left.pop(run_id), "submitted", f"job {job}_{number}")
        return [], ""

    def _submit_array(self, submission: Submission, index: int) -> str:
        """Submit an array; return the id of its job.

        Raises:
            PreflightError: As ``sbatch``.
        """
        text = sbatch_text(self._cluster, submission, index, self._max_parallel)
        submission.script(index).write_text(text, "utf-8")
        return sbatch(submission, text)


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
        FullQueueError: Slurm takes no more jobs for now.
        UnreachableError: The controller did not answer; the job may exist.
        PreflightError: Slurm refuses it.
    """
    executor = submitit.SlurmExecutor(folder=submission.folder)
    executor._make_submission_file_text = lambda command, uid: text
    try:
        # submitit prints what sbatch said, which the error says as well.
        with _outside_of_jobs(), redirect_stderr(io.StringIO()):
            return str(executor._submit_command("").job_id)
    except (FailedJobError, FailedSubmissionError) as error:
        said = str(error)
        unread = isinstance(error.__cause__, UnicodeDecodeError)
        if unread or said.startswith("Could not make sense of sbatch output"):
            raise slurm.UnreachableError(_NO_ID) from error
        lines = [line.strip() for line in said.splitlines() if "error:" in line]
        reason = lines[-1].partition("error:")[2].strip() if lines else "see sbatch's own message"
        reason = reason.removeprefix("Batch job submission failed: ")
        if limit := _FULL.search(said):
            raise slurm.FullQueueError(
                f"Slurm accepts no more jobs for now ({limit.group()})"
            ) from error
        if slurm.is_silence(said):
            raise slurm.UnreachableError(f"sbatch: {reason}") from error
        raise PreflightError(
            f"Slurm refuses the job: {reason}. Fix the profile {submission.cluster}.toml."
        ) from error
