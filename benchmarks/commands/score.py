"""``run.py score``: COCO's numbers of detections that another program wrote, as a row."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from backbones.base.errors import PreflightError
from benchmarks import output
from benchmarks.by_image.runs import NoImagesError
from benchmarks.data.roots import parse_data
from benchmarks.leaderboard.formats.classes import interval_lines
from benchmarks.leaderboard.formats.render import FORMATS
from benchmarks.leaderboard.formats.sheets import to_json
from benchmarks.leaderboard.shown import ShownTable, shown_tables
from benchmarks.options import ScoreOptions
from benchmarks.plan.plan import Cell, chosen, make_plan
from benchmarks.store.folders import BusyError, Scan, Store
from benchmarks.task import EXTERNAL
from benchmarks.tasks.external.task import TASK
from benchmarks.work.results import ResultsOrder, checksums_of, record_results

if TYPE_CHECKING:
    from benchmarks.leaderboard.statistics.detections import ClassInterval


def main(options: ScoreOptions) -> int:
    """Run the command.

    Raises:
        UserError: Two files have the same content.
        PreflightError: A file cannot be read or does not belong to the data, the annotations
            cannot be used, or the folder cannot be written; nothing is recorded then.
    """
    store = Store(options.out)
    store.check_writable()
    order = _order(options)
    cells = make_plan(order.requests(), store, store.scan())
    todo = chosen(cells, options.rerun)
    for text in _already(cells, options.entry) if not todo else _score(order, todo, store):
        output.note(output.clean(text))
    scan = _of_these_data(store.scan(), order)
    tables = shown_tables(scan, store)
    (_print_json if options.json else _print)(tables, scan, store, order)
    return 0


def _order(options: ScoreOptions) -> ResultsOrder:
    files = tuple(path.absolute() for path in options.files)
    checksums = checksums_of(files)
    data = TASK.find_data(parse_data(options.data, own_names=True))
    scoring = TASK.read_truth(data)
    return ResultsOrder(options.entry, files, checksums, options.boxes_only, data, scoring)


def _already(cells: Sequence[Cell], entry: str) -> Iterator[str]:
    """Yield that all files were scored before, and under which name."""
    names = {cell.record.labels.entry for cell in cells if cell.record is not None}
    others = ", ".join(sorted(names - {entry}))
    told = f' as "{others}"; --rerun all records them as "{entry}"' if others else ""
    yield f"These results are scored already{told}."


def _score(order: ResultsOrder, todo: Sequence[Cell], store: Store) -> Iterator[str]:
    """Score files, record them, and yield what a reader of the numbers has to know.

    Raises:
        PreflightError: A file does not belong to the data, or another process scores it.
    """
    # All are looked at before one is recorded; of several, one at a time is in memory.
    opened = {}
    for cell in todo:
        opened = {cell.request.spec.seed: order.open(cell.request)}
    yield from order.scoring.notes
    for cell in todo:
        seed = cell.request.spec.seed
        found = opened.pop(seed, None) or order.open(cell.request)
        yield from (f"{order.files[seed].name}: {remark}" for remark in found.remarks)
        try:
            record_results(order, cell.request, found, store.folder(cell.request.spec.run_id))
        except BusyError as error:
            raise PreflightError(f"{order.files[seed]}: {error}") from error


def _of_these_data(scan: Scan, order: ResultsOrder) -> Scan:
    """Return the part of a scan that stands in one table with the files."""
    fingerprint = order.facts.fingerprint
    records = {
        run_id: record
        for run_id, record in scan.records.items()
        if record.spec.task == EXTERNAL and record.spec.data_fingerprint == fingerprint
    }
    return replace(scan, records=records, unfinished={}, rejected=())


def _classes(
    tables: Sequence[ShownTable], scan: Scan, store: Store, order: ResultsOrder
) -> "list[ClassInterval]":
    """Return APbox of each class in the row of the files; nothing where it kept no matches."""
    # It takes as long to import as everything else together.
    from benchmarks.leaderboard.statistics.detections import class_intervals

    ids = {request.spec.run_id for request in order.requests()}
    for shown in tables:
        for row in shown.table.rows:
            if ids & set(row.run_ids):
                with suppress(NoImagesError):
                    return class_intervals(row, shown.table, store, scan.records)
    return []


def _print(tables: Sequence[ShownTable], scan: Scan, store: Store, order: ResultsOrder) -> None:
    output.line(FORMATS["table"](tables))
    for text in interval_lines(_classes(tables, scan, store, order)):
        output.line(output.clean(text))


def _print_json(
    tables: Sequence[ShownTable], scan: Scan, store: Store, order: ResultsOrder
) -> None:
    classes = _classes(tables, scan, store, order)
    runs = [request.spec.run_id for request in order.requests()]
    output.document(
        {
            "exit_code": 0,
            "run_ids": runs,
            "leaderboard": to_json(tables),
            "classes": [asdict(own) for own in classes],
        }
    )
