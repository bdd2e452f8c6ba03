"""``run.py bundle FILE``: the records of a folder in one file."""

from collections.abc import Iterator
from pathlib import Path

from backbones.base.errors import PreflightError
from backbones.base.wording import command
from benchmarks import output
from benchmarks.commands.status import open_store
from benchmarks.leaderboard.bundles.writing import RESAMPLES, Packed, pack, write_bundle
from benchmarks.options import BundleOptions
from benchmarks.store.record_file import BadRecordError


def main(options: BundleOptions) -> int:
    """Run the command.

    Raises:
        PreflightError: There is no such folder, no record in it, or the file cannot be written.
    """
    store = open_store(options.out)
    rejected: list[tuple[Path, str]] = []
    run_ids: list[str] = []

    def packed() -> Iterator[Packed]:
        for folder in store.folders(rejected):
            try:
                one = pack(folder, options.anonymous)
            except BadRecordError as error:
                rejected.append((folder.record, str(error)))
                continue
            if one is not None:
                run_ids.append(one.record.run_id)
                rejected.extend([(folder.path / RESAMPLES, one.fault)] if one.fault else [])
                yield one
        if not run_ids:
            raise PreflightError(f"There is no valid record in {options.out}.")

    write_bundle(options.file, packed())
    if options.json:
        output.document({"written": str(options.file), "records": run_ids})
    else:
        count = len(run_ids)
        merge = command("merge", options.file)
        output.line(f"{count} records are in {options.file}; {merge} takes them elsewhere.")
    output.left_out(rejected)
    return 0
