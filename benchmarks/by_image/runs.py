"""The resamples of recorded runs: read where a run kept them, else computed and remembered."""

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from backbones.base.errors import PreflightError, UserError
from backbones.base.files import sha256_file
from benchmarks.by_image.files import CORRESPONDENCE_FILE, PREDICTIONS_FILE
from benchmarks.by_image.images import ImageResults, read_image_results
from benchmarks.by_image.resamples import (
    RESAMPLES_FILE,
    Resamples,
    compute_resamples,
    read_resamples,
    write_resamples,
)
from benchmarks.store.folders import Store
from benchmarks.store.record import RunRecord
from detection.scoring.matches import MATCHES_FILE

# The record's number and ours come from the same cells by sums in another order.
_TOLERANCE = 1e-6
_BY_IMAGE = (MATCHES_FILE, PREDICTIONS_FILE, CORRESPONDENCE_FILE)


class NoImagesError(Exception):
    """A run has no results image by image that can be used; the message says why."""


def keep_resamples(
    folder: Path, files: Iterable[Path], task: str, metrics: Iterable[str]
) -> tuple[Path, ...]:
    """Write the resamples of a run that just ended, and return the file; none where it has none.

    Args:
        folder: Gets the file.
        files: Of the run.
        task: Its name.
        metrics: Names of its metrics.

    Raises:
        PreflightError: The file cannot be written.
    """
    results = read_image_results(files, task, metrics)
    if results is None:
        return ()
    write_resamples(folder / RESAMPLES_FILE, compute_resamples(results))
    return (folder / RESAMPLES_FILE,)


def image_results(store: Store, record: RunRecord) -> ImageResults:
    """Return what a recorded run found image by image.

    Args:
        store: Its folder of runs.
        record: Of the run.

    Raises:
        NoImagesError: There is nothing, or it is not what the record says.
    """
    paths = files_of(store, record, _BY_IMAGE)
    try:
        results = read_image_results(paths.values(), record.spec.task, record.metrics)
    except UserError as error:
        raise NoImagesError(str(error)) from error
    if results is None:
        raise NoImagesError(
            "the run kept no results image by image (it is older than they are); "
            "run it again with --rerun all"
        )
    return results


def resamples_of(store: Store, record: RunRecord) -> Resamples:
    """Return a recorded run under every choice of test images.

    Args:
        store: Its folder of runs.
        record: Of the run.

    Raises:
        NoImagesError: As ``image_results``, or its numbers are not those of the record.
    """
    found = _kept(store, record) or _computed(store, record)
    for name, value in found.plain.items():
        known = record.value(name)
        if known is not None and not math.isclose(known, value, rel_tol=_TOLERANCE, abs_tol=1e-9):
            raise NoImagesError(
                f"image by image {name} comes to {value:.4f}, and the record says {known:.4f}"
            )
    return found


def _kept(store: Store, record: RunRecord) -> Resamples | None:
    path = files_of(store, record, (RESAMPLES_FILE,)).get(RESAMPLES_FILE)
    if path is None:
        return None
    # An older format, perhaps; what it was computed from is still there.
    with suppress(UserError):
        return read_resamples(path)
    return None


def _computed(store: Store, record: RunRecord) -> Resamples:
    shas = sorted(str(file["sha256"]) for file in record.files)
    path = store.cache / "resamples" / f"{record.run_id}-{shas[0][:16] if shas else ''}.npz"
    if path.exists():
        try:
            return read_resamples(path)
        except UserError:
            path.unlink(missing_ok=True)
    found = compute_resamples(image_results(store, record))
    # A folder that may only be read still has its statistics.
    with suppress(PreflightError):
        write_resamples(path, found)
    return found


def files_of(store: Store, record: RunRecord, names: Sequence[str]) -> Mapping[str, Path]:
    """Return by name those of a run's files that have one of ``names`` and are there.

    Raises:
        NoImagesError: One is not the file that the record names.
    """
    folder = store.folder(record.run_id).path
    found = {}
    for facts in record.files:
        relative = Path(str(facts["path"]))
        if relative.name not in names or relative.is_absolute() or ".." in relative.parts:
            continue
        path = folder / relative
        if not path.is_file():
            continue
        if path.stat().st_size != facts["bytes"] or sha256_file(path) != facts["sha256"]:
            raise NoImagesError(f"{relative} is not the file that the record names")
        found[path.name] = path
    return found
