"""The resamples of recorded runs: read where a run kept them, else computed and remembered."""

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from backbones.base.errors import PreflightError, UserError
from backbones.base.files import sha256_file
from benchmarks.by_image.images import ImageFile, ImageResults
from benchmarks.by_image.resamples import (
    RESAMPLES_FILE,
    Resamples,
    compute_resamples,
    read_resamples,
    write_resamples,
)
from benchmarks.store.folders import Store
from benchmarks.store.record import RunRecord

# The record's number and ours come from the same cells by sums in another order.
_TOLERANCE = 1e-6


class NoImagesError(Exception):
    """A run has no results image by image that can be used; the message says why."""


def keep_resamples(
    folder: Path, files: Iterable[Path], kept: ImageFile | None, metrics: Iterable[str]
) -> tuple[Path, ...]:
    """Write the resamples of a run that just ended.

    Args:
        folder: Folder that gets the file.
        files: Files that the run wrote.
        kept: The one that keeps results by image, see ``Task.image_file``.
        metrics: Names of the run's metrics.

    Returns:
        The file; nothing if the run kept no results by image.

    Raises:
        PreflightError: The file cannot be written.
    """
    found = [path for path in files if kept is not None and path.name == kept.name]
    if kept is None or not found:
        return ()
    results = kept.read(found[0], tuple(metrics))
    write_resamples(folder / RESAMPLES_FILE, compute_resamples(results))
    return (folder / RESAMPLES_FILE,)


def image_results(store: Store, record: RunRecord, kept: ImageFile | None) -> ImageResults:
    """Return the results by image of a recorded run.

    Args:
        store: The folder of runs.
        record: The run's record.
        kept: The file that keeps such results in its task, see ``Task.image_file``.

    Raises:
        NoImagesError: The run has no such file, or the file is not what the record says.
    """
    if kept is None:
        raise NoImagesError(f"the task {record.spec.task} keeps no results by image")
    path = files_of(store, record, (kept.name,)).get(kept.name)
    if path is None:
        raise NoImagesError(
            "the run was recorded before results by image existed; run it again with --rerun all"
        )
    try:
        return kept.read(path, tuple(record.metrics))
    except UserError as error:
        raise NoImagesError(_without_folder(error, path)) from error


def resamples_of(store: Store, record: RunRecord, kept: ImageFile | None) -> Resamples:
    """Return the metrics of a recorded run under every choice of test images.

    Args:
        store: The folder of runs.
        record: The run's record.
        kept: The file that keeps results by image in its task, see ``Task.image_file``.

    Raises:
        NoImagesError: As ``image_results``, or its numbers are not those of the record.
    """
    found = _kept(store, record, kept) or _computed(store, record, kept)
    for name, value in found.plain.items():
        known = record.value(name)
        if known is not None and not math.isclose(known, value, rel_tol=_TOLERANCE, abs_tol=1e-9):
            raise NoImagesError(
                f"image by image {name} comes to {value:.4f}, and the record says {known:.4f}"
            )
    return found


def _kept(store: Store, record: RunRecord, kept: ImageFile | None) -> Resamples | None:
    path = files_of(store, record, (RESAMPLES_FILE,)).get(RESAMPLES_FILE)
    if path is None:
        return None
    try:
        return read_resamples(path)
    except UserError as fault:
        # An older format, perhaps; what it was computed from may still be there.
        try:
            return _computed(store, record, kept)
        except NoImagesError as error:
            raise NoImagesError(_without_folder(fault, path)) from error


def _computed(store: Store, record: RunRecord, kept: ImageFile | None) -> Resamples:
    shas = sorted(file.sha256 for file in record.files)
    path = store.cache / "resamples" / f"{record.run_id}-{shas[0][:16] if shas else ''}.npz"
    if path.exists():
        try:
            return read_resamples(path)
        except UserError:
            path.unlink(missing_ok=True)
    found = compute_resamples(image_results(store, record, kept))
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
        relative = Path(facts.path)
        if relative.name not in names or relative.is_absolute() or ".." in relative.parts:
            continue
        path = folder / relative
        if not path.is_file():
            continue
        if path.stat().st_size != facts.bytes or sha256_file(path) != facts.sha256:
            raise NoImagesError(f"{relative} is not the file that the record names")
        found[path.name] = path
    return found


def _without_folder(error: UserError, path: Path) -> str:
    """Return an error about a file without its folder, which tables for others show too."""
    return str(error).replace(str(path), path.name)
