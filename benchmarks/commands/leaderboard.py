"""``run.py leaderboard``: the tables of a folder of records, in five formats."""

from dataclasses import dataclass
from pathlib import Path

from backbones.errors import PreflightError
from benchmarks import output
from benchmarks.leaderboard.joined import with_joined
from benchmarks.leaderboard.render import FORMATS, to_json
from benchmarks.leaderboard.rows import make_tables
from benchmarks.sweep.store import Scan, Store


@dataclass(frozen=True)
class Options:
    """What was typed; see the command line's own help."""

    out: Path
    format: str
    json: bool


def main(options: Options) -> int:
    """Run the command.

    Raises:
        PreflightError: There is no such folder.
    """
    if not options.out.is_dir():
        raise PreflightError(f"There is no folder {options.out}; --out names the folder of runs.")
    store = Store(options.out)
    show(store.scan(), store, "json" if options.json else options.format)
    return 0


def show(scan: Scan, store: Store, form: str) -> None:
    """Print the tables of a folder; files that were left out are named on standard error.

    Args:
        scan: What the folder holds.
        store: The folder.
        form: One of the formats of the command line.
    """
    tables = with_joined(make_tables(scan, store))
    if form == "json":
        output.document(to_json(tables))
    else:
        output.line(FORMATS[form](tables) if tables else f"No runs in {store.root} yet.")
    for path, reason in scan.rejected:
        output.note(f"left out: {output.clean(f'{path}: {reason}')}")
