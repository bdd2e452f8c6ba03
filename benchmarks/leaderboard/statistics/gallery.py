"""Images with their objects, and with what each of several runs found there."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from backbones.base.files import atomic_file
from benchmarks.by_image.detected import Detected
from benchmarks.by_image.runs import NoImagesError, image_results
from benchmarks.leaderboard.statistics.tested import detections_of
from benchmarks.output import clean
from benchmarks.store.folders import Store
from benchmarks.store.record import RunRecord
from benchmarks.suites import image_file_of
from detection.data.dataset import Truth
from detection.scoring.detections import Detections
from detection.scoring.matches import DetectionMatches
from detection.scoring.pictures import draw, found_shapes, side_by_side, truth_shapes


class Gallery:
    """Draws test images for a few runs.

    Attributes:
        truth: Images, objects and classes.
    """

    def __init__(self, store: Store, runs: Mapping[str, RunRecord], truth: Truth) -> None:
        """Read what the runs found.

        Args:
            store: The folder of runs.
            runs: By the name that stands above their panel.
            truth: What they were tested on.

        Raises:
            NoImagesError: A run kept no matches or no detections, or others than its record says.
        """
        self.truth = truth
        self._images = {image["image_id"]: image for image in truth.images}
        self._found: dict[str, tuple[Detections, DetectionMatches]] = {}
        for name, record in runs.items():
            results = image_results(store, record, image_file_of(record.spec.task))
            if not isinstance(results, Detected):
                raise NoImagesError(f"{name} kept no matches")
            self._found[name] = (detections_of(store, record), results.matches)

    def panels(self, image_id: int, captions: Mapping[str, str]) -> list[Image.Image]:
        """Return the objects of an image, then what each run found.

        Args:
            image_id: As in the annotations.
            captions: Of runs, by name; their name where there is none.
        """
        image = self._images[image_id]
        shapes = truth_shapes(image, self.truth.class_names)
        counted = "1 object" if len(shapes) == 1 else f"{len(shapes)} objects"
        found = [draw(image, shapes, f"image {image_id}: {counted}")]
        for name, (detections, matches) in self._found.items():
            shapes = found_shapes(detections, matches, image_id)
            found.append(draw(image, shapes, clean(captions.get(name, name))))
        return found


def write_picture(path: Path, panels: Sequence[Image.Image]) -> None:
    """Write panels side by side as a PNG, atomically.

    Raises:
        PreflightError: The file cannot be written.
    """
    row = side_by_side(panels)
    with atomic_file(path) as file:
        row.save(file, format="PNG", optimize=True)
