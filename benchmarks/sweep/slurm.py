"""Ask Slurm, and understand its answers; it may be slow or absent. Imports no torch."""

import contextlib
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from backbones.errors import PreflightError

# Slurm's own commands give up on a controller after about as long.
_PATIENCE_SECONDS = 8
_AT_ONCE = 500
_QUEUE_FIELDS = "%F|%K|%T|%r|%j|%M"
# What they say then: https://github.com/SchedMD/slurm, src/common/slurm_errno.c.
_SILENCE = ("Unable to contact slurm controller", "Socket timed out", "Zero Bytes were transmitted")


class UnreachableError(PreflightError):
    """No controller answers; a later question may find it back."""


@dataclass(frozen=True)
class QueuedJob:
    """A line of ``squeue``.

    Attributes:
        array: Id of the array job.
        index: In the array.
        state: PENDING, RUNNING, COMPLETING and the like.
        reason: Why it waits.
        name: Of the job.
        elapsed: Of the present attempt, as Slurm writes times.
    """

    array: str
    index: str
    state: str
    reason: str
    name: str
    elapsed: str

    @property
    def job(self) -> str:
        """As Slurm's commands take it."""
        return f"{self.array}_{self.index}" if self.index.isdecimal() else self.array


def check_reachable() -> None:
    """Make sure that jobs can be submitted from here.

    Raises:
        PreflightError: There is no Slurm, or no controller answers.
    """
    if shutil.which("sbatch") is None:
        raise PreflightError(
            "There is no sbatch here: submit from a node of the cluster, or see --executor print."
        )
    try:
        answer = ask(["scontrol", "ping"])
    except PreflightError as error:
        raise PreflightError(
            f"No Slurm cluster can be reached ({error}); submit from a node of the cluster, or "
            "use --executor local."
        ) from error
    if "UP" not in answer:
        raise PreflightError(
            "Slurm's controller does not answer (scontrol ping says it is down); try again "
            "later, or use --executor local."
        )


def queue() -> list[QueuedJob]:
    """Return this person's jobs that wait or run.

    Raises:
        PreflightError: Slurm does not answer.
    """
    jobs = []
    for text in ask(["squeue", "--me", "-h", "-r", "-o", _QUEUE_FIELDS]).splitlines():
        array, index, state, reason, *rest = text.split("|")
        name, _, elapsed = "|".join(rest).rpartition("|")
        jobs.append(QueuedJob(array.strip(), index.strip(), state, reason, name, elapsed))
    return jobs


def endings(jobs: Sequence[str]) -> dict[str, str]:
    """Return how jobs ended by what accounting knows, nothing where a site keeps none.

    Args:
        jobs: As Slurm's commands take them.
    """
    found: dict[str, str] = {}
    with contextlib.suppress(PreflightError):
        for start in range(0, len(jobs), _AT_ONCE):
            some = ",".join(jobs[start : start + _AT_ONCE])
            lines = ask(["sacct", "-n", "-P", "-X", "-o", "JobID,State,ExitCode", "-j", some])
            for text in lines.splitlines():
                job, state, code = text.split("|")
                found[job] = f"{state}, exit code {code}"
    return found


def job_facts(job: str) -> dict[str, str]:
    """Return what ``scontrol show job`` knows of a job.

    Raises:
        PreflightError: Slurm does not answer, or has forgotten the job.
    """
    text = ask(["scontrol", "-o", "show", "job", job]).splitlines()[0]
    return {key: value for key, mark, value in (p.partition("=") for p in text.split()) if mark}


def requeue(job: str) -> None:
    """Put a job back into the queue.

    Raises:
        PreflightError: Slurm refuses.
    """
    ask(["scontrol", "requeue", job])


def cancel(jobs: Sequence[str]) -> None:
    """Take jobs out of the queue, running ones included.

    Raises:
        PreflightError: Slurm refuses.
    """
    ask(["scancel", *jobs])


def ask(command: Sequence[str]) -> str:
    """Return what a command of Slurm answers.

    Raises:
        UnreachableError: No controller answers in time.
        PreflightError: It is absent, or fails.
    """
    try:
        done = subprocess.run(
            list(command), capture_output=True, text=True, timeout=_PATIENCE_SECONDS, check=False
        )
    except FileNotFoundError as error:
        raise PreflightError(f"There is no {command[0]} here.") from error
    except subprocess.TimeoutExpired as error:
        raise UnreachableError(f"{command[0]} did not answer in {_PATIENCE_SECONDS} s") from error
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()
        silent = any(words in line for words in _SILENCE for line in lines)
        raise (UnreachableError if silent else PreflightError)(f"{command[0]}: {lines[-1]}")
    return done.stdout
