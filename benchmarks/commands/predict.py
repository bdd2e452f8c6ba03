"""``run.py predict RUN IMAGES``: the detector of a finished run on any images."""

import logging
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from backbones.base.cores import loader_workers
from backbones.base.errors import PreflightError
from backbones.base.files import write_json_atomically
from backbones.base.images import SUFFIXES
from backbones.base.monitor import Progress, SilentMonitor
from benchmarks import output
from benchmarks.commands.status import open_store
from benchmarks.options import PredictOptions
from benchmarks.work.detectors import (
    NUMBERED,
    FoundDetector,
    RunData,
    annotations_of,
    category_ids_of,
    find_detector,
)
from detection.data.dataset import SPLITS, CocoData
from detection.data.facts import checked
from detection.scoring.results.writing import write_results

RESULTS_FILE, IMAGES_FILE, PICTURES = "results.json", "images.json", "pictures"
_SOME_FAILED = 3
_SECONDS = 5.0


def main(options: PredictOptions) -> int:
    """Run the command.

    Returns:
        0, or 3 if some images could not be read.

    Raises:
        UserError: No run, or more than one, is called so.
        PreflightError: An image does not exist, none can be read, the run kept no state of its last
            step, or the folder cannot be written.
    """
    store = open_store(options.out)
    detector = find_detector(store, options.run, options.plugins)
    paths = list(dict.fromkeys(path for text in options.images for path in _paths(text)))
    own = annotations_of(store, detector, options.data)
    if own is not None:
        own = replace(own, data=_as_trained(own.data, paths, store.cache))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the libraries' own, about each other
        logging.getLogger("torch").setLevel(logging.ERROR)
        return _predict(options, detector, paths, own)


def _predict(
    options: PredictOptions,
    detector: FoundDetector,
    paths: Sequence[Path],
    own: RunData | None,
) -> int:
    # torch is imported only here, so that a mistyped name is reported at once.
    from detection.trained import TrainedRun, predict

    categories = category_ids_of(detector, own)
    samples, faults = _samples(paths, own)
    for fault in faults:
        output.note(output.clean(f"left out: {fault}"))
    run = TrainedRun(**detector.trained())
    found = predict(run, samples, _Teller(), loader_workers())
    written = _write(options, detector, categories, samples, found)
    if own is None:
        output.note(NUMBERED)
    _report(options, found, written, faults)
    return _SOME_FAILED if faults else 0


class _Teller(SilentMonitor):
    """Says now and then how many images are done."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def progress(self, progress: Progress) -> None:
        """Print a line on standard error."""
        if time.monotonic() - self._last > _SECONDS:
            self._last = time.monotonic()
            output.note(f"{progress.step:,} of {progress.num_steps:,} images")


def _paths(text: str) -> Iterator[Path]:
    """Yield the images that an argument stands for, in order of their names.

    Raises:
        PreflightError: There is none.
    """
    path = Path(text).expanduser()
    if path.is_dir():
        found = [p for p in sorted(path.rglob("*")) if p.suffix.lower() in SUFFIXES]
        kind = "images"
    elif path.is_file():
        found = _listed(path) if path.suffix == ".txt" else [path]
        kind = "paths"
    else:
        root = Path(path.anchor)
        found = sorted(p for p in root.glob(str(path.relative_to(root))) if p.is_file())
        kind = "files"
    if not found:
        where = "in it" if path.exists() else "of this name"
        raise PreflightError(
            f"{text}: there are no {kind} {where}; name images, a folder or a pattern."
        )
    yield from found


def _listed(path: Path) -> list[Path]:
    """Return the paths in a text file, relative to it.

    Raises:
        PreflightError: It is not UTF-8 text.
    """
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise PreflightError(f"{path} cannot be read as a list of paths ({error}).") from error
    return [path.parent / line.strip() for line in lines if line.strip()]


def _as_trained(data: CocoData, paths: Sequence[Path], cache: Path) -> CocoData:
    """Return the data of a run with how training read its images, if one of them is asked for."""
    if data.mini or not any(_is_of(data, path) for path in paths):
        return data
    try:
        return checked(data, cache)
    except PreflightError as error:
        output.note(
            f"The data of the run cannot be checked, so the EXIF orientation and the grey levels "
            f"of each image decide how it is read, which may differ from training: {error}"
        )
        return data


def _is_of(data: CocoData, path: Path) -> bool:
    """Return whether an image lies in a folder of a data set."""
    folders = [data.image_folder(split).resolve() for split in SPLITS]
    return any(path.resolve().is_relative_to(folder) for folder in folders)


def _samples(paths: Sequence[Path], own: RunData | None) -> tuple[list[dict[str, Any]], list[str]]:
    """Return dataset dicts in the order of their ids, and what is wrong with other images.

    A validation image of the run's data keeps its id; other images are numbered after the largest.
    All images of the run's data are read as in training.

    Raises:
        PreflightError: No image can be read.
    """
    from detection.trained import sample_of

    images = [] if own is None else own.read.images
    known = {str(Path(image["file_name"]).resolve()): image for image in images}
    number = max((image["image_id"] for image in images), default=0)
    samples, faults = [], []
    for path in paths:
        image = known.get(str(path.resolve()))
        number += image is None
        try:
            reading = own.data.reading() if own is not None and _is_of(own.data, path) else {}
            sample = sample_of(path, number, reading)
        except PreflightError as error:
            faults.append(str(error))
            continue
        samples.append({**sample, **image, "annotations": []} if image is not None else sample)
    if not samples:
        raise PreflightError(f"None of {len(paths)} images can be read: {faults[0]}")
    return sorted(samples, key=lambda sample: int(sample["image_id"])), faults


def _write(
    options: PredictOptions,
    detector: FoundDetector,
    categories: Mapping[int, str],
    samples: Sequence[dict[str, Any]],
    found: Any,
) -> list[Path]:
    """Write results, the list of images, and pictures; return the files and folders."""
    folder = options.folder
    write_results(folder / RESULTS_FILE, found, list(categories))
    listed = {
        "run": detector.record.run_id,
        "entry": detector.record.labels.entry,
        "images": [
            {
                "id": sample["image_id"],
                "file_name": sample["file_name"],
                "width": sample["width"],
                "height": sample["height"],
            }
            for sample in samples
        ],
        "categories": [{"id": number, "name": name} for number, name in categories.items()],
    }
    write_json_atomically(folder / IMAGES_FILE, listed)
    written = [folder / RESULTS_FILE, folder / IMAGES_FILE]
    if not options.no_pictures:
        _draw(options, tuple(categories.values()), samples, found)
        written.append(folder / PICTURES)
    return written


def _draw(
    options: PredictOptions, names: Sequence[str], samples: Sequence[dict[str, Any]], found: Any
) -> None:
    from detection.trained import picture_of

    stems = Counter(Path(sample["file_name"]).stem for sample in samples)
    for sample in samples:
        stem = Path(sample["file_name"]).stem
        name = stem if stems[stem] == 1 else f"{stem}-{sample['image_id']}"
        path = options.folder / PICTURES / f"{name}.png"
        picture_of(path, sample, found, names, options.least_score)


def _report(
    options: PredictOptions, found: Any, written: Sequence[Path], faults: Sequence[str]
) -> None:
    if options.json:
        output.document(
            {
                "exit_code": _SOME_FAILED if faults else 0,
                "images": len(found.image_ids),
                "detections": len(found),
                "written": [str(path) for path in written],
                "left_out": list(faults),
            }
        )
        return
    output.line(
        f"{len(found):,} detections in {len(found.image_ids):,} images: "
        + ", ".join(str(path) for path in written)
    )
