"""``run.py logs ID``: how a run's attempts ended, and the last lines of its log."""

from collections import deque
from contextlib import suppress
from pathlib import Path

from msgspec.structs import asdict

from backbones.base.errors import UserError
from backbones.base.wording import command
from benchmarks import output
from benchmarks.commands.status import open_store
from benchmarks.options import LogsOptions
from benchmarks.store.folders import RunFolder, Store
from benchmarks.store.record_file import BadRecordError

# Runs that a sentence names where several are called alike.
_MOST_NAMED = 5


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
    """Return the folder of the run whose id begins with ``name``, or of the only run of an entry.

    Raises:
        UserError: None is called so, or several are.
    """
    paths = sorted(path.parent for path in store.root.glob("*/run.json"))
    found = [RunFolder(path) for path in paths if path.name.startswith(name)]
    about = "have an id that begins with"
    if not found:
        found = [folder for folder in map(RunFolder, paths) if _is_of(folder, name)]
        about = "are of the entry"
    if len(found) == 1:
        return found[0]
    if not found:
        shown = command("status", "--out", store.root)
        raise UserError(f"No run in {store.root} has the id or entry {name!r}; {shown} shows them.")
    known = ", ".join(map(_described, found[:_MOST_NAMED]))
    more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
    raise UserError(f"{len(found)} runs in {store.root} {about} {name!r}: {known}{more}.")


def _is_of(folder: RunFolder, entry: str) -> bool:
    with suppress(BadRecordError, OSError):
        return folder.read_request().entry == entry
    return False


def _described(folder: RunFolder) -> str:
    """Return a run's id with what tells it from others of the same entry."""
    with suppress(BadRecordError, OSError):
        request = folder.read_request()
        return f"{folder.path.name} ({request.spec.task}, seed {request.spec.seed})"
    return folder.path.name


def _tail(path: Path, lines: int) -> list[str]:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return [text.rstrip("\n") for text in deque(file, lines)]
    except FileNotFoundError:
        return []
