"""Which detections match which objects: all that COCO's numbers need, kept in one small file.

With it every number can be computed anew for any choice of images, without the data set, the
masks, or another match.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from backbones.base.arrays import ArrayFormat

MATCHES_FILE = "matches.npz"
_FORMAT = ArrayFormat("backbench-matches-1", "matches")

# COCO's axes (pycocotools ``Params.setDetParams``).
IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
# Squared pixels of all, small, medium and large objects, both ends included.
AREAS = ((0.0, 1e10), (0.0, 32.0**2), (32.0**2, 96.0**2), (96.0**2, 1e10))
# Detections that count in an image and class, unless a detector is asked for more.
MOST_DETECTIONS = 100
_CELLS = (len(AREAS), len(IOUS))


@dataclass(frozen=True)
class KindMatches:
    """How detections of one kind, boxes or masks, fared.

    Attributes:
        matched: (N, 4, 10) bool, at each area and IoU: the detection has an object.
        ignored: (N, 4, 10) bool: it counts neither as right nor as wrong.
    """

    matched: npt.NDArray[np.bool_]
    ignored: npt.NDArray[np.bool_]

    @cached_property
    def right(self) -> npt.NDArray[np.bool_]:
        """(N, 4, 10): it counts as right."""
        return self.matched & ~self.ignored


@dataclass(frozen=True)
class DetectionMatches:
    """An evaluation before any number is computed.

    Detections stand in the order of class, image, score (best first); of equal ones the earlier
    one stays in front. Those beyond ``most`` of an image and class are left out.

    Attributes:
        image_ids: (I,) int64, ascending; images without anything included.
        class_names: In order of the class index.
        images: (N,) int32 position of each detection's image.
        classes: (N,) int32 class indices from 0.
        scores: (N,) float32 or float64, as the detections have them.
        object_images: (M,) int32 position of the image of each object that is no crowd.
        object_classes: (M,) int32 class indices from 0.
        object_sizes: (M, 4) bool: the object is of that area.
        kinds: "box" and, where both sides have masks, "mask".
        most: Detections that count in an image and class.
    """

    image_ids: npt.NDArray[np.int64]
    class_names: tuple[str, ...]
    images: npt.NDArray[np.int32]
    classes: npt.NDArray[np.int32]
    scores: npt.NDArray[np.floating[Any]]
    object_images: npt.NDArray[np.int32]
    object_classes: npt.NDArray[np.int32]
    object_sizes: npt.NDArray[np.bool_]
    kinds: Mapping[str, KindMatches]
    most: int = MOST_DETECTIONS

    @cached_property
    def places(self) -> npt.NDArray[np.int64]:
        """(N,) place of each detection among those of its image and class, from 0."""
        return places_within(self.classes, self.images)


def places_within(classes: npt.NDArray[Any], images: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return each row's place in its run of equal class and image.

    Args:
        classes: (N,) ascending.
        images: (N,) ascending within a class.
    """
    new = np.ones(len(classes), dtype=bool)
    new[1:] = (classes[1:] != classes[:-1]) | (images[1:] != images[:-1])
    starts = np.flatnonzero(new)
    lengths = np.diff(np.append(starts, len(classes)))
    found: npt.NDArray[np.int64] = np.arange(len(classes)) - np.repeat(starts, lengths)
    return found


def write_matches(path: Path, matches: DetectionMatches) -> None:
    """Write a compressed ``.npz``, atomically; equal matches give equal bytes.

    Raises:
        PreflightError: The file cannot be written.
    """
    columns: dict[str, Any] = {
        "image_ids": matches.image_ids,
        "class_names": np.array(matches.class_names, dtype=np.str_),
        "images": matches.images,
        "classes": matches.classes,
        "scores": matches.scores,
        "object_images": matches.object_images,
        "object_classes": matches.object_classes,
        "object_sizes": matches.object_sizes,
    }
    if matches.most != MOST_DETECTIONS:
        columns["most"] = np.array(matches.most, dtype=np.int32)
    for name, kind in matches.kinds.items():
        columns[f"{name}/matched"] = _pack(kind.matched)
        columns[f"{name}/ignored"] = _pack(kind.ignored)
    _FORMAT.write(path, columns)


def read_matches(path: Path) -> DetectionMatches:
    """Read what ``write_matches`` wrote.

    Raises:
        UserError: The file is absent, damaged, or something else.
    """
    return _FORMAT.read(path, _parse)


def _parse(columns: dict[str, Any]) -> DetectionMatches:
    names = [name for name in ("box", "mask") if f"{name}/matched" in columns]
    count = len(columns["scores"])
    kinds = {
        name: KindMatches(
            _unpack(columns.pop(f"{name}/matched"), count),
            _unpack(columns.pop(f"{name}/ignored"), count),
        )
        for name in names
    }
    class_names = tuple(map(str, columns.pop("class_names")))
    most = int(columns.pop("most", MOST_DETECTIONS))
    return DetectionMatches(**columns, class_names=class_names, kinds=kinds, most=most)


def _pack(cells: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Return (N, 4, 10) cells as bits, eight a byte, (N, 5)."""
    # Said in full: numpy cannot work out what is left of no cells at all.
    return np.packbits(cells.reshape(len(cells), _CELLS[0] * _CELLS[1]), axis=1)


def _unpack(packed: npt.NDArray[np.uint8], count: int) -> npt.NDArray[np.bool_]:
    """Return the cells, (N, 4, 10), of what ``_pack`` made, (N, 5), with N the count."""
    cells = np.unpackbits(packed, axis=1, count=_CELLS[0] * _CELLS[1]).astype(bool)
    return cells.reshape(count, *_CELLS)
