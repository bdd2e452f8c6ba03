"""Detections as a results file of COCO's format."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from backbones.base.files import atomic_file, cannot_write
from detection.scoring.cocoeval import xywh_of
from detection.scoring.detections import Detections


def write_results(path: Path, detections: Detections, category_ids: Sequence[int]) -> None:
    """Write detections so that every number comes back to the last bit.

    Args:
        path: The JSON file.
        detections: Of all images.
        category_ids: The annotation file's ids, in order of the class index.

    Raises:
        PreflightError: The file cannot be written.
    """
    try:
        with atomic_file(path) as file:
            start = b"["
            for entry in result_entries(detections, category_ids):
                file.write(start + json.dumps(entry, allow_nan=False).encode("ascii"))
                start = b",\n"
            file.write(b"]\n" if start != b"[" else b"[]\n")
    except OSError as error:
        raise cannot_write(path, error) from error


def result_entries(
    detections: Detections, category_ids: Sequence[int]
) -> Iterator[dict[str, object]]:
    """Yield each detection as COCO's format has it; see ``write_results``."""
    boxes = xywh_of(detections)
    sizes = detections.sizes.tolist()
    ids = detections.image_ids.tolist()
    for row, image in enumerate(detections.rows_images.tolist()):
        entry: dict[str, object] = {
            "image_id": ids[image],
            "category_id": category_ids[int(detections.classes[row])],
            "bbox": boxes[row].tolist(),
            "score": float(detections.scores[row]),
        }
        if detections.masks is not None:
            counts = detections.masks[row].decode("ascii")
            entry["segmentation"] = {"size": sizes[image], "counts": counts}
        yield entry
