"""The file in which a run keeps the accuracy and the distance of every test image."""

from collections.abc import Sequence
from pathlib import Path

from backbones.base.arrays import ArrayFormat
from benchmarks.by_image.images import Averaged, ImageFile

# ``indices`` (I,): numbers of the test images in their sorted split. ``accuracy`` (I,): share of an
# image's pairs that are right, 0 to 1. ``pixels`` (I,): mean distance of the pairs.
CORRESPONDENCE = ArrayFormat("backbench-correspondence-1", "correspondences")


def _read(path: Path, metrics: Sequence[str]) -> Averaged:
    del metrics
    columns = CORRESPONDENCE.read(path, dict)
    values = {
        "correspondence_accuracy": 100 * columns["accuracy"],
        "correspondence_distance": columns["pixels"],
    }
    return Averaged(columns["indices"], values)


IMAGE_FILE = ImageFile("correspondence.npz", _read)
