"""Images with their objects, and with what each of several runs found there."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from backbones.errors import UserError
from backbones.files import write_atomically
from benchmarks.data.mini import mini_data
from benchmarks.data.roots import parse_data
from benchmarks.leaderboard.statistics.images import Detected
from benchmarks.leaderboard.statistics.runs import NoImagesError, image_results
from benchmarks.output import clean
from benchmarks.sweep.record import RunRecord
from benchmarks.sweep.store import Store
from detection.dataset import CocoData, Split, Truth, find_coco, load_truth, read_facts
from detection.detections import DETECTIONS_FILE, Detections, read_detections
from detection.matches import Matches
from detection.pictures import draw, found_shapes, side_by_side, truth_shapes


class Gallery:
    """Draws images of a data set for a few runs.

    Attributes:
        truth: Images, objects and classes.
    """

    def __init__(
        self, store: Store, runs: Mapping[str, RunRecord], data: CocoData, split: Split = "val"
    ) -> None:
        """Read what the runs found.

        Args:
            store: The folder of runs.
            runs: By the name that stands above their panel.
            data: The data set that they were tested on.
            split: Of it.

        Raises:
            NoImagesError: A run kept no matches.
            UserError: The data set or a file of detections cannot be read.
        """
        self.truth: Truth = load_truth(data, split)
        self._images = {image["image_id"]: image for image in self.truth.images}
        self._found: dict[str, tuple[Detections, Matches]] = {}
        for name, record in runs.items():
            results = image_results(store, record)
            path = store.folder(record.run_id).work / DETECTIONS_FILE
            if not isinstance(results, Detected) or not path.is_file():
                raise NoImagesError(f"{name} kept no detections")
            self._found[name] = (read_detections(path), results.matches)

    def panels(self, image_id: int, captions: Mapping[str, str]) -> list[Image.Image]:
        """Return the objects of an image, then what each run found.

        Args:
            image_id: As in the annotations.
            captions: Of runs, by name; their name where there is none.
        """
        image = self._images[image_id]
        path = Path(image["file_name"])
        shapes = truth_shapes(image, self.truth.class_names)
        counted = "1 object" if len(shapes) == 1 else f"{len(shapes)} objects"
        found = [draw(path, shapes, f"image {image_id}: {counted}")]
        for name, (detections, matches) in self._found.items():
            shapes = found_shapes(detections, matches, image_id)
            found.append(draw(path, shapes, clean(captions.get(name, name))))
        return found


def coco_data(store: Store, record: RunRecord, given: Sequence[str]) -> CocoData:
    """Return the data set that a run was tested on.

    Args:
        store: The folder of runs.
        record: Of the run.
        given: What ``--data`` says; else where the run found it.

    Raises:
        UserError: It is not there, or it is another one by now.
        BadRecordError: The run does not say where it was.
    """
    if record.labels.mini:
        return CocoData(record.labels.data, mini_data().coco, mini=True)
    path = parse_data(given).get("coco") or store.folder(record.run_id).read_request().data.path
    if path is None:
        raise UserError("it is not known where the data lie; say it with --data coco=DIR")
    data = find_coco(path, record.labels.data)
    if read_facts(data, store.cache).fingerprint != record.spec.data_fingerprint:
        raise UserError(f"{path} holds other data than the runs were tested on")
    return data


def split_of(record: RunRecord) -> Split:
    """Return the split that a run was tested on."""
    evaluation = record.spec.recipe.get("evaluation", {})
    return "train" if evaluation.get("split") == "train" else "val"


def write_picture(path: Path, panels: Sequence[Image.Image]) -> None:
    """Write panels side by side as a PNG, atomically.

    Raises:
        PreflightError: The file cannot be written.
    """
    row = side_by_side(panels)

    def write(file: BinaryIO) -> None:
        row.save(file, format="PNG", optimize=True)

    write_atomically(path, write)
