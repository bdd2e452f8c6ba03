"""``run.py watch``: the status table, again and again, until nothing is left to wait for."""

import time
from contextlib import nullcontext

from rich.console import Console
from rich.live import Live
from rich.text import Text

from benchmarks import output
from benchmarks.commands.status import open_store, status_lines, survey
from benchmarks.options import WatchOptions

_OPEN = {"running", "queued", "starting", "stalled"}


def main(options: WatchOptions) -> int:
    """Run the command; ends when no run is at work or in the queue any more.

    Raises:
        PreflightError: There is no such folder.
    """
    store = open_store(options.out)
    console = Console(highlight=False, soft_wrap=True)
    living = console.is_terminal and not options.json
    # Elsewhere it would only write an empty line in the end.
    with (
        Live(console=console, auto_refresh=False, transient=True) if living else nullcontext()
    ) as live:
        while True:
            found, _ = survey(store)
            if live is not None:
                live.update(Text("\n".join(status_lines(found))), refresh=True)
            if not any(status.state in _OPEN for status in found):
                break
            time.sleep(options.every)
    if options.json:
        output.document({status.run: status.state for status in found})
        return 0
    for text in status_lines(found):
        output.line(text)
    return 0
