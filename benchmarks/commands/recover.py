"""``run.py recover``: find the jobs of submissions that were interrupted before they were saved."""

from benchmarks import output
from benchmarks.commands.status import open_store
from benchmarks.options import RecoverOptions
from benchmarks.slurm.lock import submitting
from benchmarks.slurm.submission import recover_jobs


def main(options: RecoverOptions) -> int:
    """Run the command.

    Raises:
        PreflightError: There is no such folder, or Slurm does not answer.
    """
    store = open_store(options.out)
    # A submission that is under way knows its job in a moment.
    with submitting(store.root):
        found = recover_jobs(store)
    if options.json:
        arrays = {one.array.name: one.array.job for one in found}
        output.document({"recovered": {name: job for name, job in arrays.items() if job},
                         "lost": [name for name, job in arrays.items() if not job]})  # fmt: skip
        return 0
    for one in found:
        count = len(one.array.runs)
        if one.array.job:
            output.line(f"{one.array.name}: job {one.array.job}, {count} runs")
        else:
            output.line(f"{one.array.name}: Slurm knows no such job; submit its {count} runs again")
    if not found:
        output.line("every submission knows its jobs")
    return 0
