"""COCO annotation files: read, checked, mended where that is harmless.

A lie about the structure is refused, because every way to guess what was meant changes the score.
A blemish that every COCO tool lives with, and that real COCO files have, is mended and counted.

=================================================  ===============================================
refused (``PreflightError``, one sentence)         fixed, with a counted note
=================================================  ===============================================
absent, empty, cut off, not JSON, not an object    missing ``iscrowd``: 0
no ``images``, ``annotations`` or ``categories``   missing, impossible or placeholder ``area``:
ids that are missing, no integers, or double         of the mask, else of the box
two categories of one name                         category that only names Roboflow's group:
``file_name`` absolute or with ``..``                dropped
sizes of images that are no positive integers      box without width or height: dropped
annotation of an unknown image or category           (COCO train2017 has such boxes)
box absent, NaN or negative in size                box outside its image: dropped
boxes that look like corners, centres or shares    box beyond the image by over a pixel: clipped
masks that are broken or contradict their box,     polygon with fewer than three points next to
  beyond the share in ``findings``                   valid ones: dropped
                                                   polygon with a corner far outside: cut off
                                                   few masks absent, broken or away from their
                                                     box: the box as mask
                                                   many masks absent: the set is boxes only
=================================================  ===============================================
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backbones.base.reading import reading
from backbones.base.wording import first_of, quoted
from detection.data.boxes import XYWH, mend_boxes
from detection.data.contents import stays_inside
from detection.data.findings import BROKEN_MASK, FAR, GROUPS, SHORT, Mending
from detection.data.json_sections import read_sections
from detection.data.segmentation import BrokenMaskError, check_segmentation, misformed
from detection.truth.areas import compare_areas
from detection.truth.comparison import compare_masks, rectangle
from detection.truth.remarks import remark
from detection.truth.repeats import examine_repeats

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
        notes: What was fixed, one sentence each.
        without_masks: What stands in place of masks, where none has a mask and that is not the
            usual [] or nothing; else empty.
    """

    path: Path
    category_ids: tuple[int, ...]
    class_names: tuple[str, ...]
    images: list[dict[str, Any]]
    has_masks: bool
    notes: tuple[str, ...]
    without_masks: str = ""


def read_annotations(
    path: Path, *, classes: Sequence[str] = (), crowds_are_objects: bool = False
) -> AnnotationFile:
    """Read and check a COCO instances file by the table above.

    Args:
        path: The JSON file.
        classes: Classes to keep, in the order of a detector's index; empty for all.
        crowds_are_objects: Take ``iscrowd`` 1 for 0.

    Raises:
        PreflightError: Something that the table refuses; the sentence names file and item.
    """
    mending = Mending(path)
    try:
        with reading(str(path)):
            return _read(path, mending, classes, crowds_are_objects)
    except OverflowError as error:
        raise mending.fault("holds a number too large for pixels or ids") from error


def _read(
    path: Path, mending: Mending, chosen: Sequence[str], crowds_are_objects: bool
) -> AnnotationFile:
    content = read_sections(path, mending)
    if crowds_are_objects:
        for annotation in content["annotations"]:
            annotation["iscrowd"] = 0
    kinds = _without_groups(content["categories"], content["annotations"], mending)
    category_ids, class_names = _categories(kinds, mending)
    if chosen:
        content["annotations"], category_ids, class_names = _keep_classes(
            content["annotations"],
            dict(zip(class_names, category_ids, strict=True)),
            chosen,
            mending,
        )
    images = _images(content["images"], mending)
    _check_owners(content["annotations"], images, mending)
    classes = {category_id: index for index, category_id in enumerate(category_ids)}
    kept, uncut = mend_boxes(content["annotations"], images, mending)
    pairs = [(_annotation(a, classes, mending), images[a["image_id"]]) for a in kept]
    examine_repeats(pairs, mending)
    _read_masks(kept, pairs, mending)
    masked = any("segmentation" in clean for clean, _ in pairs)
    objects = [(clean, image) for clean, image in pairs if not clean["iscrowd"]]
    has_masks = compare_masks(objects, mending)
    if not has_masks:
        for clean, _ in pairs:
            clean.pop("segmentation", None)
    compare_areas(pairs, [a.get("area") for a in kept], uncut, mending)
    for clean, image in pairs:
        image["annotations"].append(clean)
    remark(content, pairs, mending)
    ordered = [images[image_id] for image_id in sorted(images)]
    notes = mending.notes()
    lacking = "" if masked else _forms(kept)
    return AnnotationFile(path, category_ids, class_names, ordered, has_masks, notes, lacking)


