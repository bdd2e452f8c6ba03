"""A submission: which runs went to a cluster together, as files beside the runs.

``.slurm/ID/submission.json`` says what was meant to be submitted before anything is, and what
became of it after; a submitter that dies in between leaves enough for others to go on.
"""

import os
import secrets
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from backbones.base.json_files import JsonFormat, UnreadableFileError
from benchmarks.slurm import client as slurm
from benchmarks.slurm.cluster import Cluster, RunResources
from benchmarks.store.folders import RunFolder, Store
from benchmarks.store.spec import RunRequest

FOLDER = ".slurm"
# Beside the submissions: copies of the code, each under its hash.
CODE = "code"
_FILE = "submission.json"
# In a run's folder: the job that does the run.
JOB = "job.json"
# Where Slurm is not asked. Its default MaxArraySize is 1001, which allows indices 0 to 1000.
LARGEST_ARRAY = 1000


class Array(Struct, frozen=True, forbid_unknown_fields=True):
    """Runs that share a job array; the index in ``runs`` is that in the array.

    Attributes:
        name: Of the job, unlike that of any other.
        task: What its runs measure.
        shape: What each run gets.
        runs: Their ids; none for an array that Slurm did not take.
        after: Indices of arrays of this submission that have to end before.
        waits_for: Jobs of earlier submissions that have to end before.
        job: Id of the array job; empty until it is known.
    """

    name: str
    task: str
    shape: RunResources
    runs: tuple[str, ...]
    after: tuple[int, ...] = ()
    waits_for: tuple[str, ...] = ()
    job: str = ""


class Submission(Struct, frozen=True, forbid_unknown_fields=True):
    """Arrays that were submitted by one command.

    Attributes:
        folder: Its own folder.
        cluster: Name of the profile.
        created: Unix time.
        code: Folder with the copy of the code.
        arrays: In the order of submission.
    """

    folder: Path
    cluster: str
    created: float
    code: Path
    arrays: tuple[Array, ...] = ()

    @property
    def store(self) -> Path:
        """The folder of runs."""
        return self.folder.parents[1]

    def script(self, index: int) -> Path:
        """Return the file with the text of an array."""
        return self.folder / f"array-{index}.sh"

    def log(self, job: str, task_index: str) -> Path:
        """Return where the batch script of a job of an array writes."""
        return self.folder / f"{job}_{task_index}.txt"

    def halved(self, index: int) -> "Submission":
        """Return this with the second half of an array as an array of its own, the last one.

        Args:
            index: Index of the array, which has at least two runs and no job.
        """
        whole, new = self.arrays[index], len(self.arrays)
        middle = len(whole.runs) // 2
        stem = whole.name.rpartition(".")[0]
        first = replace(whole, runs=whole.runs[:middle])
        second = replace(whole, name=f"{stem}.{new}", runs=whole.runs[middle:])
        arrays = [
            replace(one, after=(*one.after, new)) if index in one.after else one
            for one in self.arrays
        ]
        arrays[index] = first
        return replace(self, arrays=(*arrays, second))

    def without_runs_of(self, indices: Sequence[int]) -> "Submission":
        """Return this without the runs of some arrays, which Slurm did not take.

        Args:
            indices: Indices of the arrays. They stay, so that the other indices hold.
        """
        return replace(
            self,
            arrays=tuple(
                replace(one, runs=()) if index in indices else one
                for index, one in enumerate(self.arrays)
            ),
        )

    def save(self) -> None:
        """Write what is known."""
        _FORMAT.write(self.folder / _FILE, self)

    def with_job(self, index: int, job: str) -> "Submission":
        """Return this with the job of an array known."""
        arrays = list(self.arrays)
        arrays[index] = replace(arrays[index], job=job)
        return replace(self, arrays=tuple(arrays))


_FORMAT = JsonFormat(Submission, "submission")


class JobNote(Struct, frozen=True, forbid_unknown_fields=True):
    """What a job notes next to the run that it does.

    Attributes:
        job: Its id, "ARRAY_INDEX".
        submission: Folder of its submission.
        array: Index of its array there.
    """

    job: str
    submission: str
    array: int


JOB_NOTE = JsonFormat(JobNote, "note of a job")


