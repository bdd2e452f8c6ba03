"""Which job does which run, also where the submitter died before it knew. Imports no torch."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.sweep import slurm
from benchmarks.sweep.job import JOB
from benchmarks.sweep.store import Store
from benchmarks.sweep.submission import Array, Submission, read_submissions


@dataclass(frozen=True)
class Adopted:
    """An array whose job was not known.

    Attributes:
        submission: What it belongs to.
        array: It, with the job as far as it is known now.
    """

    submission: Submission
    array: Array


def adopt(store: Store) -> list[Adopted]:
    """Find the jobs of arrays whose submitter died, and write them down.

    An array without a trace in the queue or beside a run never reached Slurm; submitting again is
    then the way.

    Raises:
        PreflightError: Slurm does not answer.
    """
    orphans = [
        (submission, index)
        for submission in read_submissions(store)
        for index, array in enumerate(submission.arrays)
        if not array.job
    ]
    if not orphans:
        return []
    by_name = {job.name: job.array for job in slurm.queue()}
    found: dict[str, Submission] = {}
    adopted = []
    for original, index in orphans:
        submission = found.get(original.folder.name, original)
        array = submission.arrays[index]
        job = by_name.get(array.name) or _traced(store, submission, index)
        if job:
            submission = submission.with_job(index, job)
            submission.save()
            found[original.folder.name] = submission
        adopted.append(Adopted(submission, submission.arrays[index]))
    return adopted


def queued_runs(store: Store, queue: Sequence[slurm.QueuedJob]) -> dict[str, slurm.QueuedJob]:
    """Return the jobs that wait or run, by the id of the run they do."""
    known = {
        array.job: array
        for submission in read_submissions(store)
        for array in submission.arrays
        if array.job
    }
    found = {}
    for job in queue:
        array = known.get(job.array)
        if array is not None and job.index.isdecimal() and job.state != "COMPLETING":
            found[array.runs[int(job.index)]] = job
    return found


def known_jobs(store: Store) -> dict[str, str]:
    """Return the job that each run was last submitted as, by the run's id."""
    return {
        run: f"{array.job}_{index}"
        for submission in read_submissions(store)
        for array in submission.arrays
        if array.job
        for index, run in enumerate(array.runs)
    }


def _traced(store: Store, submission: Submission, index: int) -> str:
    """Return the array job that a run of an array has noted down, empty if none has."""
    for run_id in submission.arrays[index].runs:
        try:
            note = json.loads((store.folder(run_id).path / JOB).read_text("utf-8"))
        except (OSError, ValueError):
            continue
        if note["submission"] == str(submission.folder) and note["array"] == index:
            return str(note["job"]).partition("_")[0]
    return ""
