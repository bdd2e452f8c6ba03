"""``run.py cancel``: take runs out of Slurm's queue; they save and leave, and can go on later."""

from backbones.base.errors import UserError
from benchmarks import output
from benchmarks.commands.logs import find_run
from benchmarks.commands.status import open_store
from benchmarks.options import CancelOptions
from benchmarks.slurm import client as slurm
from benchmarks.slurm.lock import submitting
from benchmarks.slurm.submission import queued_runs, recover_jobs

_AT_ONCE = 500


def main(options: CancelOptions) -> int:
    """Run the command.

    Raises:
        UserError: A run is unknown, or neither runs nor ``--all`` are given.
        PreflightError: Slurm does not answer.
    """
    if not options.runs and not options.all:
        raise UserError(
            "cancel: name runs by their ids, or take --all for every run of the folder."
        )
    store = open_store(options.out)
    wanted = {find_run(store, name).path.name for name in options.runs}
    with submitting(store.root):
        recover_jobs(store)
        queued = queued_runs(store, slurm.queue())
    chosen = {run: job for run, job in queued.items() if options.all or run in wanted}
    jobs = [job.job for job in chosen.values()]
    for start in range(0, len(jobs), _AT_ONCE):
        slurm.cancel(jobs[start : start + _AT_ONCE])
    if options.json:
        output.document({"cancelled": {run: job.job for run, job in chosen.items()}})
        return 0
    for run, job in chosen.items():
        output.line(f"cancelled run {run}, job {job.job}")
    for run in sorted(wanted - set(chosen)):
        output.line(f"run {run} is not in the queue")
    if not chosen and not wanted:
        output.line("none of these runs is in the queue")
    return 0
