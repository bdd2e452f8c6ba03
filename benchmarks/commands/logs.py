"""``run.py logs ID``: how a run's attempts ended, and the last lines of its log."""

from collections import deque
from pathlib import Path

from msgspec.structs import asdict

from backbones.base.errors import UserError
from backbones.base.wording import command
from benchmarks import output
from benchmarks.commands.status import open_store
from benchmarks.options import LogsOptions
from benchmarks.store.folders import RunFolder, Store


def main(options: LogsOptions) -> int:
    """Run the command.

    Raises:
        UserError: No run, or more than one, is called so.
    """
    folder = find_run(open_store(options.out), options.run)
    attempts = folder.read_attempts()
    tail = _tail(folder.log, options.lines)
    if options.json:
        content = {"attempts": [asdict(attempt) for attempt in attempts], "log": tail}
        output.document({"run": folder.path.name, "file": str(folder.log), **content})
        return 0
    for attempt in attempts:
        reason = f": {attempt.reason}" if attempt.reason else ""
        output.line(
            output.clean(
                f"attempt {attempt.number} on {attempt.host}, {attempt.started} to "
                f"{attempt.ended}: {attempt.outcome}{reason}"
            )
        )
    output.line(f"{folder.log}:")
    for text in tail:
        output.line(output.clean(text))
    return 0


def find_run(store: Store, name: str) -> RunFolder:
    """Return the folder of the run whose id begins with ``name``.

    Raises:
        UserError: None does, or several.
    """
    found = [path for path in store.root.glob("*/run.json") if path.parent.name.startswith(name)]
    if len(found) == 1:
        return RunFolder(found[0].parent)
    known = ", ".join(sorted(path.parent.name for path in found)[:5])
    raise UserError(
        f"{len(found)} runs in {store.root} have an id that begins with {name!r}"
        + (f": {known}." if known else f"; {command('status', '--out', store.root)} shows them.")
    )


def _tail(path: Path, lines: int) -> list[str]:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return [text.rstrip("\n") for text in deque(file, lines)]
    except FileNotFoundError:
        return []
