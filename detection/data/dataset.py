"""A COCO-format data set on disk: found, checked once, loaded as detectron2 dicts."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from backbones.base.errors import PreflightError
from backbones.base.grey import BY_IMAGE, GreyScale
from detection.config import DetectionDataConfig
from detection.data.annotations import AnnotationFile, read_annotations
from detection.data.description import read_description
from detection.data.layouts import Part, SeveralFilesError, SplitFiles, find_files
from detection.schedule import images_in_use

Split = Literal["train", "val"]
SPLITS: tuple[Split, Split] = ("train", "val")


@dataclass(frozen=True)
class CocoData:
    """A data set with annotations in COCO's format.

    Attributes:
        name: What people call it.
        root: The folder or file that a person named.
        mini: It is the embedded data, whose scores are marked wherever they appear.
        files: Where training and validation images lie; None for COCO's own layout,
            ``annotations/instances_{train,val}2017.json`` and ``{train,val}2017/``.
        classes: Classes to keep, in the order of a detector's index; empty for all.
        crowds_are_objects: Objects with ``iscrowd`` 1 are trained and counted like all others.
        grey: How 16-bit and 32-bit images become 8 bits; ``detection.data.facts.checked`` finds it.
        as_stored: Images whose EXIF orientation keeps their size are not turned;
            ``detection.data.facts.checked`` finds it.
    """

    name: str
    root: Path
    mini: bool = False
    files: tuple[SplitFiles, SplitFiles] | None = None
    classes: tuple[str, ...] = ()
    crowds_are_objects: bool = False
    grey: GreyScale = BY_IMAGE
    as_stored: bool = False

    def annotation_file(self, split: Split) -> Path:
        """Return the annotation file of a split."""
        return self.files_of(split).annotations

    def image_folder(self, split: Split) -> Path:
        """Return the folder that a split's file names start from."""
        return self.files_of(split).images

    def reading(self) -> dict[str, Any]:
        """Return what a dataset dict says of how its pixels are read, empty for the usual way."""
        grey = {"grey": self.grey} if self.grey != BY_IMAGE else {}
        return {**grey, "as_stored": True} if self.as_stored else grey

    def files_of(self, split: Split) -> SplitFiles:
        """Return where a split lies."""
        if self.files is not None:
            return self.files[SPLITS.index(split)]
        return SplitFiles(
            self.root / "annotations" / f"instances_{split}2017.json", self.root / f"{split}2017"
        )


@dataclass(frozen=True)
class Truth:
    """What detections are held against.

    Attributes:
        images: Dataset dicts with cleaned annotations.
        class_names: In order of the class index.
    """

    images: list[dict[str, Any]]
    class_names: tuple[str, ...]

    def has_masks(self) -> bool:
        """Return whether there are objects and each that is no crowd has a mask."""
        objects = [a for i in self.images for a in i["annotations"] if not a["iscrowd"]]
        return bool(objects) and all("segmentation" in a for a in objects)


def find_coco(root: Path, name: str = "coco", mini: bool = False) -> CocoData:
    """Return the data set in a folder or file after a look at its layout.

    Args:
        root: A folder in a layout of ``detection.data.layouts``, one COCO JSON file, or a
            ``data.toml`` (``detection.data.description``).
        name: What people call it.
        mini: It is the embedded data.

    Raises:
        PreflightError: The folder, or something in it, is absent.
    """
    data = CocoData(name, root, mini)
    if not root.exists():
        raise PreflightError(f"The data folder {root} does not exist; give another with --data.")
    if root.suffix == ".toml" and root.is_file():
        described = read_description(root)
        return replace(
            data,
            files=described.files,
            classes=described.classes,
            crowds_are_objects=described.crowds_are_objects,
        )
    absent = [path for path in _own_layout(data) if not path.exists()]
    if not absent:
        return data
    begun = data.annotation_file("train").is_file() or data.annotation_file("val").is_file()
    try:
        files = find_files(root)
        # A split whose annotations are lost is not made up from the other one.
        if not begun or files[0].part is None:
            return replace(data, files=files)
    except SeveralFilesError:
        raise
    except PreflightError:
        if not begun:
            raise
    raise PreflightError(
        f"The data folder {root} has no {absent[0].relative_to(root)}; COCO's layout is "
        "annotations/instances_{train,val}2017.json next to train2017/ and val2017/."
    )


def _own_layout(data: CocoData) -> list[Path]:
    """Return what COCO's own layout consists of."""
    files = [data.files_of(split) for split in SPLITS]
    return [path for split in files for path in (split.annotations, split.images)]


