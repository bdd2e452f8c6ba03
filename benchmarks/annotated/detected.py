"""What every measurement of detections by COCO's evaluation reports, and where runs keep it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.by_image.images import ImageFile, ImageResults
from benchmarks.task import Metric
from detection.scoring.matches import MATCHES_FILE

_SCORES = (
    "AP", "AP50", "AP75", "APs", "APm", "APl",
    "AR1", "AR10", "AR100", "ARs", "ARm", "ARl",
)  # fmt: skip
# The twelve numbers of boxes and the twelve of masks (https://cocodataset.org/#detection-eval).
COCO_METRICS: Mapping[str, Metric] = {
    f"{score}{kind}": Metric() for score in _SCORES for kind in ("box", "mask")
}
COCO_HEADLINE = "APbox"
COCO_COLUMNS = ("APbox", "APmask", "AP50box", "AP75box", "APsbox", "APmbox", "APlbox")
# Engines that give the same numbers, the fastest first.
COCO_EVALUATORS = ("hotcoco", "pycocotools")


def _read_matches(path: Path, metrics: Sequence[str]) -> ImageResults:
    # scipy comes in here, so that planning does without it.
    from benchmarks.by_image.detected import read_detected

    return read_detected(path, metrics)


MATCHED_IMAGES = ImageFile(MATCHES_FILE, _read_matches, detections=True)
