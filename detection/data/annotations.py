"""COCO annotation files: read, checked, mended where that is harmless.

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
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from detection.data.boxes import XYWH, mend_boxes
from detection.data.findings import Mending
from detection.data.segmentation import check_segmentation, segmentation_area

# Ids travel through float64 columns on their way to the evaluation engines.
_LARGEST_ID = 2**53


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


def read_annotations(path: Path) -> AnnotationFile:
    """Read and check a COCO instances file by the table above.

    Args:
        path: The JSON file.

    Raises:
        PreflightError: Something that the table refuses; the sentence names file and item.
    """
    mending = Mending(path)
    try:
        return _read(path, mending)
    except OverflowError as error:
        raise mending.fault("holds a number too large for pixels or ids") from error


def _read(path: Path, mending: Mending) -> AnnotationFile:
    content = _read_json(path, mending)
    category_ids, class_names = _categories(content["categories"], mending)
    images = _images(content["images"], mending)
    _check_owners(content["annotations"], images, mending)
    classes = {category_id: index for index, category_id in enumerate(category_ids)}
    for annotation in mend_boxes(content["annotations"], images, mending):
        image = images[annotation["image_id"]]
        image["annotations"].append(_annotation(annotation, image, classes, mending))
    has_masks = _settle_masks(images.values(), mending)
    ordered = [images[image_id] for image_id in sorted(images)]
    return AnnotationFile(path, category_ids, class_names, ordered, has_masks, mending.notes())


def _read_json(path: Path, mending: Mending) -> dict[str, list[dict[str, Any]]]:
    """Return the file's three sections, each a list of objects."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise mending.fault(f"cannot be read ({error.strerror})") from error
    if not raw.strip():
        raise mending.fault("is empty")
    try:
        content = json.loads(raw)
    except json.JSONDecodeError as error:
        cut = error.pos >= len(error.doc.rstrip()) - 1 or error.msg.startswith("Unterminated")
        what = "is cut off in the middle" if cut else f"is not JSON ({error})"
        raise mending.fault(f"{what}; copy or export it again") from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise mending.fault("is not JSON text; copy or export it again") from error
    if not isinstance(content, dict):
        raise mending.fault(f"holds a JSON {type(content).__name__}, not a COCO instances object")
    for section in ("images", "annotations", "categories"):
        entries = content.get(section)
        if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
            raise mending.fault(f"has no list {section!r} of objects, as COCO instances files do")
    return content


def _categories(
    entries: list[dict[str, Any]], mending: Mending
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return ids, ascending, and names."""
    if not entries:
        raise mending.fault("has an empty list of categories, so there is nothing to detect")
    _check_ids("categories", entries, mending)
    ordered = sorted(entries, key=lambda entry: int(entry["id"]))
    names = [entry.get("name") for entry in ordered]
    for entry, name in zip(ordered, names, strict=True):
        if not isinstance(name, str) or not name:
            raise mending.fault(f"gives category {entry['id']} no name")
        if names.count(name) > 1:
            raise mending.fault(f"has two categories named {name!r}; rename one")
    return tuple(int(e["id"]) for e in ordered), tuple(str(name) for name in names)


def _images(entries: list[dict[str, Any]], mending: Mending) -> dict[int, dict[str, Any]]:
    """Return the images by id, without annotations yet."""
    if not entries:
        raise mending.fault("lists no images")
    _check_ids("images", entries, mending)
    for entry in entries:
        _check_file_name(entry, mending)
        size: tuple[Any, Any] = (entry.get("width"), entry.get("height"))
        if not all(_is_integer(side) and side > 0 for side in size):
            raise mending.fault(f"gives image {entry['id']} the size {size}, not two pixel counts")
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


def _check_file_name(entry: dict[str, Any], mending: Mending) -> None:
    """Refuse a name that could leave the image folder, whatever the system."""
    name = entry.get("file_name")
    if not isinstance(name, str) or not name or "\0" in name:
        raise mending.fault(f"gives image {entry['id']} no file_name")
    windows = PureWindowsPath(name)
    absolute = PurePosixPath(name).is_absolute() or windows.is_absolute() or windows.drive
    if absolute or ".." in windows.parts:
        raise mending.fault(
            f"names the file {name!r} for image {entry['id']}, which leaves the image folder; "
            "names must be relative and without '..'",
        )


def _check_owners(
    annotations: list[dict[str, Any]], images: dict[int, dict[str, Any]], mending: Mending
) -> None:
    _check_ids("annotations", annotations, mending)
    for annotation in annotations:
        owner = annotation.get("image_id")
        if not _is_integer(owner) or owner not in images:
            raise mending.fault(
                f"has annotation {annotation['id']} for image {owner!r}, which it does not list"
            )


def _check_ids(section: str, entries: list[dict[str, Any]], mending: Mending) -> None:
    """Refuse ids that are missing, no integers, or double."""
    seen: set[int] = set()
    for entry in entries:
        number: Any = entry.get("id")
        if not _is_integer(number) or abs(number) > _LARGEST_ID:
            raise mending.fault(f"has an entry in {section!r} whose id is {number!r}, no number")
        if number in seen:
            raise mending.fault(f"has the id {number} twice in {section!r}")
        seen.add(number)


def _annotation(
    annotation: dict[str, Any],
    image: dict[str, Any],
    classes: dict[int, int],
    mending: Mending,
) -> dict[str, Any]:
    """Return the cleaned annotation, its category as a class."""
    number = annotation["id"]
    category = annotation.get("category_id")
    if not _is_integer(category) or category not in classes:
        raise mending.fault(
            f"has annotation {number} of category {category!r}, which it does not list"
        )
    if annotation.get("iscrowd", 0) not in (0, 1):
        raise mending.fault(f"has annotation {number} with iscrowd {annotation['iscrowd']!r}")
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
            lambda fault: mending.fault(f"has annotation {number} with {fault}"),
        )
        clean["segmentation"] = segmentation
        if num_dropped:
            mending.mended("polygons with fewer than three points, dropped", number)
    clean["area"] = _area(annotation, clean, image, mending)
    return clean


def _area(
    annotation: dict[str, Any], clean: dict[str, Any], image: dict[str, Any], mending: Mending
) -> float:
    area: Any = annotation.get("area")
    if _is_number(area) and math.isfinite(area) and area >= 0:
        return float(area)
    mending.mended("areas missing or impossible, computed", clean["id"])
    if "segmentation" in clean:
        return segmentation_area(clean["segmentation"], image["height"], image["width"])
    return float(clean["bbox"][2] * clean["bbox"][3])


def _settle_masks(images: Iterable[dict[str, Any]], mending: Mending) -> bool:
    """Return whether the set has masks; if only some objects have them, nobody keeps them."""
    annotations = [a for image in images for a in image["annotations"]]
    objects = [a for a in annotations if not a["iscrowd"]]
    without = [a for a in objects if "segmentation" not in a]
    if objects and not without:
        return True
    if len(without) < len(objects):
        for annotation in without:
            mending.mended("objects without a mask, so all masks are left aside", annotation["id"])
    for annotation in annotations:
        annotation.pop("segmentation", None)
    return False


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
