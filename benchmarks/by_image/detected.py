"""The results of a detector on every test image: detections matched with objects."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.by_image.images import Floats, Weights, mean_of_classes
from detection.scoring.matches import DetectionMatches, read_matches
from detection.scoring.resampling import NAMES, resample

_MOST_THREADS = 8


@dataclass(frozen=True)
class Detected:
    """The results of one run of a detector.

    Attributes:
        matches: Its detections, matched with the objects of every test image.
    """

    matches: DetectionMatches

    @property
    def image_ids(self) -> npt.NDArray[np.int64]:
        """(I,) which images they are."""
        return self.matches.image_ids

    def metrics(self, weights: Weights) -> dict[str, Floats]:
        """Return COCO's numbers for each kind of shape, see ``ImageResults``."""
        found: dict[str, Floats] = {}
        for kind in self.matches.kinds:
            means = mean_of_classes(self.by_class(kind, weights))
            found |= {f"{name}{kind}": means[:, n] for n, name in enumerate(NAMES)}
        return found

    def by_class(self, kind: str, weights: Weights) -> Floats:
        """Return COCO's numbers by class, (R, 12, C), see ``detection.scoring.resampling``."""
        threads = min(_MOST_THREADS, len(os.sched_getaffinity(0)))
        return resample(self.matches, kind, weights, threads)


def read_detected(path: Path, metrics: Sequence[str]) -> Detected:
    """Read a file of matches.

    Args:
        path: The file, see ``detection.scoring.matches``.
        metrics: Names of the run's metrics; a file of matches has them all.

    Raises:
        UserError: The file is missing, damaged or of another format.
    """
    del metrics
    return Detected(read_matches(path))
