"""``run.py retry``: do again what failed or was left off, without the command that asked for it."""

from benchmarks.commands.logs import find_run
from benchmarks.commands.run import carry_out, show_results
from benchmarks.commands.status import open_store
from benchmarks.options import RetryOptions
from benchmarks.store.folders import Store
from benchmarks.store.spec import RunRequest


def main(options: RetryOptions) -> int:
    """Run the command.

    Raises:
        UserError: A run is unknown.
        PreflightError: There is no such folder.
    """
    store = open_store(options.out)
    return carry_out(options, store, _requests(options, store), show_results)


def _requests(options: RetryOptions, store: Store) -> list[RunRequest]:
    """Return the runs that were chosen, needed ones first."""
    scan = store.scan()
    failed = [run for run, record in scan.records.items() if record.status == "failed"]
    chosen = {run: store.folder(run).read_request() for run in failed}
    if not options.failed:
        chosen |= scan.unfinished
    else:
        waiting = {run: one for run, one in scan.unfinished.items() if one.needs in chosen}
        chosen |= waiting
    if options.runs:
        wanted = {find_run(store, name).path.name for name in options.runs}
        wanted |= {chosen[run].needs for run in wanted if run in chosen}
        chosen = {run: one for run, one in chosen.items() if run in wanted}
    return sorted(chosen.values(), key=lambda request: bool(request.needs))