def read_split(data: CocoData, split: Split) -> AnnotationFile:
    """Return the annotations of a split, with its own images only.

    Raises:
        PreflightError: The annotation file is wrong, or the split has no image.
    """
    files = data.files_of(split)
    read = read_annotations(
        files.annotations, classes=data.classes, crowds_are_objects=data.crowds_are_objects
    )
    if files.part is None:
        return read
    images = sorted(read.images, key=partial(_rank, files.part))
    count = min(max(1, round(files.part.share * len(images))), len(images) - 1)
    if not count:
        raise PreflightError(
            f"{files.annotations} has {len(images)} image, too few to divide into training and "
            "validation images; annotate more."
        )
    val = {image["image_id"] for image in images[:count]}
    kept = [i for i in read.images if (i["image_id"] in val) == files.part.val]
    return replace(read, images=kept)


def _rank(part: Part, image: dict[str, Any]) -> bytes:
    text = f"split {part.seed}: {image['file_name']}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def load_split(
    data: CocoData, split: Split, *, limit_images: int | None = None
) -> list[dict[str, Any]]:
    """Return a split as detectron2 dataset dicts, cleaned as ``detection.data.annotations`` says.

    Each has ``file_name`` (a full path), ``image_id``, ``height``, ``width`` and ``annotations``;
    an annotation's ``category_id`` is the class index from 0. Images of a set that has its own
    ``grey`` or ``as_stored`` have that too.

    Args:
        data: The data set.
        split: "train" or "val".
        limit_images: Keep this many images, the same ones every time.

    Raises:
        PreflightError: The annotation file is wrong.
    """
    return load_truth(data, split, limit_images=limit_images).images


def load_truth(data: CocoData, split: Split, *, limit_images: int | None = None) -> Truth:
    """Return a split as ``load_split`` does, with its classes.

    Args:
        data: The data set.
        split: "train" or "val".
        limit_images: As in ``load_split``.

    Raises:
        PreflightError: The annotation file is wrong.
    """
    read = read_split(data, split)
    folder = data.image_folder(split)
    for image in read.images:
        image.update(data.reading(), file_name=str(folder / image["file_name"]))
    images = read.images if limit_images is None else _choose(read.images, limit_images, "limit")
    return Truth(images, read.class_names)


def load_training_images(
    data: CocoData, config: DetectionDataConfig, *, seed: int, limit_images: int | None = None
) -> list[dict[str, Any]]:
    """Return the images that a run trains on, as ``load_split`` does.

    Images without objects fall away unless ``config.keep_empty``; of the rest
    ``config.train_fraction`` is kept. The smaller of two fractions is part of the larger one.

    Args:
        data: The data set.
        config: Says which images.
        seed: Of the run; chooses the fraction.
        limit_images: Upper bound for a quick look, applied first.

    Raises:
        PreflightError: The annotation file is wrong, or no image has an object.
    """
    images = load_split(data, "train", limit_images=limit_images)
    path = data.annotation_file("train")
    check_objects(images, path, "train", limit_images=limit_images)
    if not config.keep_empty:
        images = [image for image in images if has_objects(image)]
    return _choose(images, images_in_use(config, len(images)), f"fraction {seed}")


def _choose(images: list[dict[str, Any]], count: int, purpose: str) -> list[dict[str, Any]]:
    """Return ``count`` images by the hash of their id, in the order they had."""
    if count >= len(images):
        return images

    def rank(image: dict[str, Any]) -> bytes:
        return hashlib.sha256(f"{purpose}: {image['image_id']}".encode()).digest()

    chosen = {image["image_id"] for image in sorted(images, key=rank)[:count]}
    return [image for image in images if image["image_id"] in chosen]


# By split, what its images are called and what they are for.
_PURPOSES = {"train": ("training", "learn from"), "val": ("validation", "measure")}


def has_objects(image: dict[str, Any]) -> bool:
    """Return whether a dataset dict has an object that is no crowd."""
    return any(not annotation["iscrowd"] for annotation in image["annotations"])


def check_objects(
    images: Sequence[dict[str, Any]], path: Path, split: str, *, limit_images: int | None = None
) -> None:
    """Refuse images of which none has an object that is no crowd.

    Args:
        images: Dataset dicts (``detection.data.dataset``).
        path: Their annotation file.
        split: "train" or "val".
        limit_images: What they were limited to.

    Raises:
        PreflightError: None has; the sentence names the file, and the limit where there is one.
    """
    if any(map(has_objects, images)):
        return
    kind, purpose = _PURPOSES[split]
    which = f"{kind} images in {path}"
    advice = "annotate objects there, or give other data with --data"
    if any(image["annotations"] for image in images):
        advice = (
            "where iscrowd is 1 for single objects, as CVAT's brush writes it, set it to 0; else "
            "give other data with --data"
        )
    if limit_images is not None:
        which = f"{len(images)} {kind} images that --limit-images leaves of {path}"
        advice = "raise --limit-images"
    raise PreflightError(
        f"None of the {which} has an object that is no crowd, so there is nothing to {purpose}; "
        f"{advice}."
    )
