"""``run.py adopt``: find the jobs of submissions that were cut off before they were noted down."""

from benchmarks import output
from benchmarks.commands.status import open_store
from benchmarks.options import AdoptOptions
from benchmarks.slurm.submission import adopt


def main(options: AdoptOptions) -> int:
    """Run the command.

    Raises:
        PreflightError: There is no such folder, or Slurm does not answer.
    """
    found = adopt(open_store(options.out))
    if options.json:
        arrays = {one.array.name: one.array.job for one in found}
        output.document({"adopted": {name: job for name, job in arrays.items() if job},
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
