"""Ask Slurm, and understand its answers; it may be slow or absent."""

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from backbones.base.errors import PreflightError

# Slurm's own commands give up on a controller after about as long.
_PATIENCE_SECONDS = 8.0
# A person waits for this one, and a controller that is up answers it before anything else.
_PING_PATIENCE_SECONDS = 5.0
_AT_ONCE = 500
_QUEUE_FIELDS = "%F|%K|%T|%r|%j|%M"
_FEWEST_FIELDS = 5
# Elements of an array that never began share a line: 7_[0,4-6,10-20:5%2].
_ELEMENTS = re.compile(r"(\d+)(?:-(\d+)(?::(\d+))?)?(?=[,%\]])")
# Slurm cuts such a list after 64 characters unless told otherwise.
_UNCUT = {"SLURM_BITSTR_LEN": "0"}
_ARRAY_LIMITS = re.compile(r"\b(?:MaxArraySize\s*|max_array_tasks)=\s*(\d+)")
# What they say then: https://github.com/SchedMD/slurm, src/common/slurm_errno.c.
_SILENCE = ("Unable to contact slurm controller", "Socket timed out", "Zero Bytes were transmitted")


class UnreachableError(PreflightError):
    """No controller answers; a later question may find it back."""


class FullQueueError(PreflightError):
    """Slurm takes no more jobs for now, because a limit on submitted jobs is reached."""


@dataclass(frozen=True)
class QueuedJob:
    """A line of ``squeue``.

    Attributes:
        array: Id of the array job.
        index: In the array.
        state: PENDING, RUNNING, COMPLETING and the like.
        reason: Why it waits.
        name: Name of the job.
        elapsed: Time of the present attempt, as Slurm writes it.
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
    # submitit does not start without srun, although nothing here calls it.
    for name in ("sbatch", "srun"):
        if shutil.which(name) is None:
            raise PreflightError(
                f"There is no {name} here: submit from a node of the cluster, or see --executor "
                "print."
            )
    try:
        done = _call(["scontrol", "ping"], _PING_PATIENCE_SECONDS)
        # Either of a pair of controllers will do, whatever the exit code says of the other.
        reason = "" if "is UP" in done.stdout else _complaint(done) or "its controller is down"
    except PreflightError as error:
        reason = str(error)
    if reason:
        raise PreflightError(
            f"No Slurm cluster can be reached ({reason}); submit from a node of the cluster, or "
            "use --executor local."
        )


def queue() -> list[QueuedJob]:
    """Return this person's jobs that wait or run.

    Raises:
        PreflightError: Slurm does not answer.
    """
    jobs = []
    for text in ask(["squeue", "--me", "-h", "-r", "-o", _QUEUE_FIELDS]).splitlines():
        fields = text.split("|", 4)
        if len(fields) < _FEWEST_FIELDS or "|" not in fields[-1]:
            raise PreflightError(
                f"squeue answered {text[:60]!r}, which is not a job in the asked format "
                f"{_QUEUE_FIELDS}; is another squeue on PATH?"
            )
        array, index, state, reason, rest = fields
        name, _, elapsed = rest.rpartition("|")
        jobs.append(QueuedJob(array.strip(), index.strip(), state, reason, name, elapsed))
    return jobs


def endings(jobs: Sequence[str]) -> dict[str, str]:
    """Return how jobs ended by what accounting knows, nothing where a site keeps none.

    Args:
        jobs: As Slurm's commands take them.
    """
    found: dict[str, str] = {}
    # Asked for single elements, it is silent about those that never began.
    arrays = list(dict.fromkeys(job.partition("_")[0] for job in jobs))
    with contextlib.suppress(PreflightError):
        for start in range(0, len(arrays), _AT_ONCE):
            some = ",".join(arrays[start : start + _AT_ONCE])
            command = ["sacct", "-n", "-P", "-X", "-o", "JobID,State,ExitCode", "-j", some]
            for text in ask(command, _UNCUT).splitlines():
                name, state, code = [*text.split("|"), "", ""][:3]
                if not (state and code):
                    continue  # not in the asked format, so it tells nothing
                how = state if code == "0:0" else f"{state}, exit code {code}"
                found.update(dict.fromkeys(_jobs_of(name), how))
    return {job: found[job] for job in jobs if job in found}


def _jobs_of(name: str) -> Iterator[str]:
    """Yield the jobs that a line of ``sacct`` is about."""
    array, several, elements = name.partition("_[")
    if not several:
        yield name
    for match in _ELEMENTS.finditer(elements):
        first, last, step = match.groups()
        indices = range(int(first), int(last or first) + 1, int(step or 1))
        yield from (f"{array}_{index}" for index in indices)


def largest_array(default: int) -> int:
    """Return how many elements an array may have here.

    Indices stay below ``MaxArraySize``, and a site may allow fewer elements
    (https://slurm.schedmd.com/slurm.conf.html, MaxArraySize and max_array_tasks).

    Args:
        default: Limit where the controller states none, and the most that is returned.

    Raises:
        PreflightError: Slurm does not answer, or allows no arrays.
    """
    said = ask(["scontrol", "show", "config"])
    limits = [int(digits) for digits in _ARRAY_LIMITS.findall(said)]
    least = min([default, *limits])
    if least < 1:
        raise PreflightError(
            "This Slurm cluster allows no job arrays (MaxArraySize = 0), and runs are submitted as "
            "arrays; use --executor print and submit its commands."
        )
    return least


def job_facts(job: str) -> dict[str, str]:
    """Return what ``scontrol show job`` knows of a job.

    Raises:
        PreflightError: Slurm does not answer, or has forgotten the job.
    """
    text = ask(["scontrol", "-o", "show", "job", job]).partition("\n")[0]
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


def ask(command: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    """Return what a command of Slurm answers.

    Args:
        command: With its arguments.
        environment: Environment variables in addition to those of this process.

    Raises:
        UnreachableError: No controller answers in time.
        PreflightError: It is absent, or fails.
    """
    done = _call(command, _PATIENCE_SECONDS, environment)
    if done.returncode:
        complaint = _complaint(done) or "no reason given"
        kind = UnreachableError if is_silence(done.stderr) else PreflightError
        raise kind(f"{command[0]}: {complaint}")
    return done.stdout


def is_silence(said: str) -> bool:
    """Tell whether a command of Slurm failed because no controller answered it.

    Args:
        said: Its standard error.
    """
    return any(text in said for text in _SILENCE)


def _call(
    command: Sequence[str], patience: float, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            list(command), env={**os.environ, **(environment or {})}, capture_output=True,
            text=True, errors="replace", timeout=patience, check=False,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise PreflightError(f"There is no {command[0]} here.") from error
    except OSError as error:
        raise PreflightError(f"{command[0]} cannot be started ({error.strerror}).") from error
    except subprocess.TimeoutExpired as error:
        raise UnreachableError(f"{command[0]} did not answer in {patience:g} s") from error


def _complaint(done: subprocess.CompletedProcess[str]) -> str:
    """Return the last thing that a command said of its trouble, without its own name."""
    lines = done.stderr.strip().splitlines() or [""]
    return lines[-1].removeprefix(f"{done.args[0]}: ").removeprefix("error: ")
