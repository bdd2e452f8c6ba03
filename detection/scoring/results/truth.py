"""The annotations that results files are scored against."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from backbones.base.errors import PreflightError
from detection.data.dataset import CocoData, Truth, check_objects, find_coco, read_split
from detection.data.layouts import SplitFiles, images_of


@dataclass(frozen=True)
class ScoringTruth:
    """Images with their objects, and what a results file calls the classes.

    Attributes:
        truth: Images and classes; file names start from the image folder.
        category_ids: The file's ids, in order of the class index.
        fingerprint: SHA-256 of the cleaned annotations, in hex.
        notes: What was fixed in the annotations, and what a reader of the scores has to know, one
            sentence each.
    """

    truth: Truth
    category_ids: tuple[int, ...]
    fingerprint: str
    notes: tuple[str, ...]


def find_truth(root: Path, name: str) -> CocoData:
    """Return the data set whose validation split results are scored against.

    Neither training data nor images have to be there. All images of a single JSON file count.

    Args:
        root: A folder in a layout of ``detection.data.layouts``, one COCO JSON file, or a
            ``data.toml``.
        name: What people call it.

    Raises:
        PreflightError: The annotation file does not exist.
    """
    data = CocoData(name, root)
    if data.annotation_file("val").is_file():
        return data
    if root.is_file() and root.suffix == ".json":
        inside = root.parent.parent if root.parent.name == "annotations" else root.parent
        try:
            whole = SplitFiles(root, images_of(root, inside))
        except PreflightError:
            whole = SplitFiles(root, root.parent)
        return replace(data, files=(whole, whole))
    return find_coco(root, name)


def read_truth(data: CocoData) -> ScoringTruth:
    """Return the validation images of a data set with their objects.

    Args:
        data: The data set.

    Raises:
        PreflightError: The annotation file is wrong, or no object in it counts.
    """
    read = read_split(data, "val")
    check_objects(read.images, data.annotation_file("val"), "val")
    content = (read.category_ids, read.class_names, read.images)
    fingerprint = hashlib.sha256(msgspec.json.encode(content, order="sorted")).hexdigest()
    folder = data.image_folder("val")
    for image in read.images:
        image["file_name"] = str(folder / image["file_name"])
    truth = Truth(read.images, read.class_names)
    return ScoringTruth(truth, read.category_ids, fingerprint, read.notes)
