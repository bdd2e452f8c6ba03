"""``run.py merge FILE``: the records of a bundle into a folder of runs."""

from dataclasses import asdict

from backbones.base.errors import PreflightError
from benchmarks import output
from benchmarks.leaderboard.bundles.checking import faults_of
from benchmarks.leaderboard.bundles.merging import merge
from benchmarks.leaderboard.bundles.reading import Bundle, read_bundle
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
    if options.check:
        return _check(bundle, options)
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


def _check(bundle: Bundle, options: MergeOptions) -> int:
    """Say which records cannot be what they say; return the exit code."""
    found: dict[str, list[str]] = {}
    names: dict[str, str] = {}
    for packed in bundle:
        record = packed.record
        found[record.run_id] = faults_of(packed)
        names[record.run_id] = f"{record.labels.entry}, {record.labels.protocol}"
    faulty = {run_id: faults for run_id, faults in found.items() if faults}
    code = PreflightError.exit_code if faulty else 0
    if options.json:
        output.document({"exit_code": code, "records": len(found), "faults": faulty})
        return code
    for run_id, faults in faulty.items():
        for fault in faults:
            output.note(output.clean(f"run {run_id} ({names[run_id]}): {fault}."))
    output.line(
        f"{len(found)} records in {options.file}: {len(found) - len(faulty)} can be what they say, "
        f"{len(faulty)} cannot."
    )
    return code
