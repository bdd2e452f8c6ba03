"""A thousand resamples of a COCO evaluation: the match, then all twelve numbers.

::

    python benchmarks/perf/bootstrap_speed.py             # 5,000 images, 1,000 resamples
    python benchmarks/perf/bootstrap_speed.py 500 100     # 500 images, 100 resamples

100 detections an image, 80 classes. Beside it stands what as many real evaluations would take by
the time of one, with the fastest engine there is.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.by_image.images import mean_of_classes
from benchmarks.by_image.resamples import choices
from benchmarks.perf.evaluation_speed import make_data
from detection.data.dataset import CocoData, load_truth
from detection.scoring.cocoeval import get_engine
from detection.scoring.detections import read_detections
from detection.scoring.matches import MATCHES_FILE, read_matches, write_matches
from detection.scoring.matching import match
from detection.scoring.resampling import resample

_IMAGES, _RESAMPLES = 5_000, 1_000


def main(args: list[str]) -> None:
    """Measure once.

    Args:
        args: Number of images, then of resamples; both may be left out.
    """
    num_images = int(args[0]) if args else _IMAGES
    count = int(args[1]) if len(args) > 1 else _RESAMPLES
    threads = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_data(folder, num_images)
        truth = load_truth(CocoData("synthetic", folder), "val")
        detections = read_detections(folder / "detections.npz")
        start = time.perf_counter()
        get_engine("hotcoco")(truth, detections, "bbox")
        once = time.perf_counter() - start
        start = time.perf_counter()
        matches = match(truth, detections)
        print(f"match, boxes and masks: {time.perf_counter() - start:.1f} s")
        path = folder / MATCHES_FILE
        start = time.perf_counter()
        write_matches(path, matches)
        seconds = time.perf_counter() - start
        print(f"file of matches: {path.stat().st_size / 1e6:.1f} MB in {seconds:.1f} s")
        matches = read_matches(path)
    total = 0.0
    for kind in matches.kinds:
        start = time.perf_counter()
        parts = [
            mean_of_classes(resample(matches, kind, w, threads)) for w in choices(num_images, count)
        ]
        seconds = time.perf_counter() - start
        total += seconds
        spread = np.nanstd(np.concatenate(parts)[:, 0])
        print(f"{count} resamples, {kind}, {threads} threads: {seconds:.1f} s (AP +- {spread:.2f})")
    print(f"{count} resamples, boxes and masks together: {total:.1f} s")
    print(f"{count} real evaluations of boxes: {once * count:.0f} s at {once:.2f} s each (hotcoco)")


if __name__ == "__main__":
    main(sys.argv[1:])