def _forms(annotations: Sequence[dict[str, Any]]) -> str:
    """Return how annotations without masks write that, such as "null in 3, [] in 7".

    Empty where all leave ``segmentation`` out or have [], as files with boxes only are written:
    anything else may be masks that an exporter lost.
    """
    counts = Counter(
        quoted(a["segmentation"]).replace("None", "null") if "segmentation" in a else "absent"
        for a in annotations
    )
    if set(counts) <= {"absent", "[]"}:
        return ""
    return first_of([f"{form} in {count:,}" for form, count in counts.most_common()])


def _without_groups(
    entries: list[dict[str, Any]], annotations: list[dict[str, Any]], mending: Mending
) -> list[dict[str, Any]]:
    """Return the categories without those that name a group of others, as Roboflow writes them.

    They have no objects and no supercategory, and the name of a class.
    """
    used = {str(annotation.get("category_id")) for annotation in annotations}
    names = [str(entry.get("name")) for entry in entries]
    kept = []
    for entry in entries:
        above = entry.get("supercategory") in ("none", "", None)
        twin = names.count(str(entry.get("name"))) > 1
        if twin and above and "supercategory" in entry and str(entry.get("id")) not in used:
            mending.mended(GROUPS, entry.get("id", 0))
        else:
            kept.append(entry)
    return kept


def _keep_classes(
    annotations: list[dict[str, Any]],
    known: dict[str, int],
    chosen: Sequence[str],
    mending: Mending,
) -> tuple[list[dict[str, Any]], tuple[int, ...], tuple[str, ...]]:
    """Return the annotations of chosen classes, and the ids and names of these in their order."""
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise mending.fault(
            f"has no class {first_of([quoted(name) for name in unknown])} that `classes` names; it "
            f"has {first_of([quoted(name) for name in known], 8)}"
        )
    ids = tuple(known[name] for name in chosen)
    kept = [a for a in annotations if a.get("category_id") in ids]
    if len(kept) < len(annotations):
        mending.warn(
            f"{len(annotations) - len(kept)} of {len(annotations)} annotations are of classes that "
            "`classes` does not name and are left out"
        )
    return kept, ids, tuple(chosen)


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
        if not isinstance(name, str) or not name.strip():
            found = f"the name {quoted(name)}" if "name" in entry else "no name"
            raise mending.fault(f"gives category {entry['id']} {found}; it must be text")
        if names.count(name) > 1:
            raise mending.fault(f"has two categories named {quoted(name)}; rename one")
    return tuple(int(e["id"]) for e in ordered), tuple(str(name) for name in names)


def _images(entries: list[dict[str, Any]], mending: Mending) -> dict[int, dict[str, Any]]:
    """Return the images by id, without annotations yet."""
    if not entries:
        raise mending.fault("lists no images")
    _check_ids("images", entries, mending)
    for entry in entries:
        _check_file_name(entry, mending)
        sides: dict[str, Any] = {side: entry.get(side) for side in ("width", "height")}
        if not all(_is_integer(side) and side > 0 for side in sides.values()):
            told = [f"the {n} {quoted(v) if n in entry else 'missing'}" for n, v in sides.items()]
            raise mending.fault(
                f"gives image {entry['id']} {' and '.join(told)}; both must be positive integers, "
                "in pixels"
            )
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
    if "file_name" not in entry:
        raise mending.fault(f"gives image {entry['id']} no file_name")
    if not isinstance(name, str) or not name or "\0" in name:
        raise mending.fault(
            f"gives image {entry['id']} the file_name {quoted(name)}; it must be text that names "
            "a file"
        )
    if not stays_inside(name):
        raise mending.fault(
            f"names the file {quoted(name)} for image {entry['id']}, which leaves the image "
            "folder; names must be relative and without '..'",
        )