def plan_submission(
    store: Store,
    cluster: Cluster,
    code: Path,
    requests: Sequence[RunRequest],
    queued: Mapping[str, str] | None = None,
    largest: int = LARGEST_ARRAY,
) -> Submission:
    """Return the arrays that runs go into: one for each task, those that wait apart.

    Args:
        store: Where the runs live.
        cluster: Where they go.
        code: Folder with the copy of the code.
        requests: The runs, needed ones first.
        queued: Jobs of runs that are in the queue already, by the runs' ids.
        largest: Number of runs that an array may have.
    """
    elsewhere = queued or {}
    now = time.time()
    stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(now))
    folder = (store.root / FOLDER / f"{stamp}-{secrets.token_hex(2)}").absolute()
    ids_here = {request.spec.run_id for request in requests}
    groups: dict[tuple[bool, str], list[RunRequest]] = defaultdict(list)
    for request in requests:
        waits = request.needs in ids_here or request.needs in elsewhere
        groups[waits, request.spec.task].append(request)
    arrays: list[Array] = []
    # What waits for nothing goes first, so that dependencies can name its jobs.
    for (_, task), members in sorted(groups.items(), key=lambda group: group[0][0]):
        for start in range(0, len(members), largest):
            part = members[start : start + largest]
            name = f"backbench:{part[0].suite}:{task}:{folder.name[-4:]}.{len(arrays)}"
            ids = tuple(request.spec.run_id for request in part)
            needs = {request.needs for request in part}
            after = tuple(i for i, array in enumerate(arrays) if needs & set(array.runs))
            jobs = tuple(sorted({job for run, job in elsewhere.items() if run in needs}))
            arrays.append(Array(name, task, cluster.shape_of(task), ids, after, jobs))
    return Submission(folder, cluster.name, now, code, tuple(arrays))


def read_submissions(
    store: Store, rejected: list[tuple[Path, str]] | None = None
) -> list[Submission]:
    """Return all valid submissions of a folder of runs, oldest first.

    Args:
        store: The folder of runs.
        rejected: Gets the files that are left out, each with the reason.
    """
    found = []
    for path in sorted((store.root / FOLDER).glob(f"*/{_FILE}")):
        try:
            found.append(read_submission(path.parent))
        except UnreadableFileError as error:
            if rejected is not None:
                rejected.append((path, error.reason))
    return found


def read_submission(folder: Path) -> Submission:
    """Return what ``Submission.save`` wrote.

    Raises:
        UnreadableFileError: The file is absent or damaged.
    """
    return replace(_FORMAT.read(folder / _FILE), folder=folder.absolute())


def run_of_job(folder: Path, array: int) -> RunFolder:
    """Return the folder of the run that the job this process belongs to does.

    Args:
        folder: Of the submission.
        array: Index of its array there.
    """
    submission = read_submission(folder)
    index = int(os.environ["SLURM_ARRAY_TASK_ID"])
    return RunFolder(submission.store / submission.arrays[array].runs[index])


@dataclass(frozen=True)
class RecoveredArray:
    """An array whose job had not been saved.

    Attributes:
        submission: Submission that it belongs to.
        array: The array; its job is empty if Slurm does not know it.
    """

    submission: Submission
    array: Array


def recover_jobs(store: Store) -> list[RecoveredArray]:
    """Find the jobs of arrays whose submitter was killed, and save them.

    An array that is neither in the queue nor named in a run never reached Slurm; its runs have to
    be submitted again.

    Raises:
        PreflightError: Slurm does not answer.
    """
    orphans = [
        (submission, index)
        for submission in read_submissions(store)
        for index, array in enumerate(submission.arrays)
        if array.runs and not array.job
    ]
    if not orphans:
        return []
    by_name = {job.name: job.array for job in slurm.queue()}
    found: dict[str, Submission] = {}
    recovered = []
    for original, index in orphans:
        submission = found.get(original.folder.name, original)
        array = submission.arrays[index]
        job = by_name.get(array.name) or _traced(store, submission, index)
        if job:
            submission = submission.with_job(index, job)
            submission.save()
            found[original.folder.name] = submission
        recovered.append(RecoveredArray(submission, submission.arrays[index]))
    return recovered


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
            note = JOB_NOTE.read(store.folder(run_id).path / JOB)
        except UnreadableFileError:
            continue
        if note.submission == str(submission.folder) and note.array == index:
            return note.job.partition("_")[0]
    return ""
