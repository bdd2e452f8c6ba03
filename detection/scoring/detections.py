"""What a detector found, image by image: collected, kept in one small file, read again."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from backbones.base.arrays import ArrayFormat
from backbones.base.errors import UserError

DETECTIONS_FILE = "detections.npz"
_FORMAT = ArrayFormat("backbench-detections-1", "detections")


@dataclass(frozen=True)
class ImageDetections:
    """The detections of one image, best first.

    Attributes:
        image_id: As in the annotations.
        height: Of the image file, in pixels.
        width: Of the image file, in pixels.
        boxes: (N, 4) float32 xyxy in pixels of the image file.
        scores: (N,) float32 in [0, 1].
        classes: (N,) int32 class indices from 0.
        masks: N compressed COCO run-length ``counts``, or None where the detector makes none.
    """

    image_id: int
    height: int
    width: int
    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int32]
    masks: list[bytes] | None


@dataclass(frozen=True)
class Detections:
    """The detections of a set of images as columns.

    Attributes:
        image_ids: (I,) int64, ascending; images without detections included.
        sizes: (I, 2) int32 height and width of each image.
        ends: (I,) int64: image i has the rows from ``ends[i - 1]`` (0 for the first) on.
        boxes: (N, 4) float32 xyxy in pixels of the image file.
        scores: (N,) float32, or float64 where another program computed them so.
        classes: (N,) int32 class indices from 0.
        masks: N compressed COCO run-length ``counts``, or None.
        xywh: (N, 4) float64 x, y, width and height as another program wrote them, which is what
            is scored; None where ``boxes`` are what a detector gave.
    """

    image_ids: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int32]
    ends: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.floating[Any]]
    classes: npt.NDArray[np.int32]
    masks: list[bytes] | None
    xywh: npt.NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def rows_images(self) -> npt.NDArray[np.int64]:
        """Position in ``image_ids`` of each row's image."""
        counts = np.diff(self.ends, prepend=0)
        return np.repeat(np.arange(len(self.image_ids)), counts)

    def rles(self) -> list[dict[str, Any]]:
        """Return the masks as COCO run-length dicts.

        Raises:
            ValueError: The detector made no masks.
        """
        if self.masks is None:
            raise ValueError("These detections have no masks.")
        sizes = self.sizes.tolist()
        return [
            {"size": sizes[image], "counts": counts}
            for image, counts in zip(self.rows_images.tolist(), self.masks, strict=True)
        ]


def collect(images: Sequence[ImageDetections]) -> Detections:
    """Put the detections of images, in any order, into columns."""
    images = sorted(images, key=lambda image: image.image_id)
    masked = [image.masks for image in images if image.masks is not None]
    return Detections(
        image_ids=np.array([image.image_id for image in images], dtype=np.int64),
        sizes=np.array([(i.height, i.width) for i in images], dtype=np.int32).reshape(-1, 2),
        ends=np.cumsum([len(image.scores) for image in images], dtype=np.int64),
        boxes=np.concatenate([np.zeros((0, 4), np.float32), *(i.boxes for i in images)]),
        scores=np.concatenate([np.zeros(0, np.float32), *(i.scores for i in images)]),
        classes=np.concatenate([np.zeros(0, np.int32), *(i.classes for i in images)]),
        masks=[m for masks in masked for m in masks] if images and masked else None,
    )


def check(detections: Detections, num_classes: int) -> None:
    """Refuse what evaluation engines would score silently.

    Raises:
        UserError: A score or box is not finite, or a class does not exist.
    """
    wrong = ~np.isfinite(detections.scores) | ~np.isfinite(detections.boxes).all(axis=1)
    if wrong.any():
        image = detections.image_ids[detections.rows_images[int(wrong.argmax())]]
        raise UserError(
            f"{wrong.sum()} detections have a score or box that is no number (first in image "
            f"{image}); the training has diverged, so lower optim.base_lr with --set."
        )
    unknown = (detections.classes < 0) | (detections.classes >= num_classes)
    if unknown.any():
        raise UserError(
            f"{unknown.sum()} detections have a class outside the {num_classes} of the data; "
            "the detector was made for another data set."
        )


def write_detections(path: Path, detections: Detections) -> None:
    """Write detections as a compressed ``.npz``, atomically; equal detections give equal bytes.

    Raises:
        PreflightError: The file cannot be written.
    """
    columns: dict[str, npt.NDArray[Any]] = {
        "image_ids": detections.image_ids,
        "sizes": detections.sizes,
        "ends": detections.ends,
        "boxes": detections.boxes,
        "scores": detections.scores,
        "classes": detections.classes,
    }
    if detections.xywh is not None:
        columns["xywh"] = detections.xywh
    if detections.masks is not None:
        columns["mask_ends"] = np.cumsum([len(m) for m in detections.masks], dtype=np.int64)
        columns["mask_bytes"] = np.frombuffer(b"".join(detections.masks), dtype=np.uint8)
    _FORMAT.write(path, columns)


def read_detections(path: Path) -> Detections:
    """Read what ``write_detections`` wrote.

    Raises:
        UserError: The file is absent, damaged, or something else.
    """
    return _FORMAT.read(path, _parse)


def _parse(columns: dict[str, Any]) -> Detections:
    masks = _split(columns.pop("mask_ends", None), columns.pop("mask_bytes", None))
    return Detections(**columns, masks=masks)


def _split(
    ends: npt.NDArray[np.int64] | None, joined: npt.NDArray[np.uint8] | None
) -> list[bytes] | None:
    """Return the bytes of N masks, cut from (B,) joined ones at (N,) ends; None without masks."""
    if ends is None or joined is None:
        return None
    text, stops = joined.tobytes(), ends.tolist()
    return [text[a:b] for a, b in pairwise([0, *stops])]