def _check_owners(
    annotations: list[dict[str, Any]], images: dict[int, dict[str, Any]], mending: Mending
) -> None:
    _check_ids("annotations", annotations, mending)
    for annotation in annotations:
        owner = annotation.get("image_id")
        if not _is_integer(owner) or owner not in images:
            raise mending.fault(
                f"has annotation {annotation['id']} for image {quoted(owner)}, which it does not "
                "list"
            )


def _check_ids(section: str, entries: list[dict[str, Any]], mending: Mending) -> None:
    """Refuse ids that are missing, no integers, or double."""
    seen: set[int] = set()
    for entry in entries:
        number: Any = entry.get("id")
        if not _is_integer(number) or abs(number) > _LARGEST_ID:
            found = f"the id {quoted(number)}" if "id" in entry else "no id"
            raise mending.fault(
                f"has an entry in {section!r} with {found}; ids must be integers between -2^53 and "
                "2^53, written without a point or quotes"
            )
        if number in seen:
            raise mending.fault(f"has the id {number} twice in {section!r}")
        seen.add(number)


def _annotation(
    annotation: dict[str, Any], classes: dict[int, int], mending: Mending
) -> dict[str, Any]:
    """Return the cleaned annotation without mask and area, its category as a class."""
    number = annotation["id"]
    category = annotation.get("category_id")
    if not _is_integer(category) or category not in classes:
        raise mending.fault(
            f"has annotation {number} of category {quoted(category)}, which it does not list"
        )
    if annotation.get("iscrowd", 0) not in (0, 1):
        raise mending.fault(
            f"has annotation {number} with iscrowd {quoted(annotation['iscrowd'])}; it must be 0 "
            "or 1"
        )
    return {
        "id": number,
        "bbox": annotation["bbox"],
        "bbox_mode": XYWH,
        "category_id": classes[category],
        "iscrowd": int(annotation.get("iscrowd", 0)),
    }


def _read_masks(
    annotations: Sequence[dict[str, Any]],
    pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]],
    mending: Mending,
) -> None:
    """Give cleaned annotations their masks.

    Args:
        annotations: As in the file.
        pairs: The cleaned ones, each with its image.
        mending: Hears of what was mended.

    Raises:
        PreflightError: More masks are broken than ``BROKEN_MASK`` allows.
    """
    broken: list[dict[str, Any]] = []
    first = cause = ""
    for annotation, (clean, image) in zip(annotations, pairs, strict=True):
        if not annotation.get("segmentation"):
            continue
        size = image["height"], image["width"]
        try:
            with reading(f"the mask of annotation {clean['id']}, {image['file_name']}"):
                found = check_segmentation(annotation["segmentation"], *size)
        except BrokenMaskError as error:
            first = first or str(error)
            cause = cause or misformed(annotation["segmentation"])
            broken.append(clean)
            continue
        if found.segmentation is not None:
            clean["segmentation"] = found.segmentation
        for kind, happened in ((SHORT, found.dropped), (FAR, found.cut)):
            if happened:
                mending.mended(kind, clean["id"])
    ids = [clean["id"] for clean in broken]
    mending.settle(BROKEN_MASK, ids, len(pairs), first=first, cause=cause)
    for clean in broken:
        # A crowd is only left out of the count, which its box does as well as its mask.
        clean["segmentation"] = [rectangle(clean["bbox"])]


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
