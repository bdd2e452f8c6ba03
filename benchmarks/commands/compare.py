"""``run.py compare``: rows held against each other, or the reason why they cannot be."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from backbones.base.errors import PreflightError, UserError
from benchmarks import output
from benchmarks.by_image.runs import NoImagesError
from benchmarks.leaderboard.formats.comparison import (
    class_lines,
    fact_lines,
    image_lines,
    lines_of,
    mismatch_lines,
)
from benchmarks.leaderboard.rows import make_tables
from benchmarks.leaderboard.statistics.compare import Comparison, compare
from benchmarks.leaderboard.statistics.detections import (
    ClassPair,
    ImageDifference,
    class_pairs,
    images_apart,
)
from benchmarks.leaderboard.statistics.selection import Mismatch, Side, select
from benchmarks.leaderboard.statistics.table import done_runs
from benchmarks.options import CompareOptions
from benchmarks.store.folders import Scan, Store
from benchmarks.store.record import RunRecord
from benchmarks.store.record_file import BadRecordError
from benchmarks.suites import image_file_of

REFUSED = 5
_LEGEND = "yellow: objects, blue: right at IoU 0.5, orange: wrong"


@dataclass(frozen=True)
class _Shown:
    """A comparison and what matches add to it.

    Attributes:
        comparison: Comparison within one table.
        classes: Differences class by class.
        images: On which the subjects differ most.
        pictures: Files that were written.
        notes: Why there is less than this.
    """

    comparison: Comparison
    classes: list[ClassPair] = field(default_factory=list)
    images: list[ImageDifference] = field(default_factory=list)
    pictures: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def main(options: CompareOptions) -> int:
    """Run the command.

    Raises:
        PreflightError: There is no such folder.
        UserError: A name means nothing or too much, or nothing was measured for all.
    """
    if not options.out.is_dir():
        raise PreflightError(f"There is no folder {options.out}; --out names the folder of runs.")
    names = list(dict.fromkeys(options.names))
    if len(names) < 2:
        raise UserError("compare needs two different rows at least: entries or run ids.")
    store = Store(options.out)
    scan = store.scan()
    tables = [
        table
        for table in make_tables(scan, store)
        if table.headline and options.task in ("", table.key.task)
    ]
    try:
        groups, mismatches = select(names, tables, scan.records)
    except UserError:
        # What is missing may be in a file that is left out.
        output.left_out(scan.rejected)
        raise
    shown = [_compare(group, store, scan, options) for group in groups]
    if options.json:
        output.document(_document(shown, mismatches))
    else:
        _print(names, shown, mismatches, options.loaded_rates)
    output.left_out(scan.rejected)
    return REFUSED if mismatches else 0


def _compare(subjects: Sequence[Side], store: Store, scan: Scan, options: CompareOptions) -> _Shown:
    comparison = compare(subjects, store, scan.records)
    whole = subjects[0].table
    kept = image_file_of(whole.key.task)
    if kept is None or not kept.detections:
        return _Shown(comparison)
    try:
        classes = class_pairs(comparison, whole, store, scan.records)
        images = images_apart(comparison, store, scan.records, options.images)
    except NoImagesError as error:
        return _Shown(comparison, notes=[f"no classes and no images: {error}"])
    pictures: list[Path] = []
    notes: list[str] = []
    if options.pictures is not None:
        try:
            pictures = _draw(comparison, images, store, scan.records, options)
        except (NoImagesError, UserError, BadRecordError) as error:
            notes.append(f"no pictures: {error}")
    return _Shown(comparison, classes, images, pictures, notes)


def _draw(
    comparison: Comparison,
    images: Sequence[ImageDifference],
    store: Store,
    records: Mapping[str, RunRecord],
    options: CompareOptions,
) -> list[Path]:
    """Draw images with what the first run of each subject found, and return the files.

    Raises:
        UserError: The data set is not where it was, or another.
        NoImagesError: A run kept no detections.
    """
    # pycocotools comes in here, so that comparing without pictures does without it.
    from benchmarks.leaderboard.statistics.gallery import Gallery, write_picture
    from benchmarks.leaderboard.statistics.tested import truth_of

    assert options.pictures is not None
    rows = comparison.table.rows
    firsts = (done_runs(row, records)[0] for row in rows)
    runs = dict(zip(comparison.names, firsts, strict=True))
    truth = truth_of(store, runs[comparison.names[0]], options.data)
    gallery = Gallery(store, runs, truth)
    written = []
    for place, image in enumerate(images, start=1):
        captions = {
            name: f"{name}  AP {score:.0f} here"
            for name, score in zip(comparison.names, image.scores, strict=True)
        }
        path = options.pictures / f"{place:02d}-image-{image.image_id}.png"
        write_picture(path, gallery.panels(image.image_id, captions))
        written.append(path)
    return written


def _print(
    names: Sequence[str],
    shown: Sequence[_Shown],
    mismatches: Sequence[Mismatch],
    loaded_rates: bool,
) -> None:
    for one in shown:
        for text in (
            *lines_of(one.comparison, loaded_rates),
            *fact_lines(one.comparison),
            *class_lines(one.comparison, one.classes),
            *image_lines(one.comparison, one.images),
            *(f"picture: {path} ({_LEGEND})" for path in one.pictures),
            *(f"note: {note}" for note in (*one.comparison.notes, *one.notes)),
            *(f"verdict: {sentence}" for sentence in one.comparison.verdict),
        ):
            output.line(output.clean(text))
    for mismatch in mismatches:
        for text in mismatch_lines(names, mismatch):
            output.line(output.clean(text))


def _document(shown: Sequence[_Shown], mismatches: Sequence[Mismatch]) -> dict[str, Any]:
    return {
        "comparisons": [
            {
                "names": list(one.comparison.names),
                "table": asdict(one.comparison.table.key),
                **{
                    name: value
                    for name, value in asdict(one.comparison).items()
                    if name not in ("table", "names")
                },
                "classes": [asdict(own) for own in one.classes],
                "images": [asdict(own) for own in one.images],
                "pictures": [str(path) for path in one.pictures],
                "notes": [*one.comparison.notes, *one.notes],
            }
            for one in shown
        ],
        "refused": [asdict(own) for own in mismatches],
    }
