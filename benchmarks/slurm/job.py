"""One process of one run inside a Slurm job: ``python -m benchmarks.slurm.job SUBMISSION ARRAY``.

Which run that is follows from the index in the array. The handlers are there before anything heavy
is imported, since a signal may come in the job's first second. Nothing is handed over but names of
folders: whatever starts the run again reads the same files, and goes on.
"""

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.work.contract import STOPPED, TICKET
from benchmarks.work.follower import follow
from benchmarks.work.interrupt import Interrupt

if TYPE_CHECKING:
    from benchmarks.store.folders import RunFolder

# Save was asked for by the time limit or a preemption: the job shall come back.
REQUEUE = 85
# The range that is free of well-known services; the port of a job stays when it is requeued.
_FIRST_PORT, _PORTS = 20000, 40000


def main(arguments: list[str]) -> int:
    """Do this job's part of its run.

    Returns:
        As the worker, and 85 when the job shall be put back into the queue.
    """
    # Slurm ends the job itself when its patience is over; a second signal changes nothing.
    interrupt = Interrupt(on_second=lambda: None, also=(signal.SIGUSR2,))
    interrupt.install()
    from benchmarks.slurm.submission import run_of_job

    folder = run_of_job(Path(arguments[0]), int(arguments[1]))
    rank = int(os.environ.get("SLURM_PROCID", "0"))
    describe_group()
    start = os.environ.get("SLURM_RESTART_COUNT", "0")
    os.environ[TICKET] = f"{os.environ['SLURM_JOB_ID']}.{start}"
    _redirect_log(folder.log if rank == 0 else folder.path / f"log-{rank}.txt")
    code = _lead(folder, arguments, interrupt) if rank == 0 else follow(folder, interrupt)
    if code == STOPPED and interrupt.signal == signal.SIGUSR2:
        return REQUEUE
    return code


def job_name() -> str:
    """Return this job as Slurm's commands take it."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ["SLURM_JOB_ID"]


def _lead(folder: "RunFolder", arguments: list[str], interrupt: Interrupt) -> int:
    """Do the run as its first process, the one that holds the lock, reports and records."""
    from benchmarks.slurm.submission import JOB, JOB_NOTE, JobNote
    from benchmarks.work.worker import work

    stdout = os.fdopen(os.dup(1), "w", errors="replace")

    def begin() -> None:
        note = JobNote(job_name(), arguments[0], int(arguments[1]))
        JOB_NOTE.write(folder.path / JOB, note)

    return work(folder, interrupt, stdout, begin=begin)


def describe_group() -> None:
    """Tell the process group what it needs, from what Slurm says."""
    size = int(os.environ.get("SLURM_NTASKS", "1"))
    if size == 1:
        return
    per_node = size // int(os.environ.get("SLURM_JOB_NUM_NODES", "1"))
    port = _FIRST_PORT + int(os.environ["SLURM_JOB_ID"]) % _PORTS
    os.environ.update(
        WORLD_SIZE=str(size),
        RANK=os.environ["SLURM_PROCID"],
        LOCAL_RANK=os.environ["SLURM_LOCALID"],
        LOCAL_WORLD_SIZE=str(per_node),
        MASTER_PORT=str(port),
    )


def _redirect_log(path: Path) -> None:
    """Send what libraries say to the run's log, where a person looks; it outlives requeues."""
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(log, 2)
    os.close(log)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
