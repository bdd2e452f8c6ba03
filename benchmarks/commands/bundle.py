"""``run.py bundle FILE``: the records of a folder in one file."""

from dataclasses import dataclass
from pathlib import Path

from backbones.base.errors import PreflightError
from benchmarks import output
from benchmarks.commands.status import open_store
from benchmarks.leaderboard.anonymous import anonymous_scan
from benchmarks.leaderboard.bundle import pack, write_bundle


@dataclass(frozen=True)
class Options:
    """What was typed; see the command line's own help."""

    file: Path
    anonymous: bool
    out: Path
    json: bool


def main(options: Options) -> int:
    """Run the command.

    Raises:
        PreflightError: There is no such folder, no record in it, or the file cannot be written.
    """
    store = open_store(options.out)
    scan = store.scan()
    if options.anonymous:
        scan = anonymous_scan(scan)
    if not scan.records:
        raise PreflightError(f"There is no valid record in {options.out}.")
    write_bundle(options.file, [pack(record, store) for record in scan.records.values()])
    count = len(scan.records)
    if options.json:
        output.document({"written": str(options.file), "records": sorted(scan.records)})
    else:
        output.line(f"{count} records are in {options.file}; `run.py merge` takes them elsewhere.")
    output.left_out(scan.rejected)
    return 0
