"""COCO annotation files: read, checked, mended where that is harmless. Imports no torch.

A lie about the structure is refused, because every way to guess what was meant changes the score.
A blemish that every COCO tool lives with, and that real COCO files have, is mended and counted.

====================================================  =============================================
refused (``PreflightError``, one sentence)            mended, with a counted note
====================================================  =============================================
absent, empty, cut off, not JSON, not a JSON object   missing ``iscrowd``: 0
no ``images``, ``annotations`` or ``categories``      missing or impossible ``area``: of the mask,
ids that are missing, no integers, or double            else of the box
two categories of one name                            box without width or height: dropped
``file_name`` absolute or with ``..``                   (COCO train2017 holds such)
sizes of images that are no positive integers         box beyond the image by more than a pixel:
annotation of an unknown image or category              clipped
box absent, NaN, negative in size, or wholly          polygon with fewer than three points beside
  outside its image                                     sound ones: dropped
mask whose polygons all have fewer than three         masks on some objects only: the set counts
  points, an odd count of numbers, NaN                  as boxes only
RLE whose size is not the image's, or whose runs
  do not add up to it
====================================================  =============================================
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import numpy.typing as npt

from backbones.errors import PreflightError
from detection.segmentation import check_segmentation, segmentation_area

# COCO rounds boxes to 0.01 pixels, so an honest box may end just beyond its image.
BOX_TOLERANCE = 1.0


@dataclass(frozen=True)
class AnnotationFile:
    """A checked COCO instances file.

    Attributes:
        path: Where it was read.
        category_ids: Ids as the file has them, ascending, gaps included.
        class_names: Their names; the position in both tuples is the class of a detector.
        images: One dict per image in order of its id: ``image_id``, ``file_name`` (relative),
            ``height``, ``width``, ``annotations``. An annotation has ``id``, ``bbox`` (x, y,
            width, height in pixels), ``category_id`` (the class, from 0), ``iscrowd``, ``area``
            and, where the set has masks, ``segmentation``.
        has_masks: Every object that is no crowd has a mask.
        notes: What was mended, one sentence each.
    """

    path: Path
    category_ids: tuple[int, ...]
    class_names: tuple[str, ...]
    images: list[dict[str, Any]]
    has_masks: bool
    notes: tuple[str, ...]


@dataclass
class _Mended:
    """Counts of what was mended, with the first annotation id of each kind."""

    counts: dict[str, int] = field(default_factory=dict)
    first: dict[str, int] = field(default_factory=dict)

    def add(self, what: str, annotation_id: int) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1
        self.first.setdefault(what, annotation_id)

    def notes(self, path: Path) -> tuple[str, ...]:
        return tuple(
            f"{path.name}: {what}: {count} (first: annotation {self.first[what]})."
            for what, count in self.counts.items()
        )


def read_annotations(path: Path) -> AnnotationFile:
    """Read and check a COCO instances file by the table above.

    Args:
        path: The JSON file.

    Raises:
        PreflightError: Something that the table refuses; the sentence names file and item.
    """
    content = _read_json(path)
    category_ids, class_names = _categories(path, content["categories"])
    images = _images(path, content["images"])
    annotations = content["annotations"]
    _check_ids(path, "annotations", annotations)
    mended = _Mended()
    annotations = _with_boxes(path, annotations, images, mended)
    classes = {category_id: index for index, category_id in enumerate(category_ids)}
    for annotation in annotations:
        image = images[annotation["image_id"]]
        image["annotations"].append(_annotation(path, annotation, image, classes, mended))
    has_masks = _settle_masks(images.values(), mended)
    ordered = [images[image_id] for image_id in sorted(images)]
    return AnnotationFile(path, category_ids, class_names, ordered, has_masks, mended.notes(path))


def _read_json(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the file's three sections, each a list of objects."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise _fault(path, f"cannot be read ({error.strerror})") from error
    if not raw.strip():
        raise _fault(path, "is empty")
    try:
        content = json.loads(raw)
    except json.JSONDecodeError as error:
        cut = error.pos >= len(error.doc.rstrip()) - 1 or error.msg.startswith("Unterminated")
        what = "is cut off in the middle" if cut else f"is not JSON ({error})"
        raise _fault(path, f"{what}; copy or export it again") from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise _fault(path, "is not JSON text; copy or export it again") from error
    if not isinstance(content, dict):
        raise _fault(path, f"holds a JSON {type(content).__name__}, not a COCO instances object")
    for section in ("images", "annotations", "categories"):
        entries = content.get(section)
        if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
            raise _fault(path, f"has no list {section!r} of objects, as COCO instances files do")
    return content


def _categories(
    path: Path, entries: list[dict[str, Any]]
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return ids, ascending, and names."""
    if not entries:
        raise _fault(path, "has an empty list of categories, so there is nothing to detect")
    _check_ids(path, "categories", entries)
    ordered = sorted(entries, key=lambda entry: int(entry["id"]))
    names = [entry.get("name") for entry in ordered]
    for entry, name in zip(ordered, names, strict=True):
        if not isinstance(name, str) or not name:
            raise _fault(path, f"gives category {entry['id']} no name")
        if names.count(name) > 1:
            raise _fault(path, f"has two categories named {name!r}; rename one")
    return tuple(int(e["id"]) for e in ordered), tuple(str(name) for name in names)


