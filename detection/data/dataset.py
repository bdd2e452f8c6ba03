"""A COCO-format data set on disk: found, checked once, loaded as detectron2 dicts."""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from backbones.base.errors import PreflightError
from backbones.base.files import canonical_json, sha256_file, write_json_atomically
from detection.config import DetectionDataConfig
from detection.data.annotations import read_annotations
from detection.schedule import images_in_use

Split = Literal["train", "val"]
SPLITS: tuple[Split, Split] = ("train", "val")

# Part of the cache key: raise it when a check or a field of ``DataFacts`` changes.
_FACTS_VERSION = 2
_NAMES_SHOWN = 3


@dataclass(frozen=True)
class CocoData:
    """A data set in COCO's layout.

    Attributes:
        name: What people call it.
        root: Holds ``annotations/instances_{train,val}2017.json`` and ``{train,val}2017/``.
        mini: It is the embedded data, whose scores are marked wherever they appear.
    """

    name: str
    root: Path
    mini: bool = False

    def annotation_file(self, split: Split) -> Path:
        """Return the annotation file of a split."""
        return self.root / "annotations" / f"instances_{split}2017.json"

    def image_folder(self, split: Split) -> Path:
        """Return the folder that a split's file names start from."""
        return self.root / f"{split}2017"


@dataclass(frozen=True)
class DataFacts:
    """What is known of a data set after all of it was checked.

    Attributes:
        fingerprint: Hex SHA-256 of both annotation files and of all images' names and sizes in
            bytes; where the data lies does not matter.
        num_train: Training images with at least one object that is no crowd.
        num_val: Validation images.
        class_names: In order of a detector's class index.
        category_ids: The file's ids in the same order.
        has_masks: Both splits have a mask for each object.
        notes: What was mended while reading, one sentence each.
    """

    fingerprint: str
    num_train: int
    num_val: int
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    has_masks: bool
    notes: tuple[str, ...]


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
    """Return the data set in a folder after a look at its layout.

    Args:
        root: The folder.
        name: What people call it.
        mini: It is the embedded data.

    Raises:
        PreflightError: The folder, or something in it, is absent.
    """
    data = CocoData(name, root, mini)
    if not root.is_dir():
        raise PreflightError(f"The data folder {root} does not exist; give another with --data.")
    for split in SPLITS:
        for path, exists in (
            (data.annotation_file(split), Path.is_file),
            (data.image_folder(split), Path.is_dir),
        ):
            if not exists(path):
                raise PreflightError(
                    f"The data folder {root} has no {path.relative_to(root)}; COCO's layout is "
                    "annotations/instances_{train,val}2017.json beside train2017/ and val2017/."
                )
    return data


def read_facts(data: CocoData, cache: Path) -> DataFacts:
    """Check a data set in full, once.

    Args:
        data: The data set.
        cache: Folder for the answer, which is used again until path, size or time of an
            annotation file or image folder changes.

    Raises:
        PreflightError: An annotation file is wrong, the splits disagree, one has no object, or
            images are missing.
    """
    key = hashlib.sha256(canonical_json(_key(data)).encode()).hexdigest()
    path = cache / f"coco-{key[:16]}.json"
    known = _known_facts(path, key)
    if known is None:
        known = _check(data)
        write_json_atomically(path, {"key": key, "facts": asdict(known)})
    return known


def load_split(
    data: CocoData, split: Split, *, limit_images: int | None = None
) -> list[dict[str, Any]]:
    """Return a split as detectron2 dataset dicts, cleaned as ``detection.data.annotations`` says.

    Each has ``file_name`` (a full path), ``image_id``, ``height``, ``width`` and ``annotations``;
    an annotation's ``category_id`` is the class index from 0.

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
    read = read_annotations(data.annotation_file(split))
    folder = data.image_folder(split)
    for image in read.images:
        image["file_name"] = str(folder / image["file_name"])
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


def _key(data: CocoData) -> list[Any]:
    """Return what has to stay the same for a cached answer to hold."""
    watched = [data.annotation_file(s) for s in SPLITS] + [data.image_folder(s) for s in SPLITS]
    try:
        stats = [(str(path.resolve()), path.stat()) for path in watched]
    except OSError as error:
        raise PreflightError(f"Cannot read the data set {data.root}: {error}.") from error
    return [_FACTS_VERSION, [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]]


def _known_facts(path: Path, key: str) -> DataFacts | None:
    """Return a cached answer; None where there is none, or one that cannot be used."""
    try:
        content = json.loads(path.read_bytes())
        facts: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in content["facts"].items()
        }
        return DataFacts(**facts) if content["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _check(data: CocoData) -> DataFacts:
    train, val = (read_annotations(data.annotation_file(split)) for split in SPLITS)
    if (train.category_ids, train.class_names) != (val.category_ids, val.class_names):
        raise PreflightError(
            f"The training and validation annotations of {data.root} list different categories; "
            "both must have the same ids and names."
        )
    check_objects(train.images, train.path, "train")
    check_objects(val.images, val.path, "val")
    digest = hashlib.sha256()
    for split, read in zip(SPLITS, (train, val), strict=True):
        digest.update(sha256_file(data.annotation_file(split)).encode())
        names = [image["file_name"] for image in read.images]
        for name, size in zip(names, _image_sizes(data.image_folder(split), names), strict=True):
            digest.update(f"{name}\0{size}\0".encode())
    return DataFacts(
        fingerprint=digest.hexdigest(),
        num_train=sum(map(has_objects, train.images)),
        num_val=len(val.images),
        class_names=train.class_names,
        category_ids=train.category_ids,
        has_masks=train.has_masks and val.has_masks,
        notes=train.notes + val.notes,
    )


def _image_sizes(folder: Path, names: Iterable[str]) -> list[int]:
    """Return all images' sizes in bytes.

    Raises:
        PreflightError: Files are missing or empty; names the first few and counts the others.
    """
    sizes, bad = [], []
    for name in names:
        try:
            size = os.stat(folder / name).st_size  # noqa: PTH116 - once per image, 120,000 times
        except OSError:
            size = 0
        sizes.append(size)
        if size == 0:
            bad.append(name)
    if bad:
        more = len(bad) - _NAMES_SHOWN
        raise PreflightError(
            f"{len(bad)} of {len(sizes)} images that the annotations name are missing or empty in "
            f"{folder}: {', '.join(bad[:_NAMES_SHOWN])}"
            + (f" and {more} more." if more > 0 else ".")
        )
    return sizes


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
    if limit_images is not None:
        which = f"{len(images)} {kind} images that --limit-images leaves of {path}"
        advice = "raise --limit-images"
    raise PreflightError(
        f"None of the {which} has an object that is no crowd, so there is nothing to {purpose}; "
        f"{advice}."
    )
