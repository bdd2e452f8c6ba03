"""``run.py merge FILE``: the records of a bundle into a folder of runs."""

from dataclasses import asdict

from backbones.base.errors import PreflightError
from benchmarks import output
from benchmarks.leaderboard.bundles.merging import merge
from benchmarks.leaderboard.bundles.reading import read_bundle
from benchmarks.options import MergeOptions
from benchmarks.store.folders import Store

_SOME_REFUSED = 3


def main(options: MergeOptions) -> int:
    """Run the command.

    Raises:
        PreflightError: The bundle is not what it should be, or the folder cannot be written.
    """
    if not options.file.is_file():
        raise PreflightError(f"There is no file {options.file}.")
    bundle = read_bundle(options.file)
    store = Store(options.out)
    store.check_writable()
    merged = merge(bundle, store)
    if options.json:
        output.document(asdict(merged))
    else:
        output.line(
            f"{len(merged.added)} records added to {options.out}, {len(merged.same)} were there, "
            f"{len(merged.conflicts)} differ from what is there."
        )
    for run_id in merged.conflicts:
        output.note(f"run {run_id}: another outcome is in {options.out} already, which stays.")
    return _SOME_REFUSED if merged.conflicts else 0