def _images(path: Path, entries: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """Return the images by id, without annotations yet."""
    if not entries:
        raise _fault(path, "lists no images")
    _check_ids(path, "images", entries)
    for entry in entries:
        _check_file_name(path, entry)
        size: tuple[Any, Any] = (entry.get("width"), entry.get("height"))
        if not all(_is_integer(side) and side > 0 for side in size):
            raise _fault(path, f"gives image {entry['id']} the size {size}, not two pixel counts")
    return {
        entry["id"]: {
            "image_id": entry["id"],
            "file_name": entry["file_name"],
            "height": entry["height"],
            "width": entry["width"],
            "annotations": [],
        }
        for entry in entries
    }


def _check_file_name(path: Path, entry: dict[str, Any]) -> None:
    """Refuse a name that could leave the image folder, whatever the system."""
    name = entry.get("file_name")
    if not isinstance(name, str) or not name:
        raise _fault(path, f"gives image {entry['id']} no file_name")
    windows = PureWindowsPath(name)
    absolute = PurePosixPath(name).is_absolute() or windows.is_absolute() or windows.drive
    if absolute or ".." in windows.parts:
        raise _fault(
            path,
            f"names the file {name!r} for image {entry['id']}, which leaves the image folder; "
            "names must be relative and without '..'",
        )


def _check_ids(path: Path, section: str, entries: list[dict[str, Any]]) -> None:
    """Refuse ids that are missing, no integers, or double."""
    seen: set[int] = set()
    for entry in entries:
        number: Any = entry.get("id")
        if not _is_integer(number):
            raise _fault(path, f"has an entry in {section!r} whose id is {number!r}, no integer")
        if number in seen:
            raise _fault(path, f"has the id {number} twice in {section!r}")
        seen.add(number)


def _with_boxes(
    path: Path,
    annotations: list[dict[str, Any]],
    images: dict[int, dict[str, Any]],
    mended: _Mended,
) -> list[dict[str, Any]]:
    """Check all boxes at once, clip them, and drop the empty ones."""
    if not annotations:
        return []
    for annotation in annotations:
        if annotation.get("image_id") not in images:
            raise _fault(
                path,
                f"has annotation {annotation['id']} for image {annotation.get('image_id')!r}, "
                "which it does not list",
            )
    boxes = _box_array(path, annotations)
    owners = [images[annotation["image_id"]] for annotation in annotations]
    sides = np.array([(image["width"], image["height"]) for image in owners], dtype=np.float64)
    low, size = boxes[:, :2], boxes[:, 2:]
    high = low + size
    empty = _any(size == 0)
    outside = ~empty & _any((low >= sides) | (high <= 0))
    _refuse(path, annotations, _any(~np.isfinite(boxes)), "a box that is not finite")
    _refuse(path, annotations, _any(size < 0), "a box of negative width or height")
    _refuse(path, annotations, outside, "a box outside its image")
    beyond = _any((low < -BOX_TOLERANCE) | (high > sides + BOX_TOLERANCE))
    kept = []
    for index, annotation in enumerate(annotations):
        if empty[index]:
            mended.add("boxes without width or height, dropped", annotation["id"])
            continue
        if beyond[index]:
            mended.add("boxes beyond their image, clipped", annotation["id"])
            corner = np.maximum(low[index], 0)
            extent = np.minimum(high[index], sides[index]) - corner
            annotation = {**annotation, "bbox": [*corner.tolist(), *extent.tolist()]}
        kept.append(annotation)
    return kept


def _box_array(path: Path, annotations: list[dict[str, Any]]) -> npt.NDArray[np.float64]:
    for annotation in annotations:
        box = annotation.get("bbox")
        if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
            raise _fault(
                path, f"has annotation {annotation['id']} with the box {box!r}, not four numbers"
            )
    return np.array([annotation["bbox"] for annotation in annotations], dtype=np.float64)


def _any(wrong: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return for each box whether any of its numbers is wrong."""
    return np.asarray(wrong.any(axis=1))


def _refuse(
    path: Path, annotations: list[dict[str, Any]], wrong: npt.NDArray[np.bool_], what: str
) -> None:
    """Refuse the file if any annotation is wrong, naming the first and counting the rest."""
    if wrong.any():
        first = annotations[int(wrong.argmax())]
        raise _fault(
            path,
            f"has {what}: annotation {first['id']} with {first['bbox']}"
            + (f", and {wrong.sum() - 1} more" if wrong.sum() > 1 else ""),
        )


def _annotation(
    path: Path,
    annotation: dict[str, Any],
    image: dict[str, Any],
    classes: dict[int, int],
    mended: _Mended,
) -> dict[str, Any]:
    """Return the cleaned annotation, its category as a class."""
    number = annotation["id"]
    category = annotation.get("category_id")
    if not _is_integer(category) or category not in classes:
        raise _fault(
            path, f"has annotation {number} of category {category!r}, which it does not list"
        )
    if annotation.get("iscrowd", 0) not in (0, 1):
        raise _fault(path, f"has annotation {number} with iscrowd {annotation['iscrowd']!r}")
    clean = {
        "id": number,
        "bbox": annotation["bbox"],
        "bbox_mode": XYWH,
        "category_id": classes[category],
        "iscrowd": int(annotation.get("iscrowd", 0)),
    }
    if annotation.get("segmentation"):
        segmentation, num_dropped = check_segmentation(
            annotation["segmentation"],
            image["height"],
            image["width"],
            lambda fault: _fault(path, f"has annotation {number} with {fault}"),
        )
        clean["segmentation"] = segmentation
        if num_dropped:
            mended.add("polygons with fewer than three points, dropped", number)
    clean["area"] = _area(annotation, clean, image, mended)
    return clean


# detectron2's BoxMode.XYWH_ABS as a plain number, because importing it imports torch.
XYWH = 1


def _area(
    annotation: dict[str, Any], clean: dict[str, Any], image: dict[str, Any], mended: _Mended
) -> float:
    area: Any = annotation.get("area")
    if _is_number(area) and np.isfinite(area) and area >= 0:
        return float(area)
    mended.add("areas missing or impossible, computed", clean["id"])
    if "segmentation" in clean:
        return segmentation_area(clean["segmentation"], image["height"], image["width"])
    return float(clean["bbox"][2] * clean["bbox"][3])


def _settle_masks(images: Iterable[dict[str, Any]], mended: _Mended) -> bool:
    """Return whether the set has masks; if only some objects have them, nobody keeps them."""
    annotations = [a for image in images for a in image["annotations"]]
    objects = [a for a in annotations if not a["iscrowd"]]
    without = [a for a in objects if "segmentation" not in a]
    if objects and not without:
        return True
    if len(without) < len(objects):
        for annotation in without:
            mended.add("objects without a mask, so all masks are left aside", annotation["id"])
    for annotation in annotations:
        annotation.pop("segmentation", None)
    return False


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _fault(path: Path, what: str) -> PreflightError:
    return PreflightError(f"The annotation file {path} {what}.")
