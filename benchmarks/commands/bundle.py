"""``run.py bundle FILE``: the records of a folder in one file."""

from backbones.base.errors import PreflightError
from benchmarks import output
from benchmarks.commands.status import open_store
from benchmarks.leaderboard.anonymous import anonymous_record
from benchmarks.leaderboard.bundle import pack, write_bundle
from benchmarks.options import BundleOptions
from benchmarks.store.record_file import BadRecordError


def main(options: BundleOptions) -> int:
    """Run the command.

    Raises:
        PreflightError: There is no such folder, no record in it, or the file cannot be written.
    """
    store = open_store(options.out)
    scan = store.scan()
    rejected = list(scan.rejected)
    packed = []
    for run_id in scan.records:
        try:
            record = store.folder(run_id).read_full_record()
        except BadRecordError as error:
            rejected.append((store.folder(run_id).record, str(error)))
            continue
        if record is not None:
            packed.append(pack(anonymous_record(record) if options.anonymous else record, store))
    if not packed:
        raise PreflightError(f"There is no valid record in {options.out}.")
    write_bundle(options.file, packed)
    count = len(packed)
    if options.json:
        output.document(
            {"written": str(options.file), "records": sorted(one.record.run_id for one in packed)}
        )
    else:
        output.line(f"{count} records are in {options.file}; `run.py merge` takes them elsewhere.")
    output.left_out(rejected)
    return 0
