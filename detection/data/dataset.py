"""A COCO-format data set on disk: found, checked once, loaded as detectron2 dicts."""

import hashlib
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from backbones.base.content import BLOCK_BYTES, WHOLE_BYTES
from backbones.base.errors import PreflightError
from backbones.base.files import canonical_json, hash16, sha256_file
from backbones.base.json_files import JsonFormat, UnreadableFileError
from detection.config import DetectionDataConfig
from detection.data.annotations import AnnotationFile, read_annotations
from detection.data.contents import Progress, SplitContents, look_at_split, refuse_unusable
from detection.data.description import read_description
from detection.data.layouts import Part, SplitFiles, find_files
from detection.schedule import images_in_use

Split = Literal["train", "val"]
SPLITS: tuple[Split, Split] = ("train", "val")

# Part of the cache key: raise it when a check or a field of ``DataFacts`` changes.
_FACTS_VERSION = 3
# Within a cache that others use too.
_CACHE = "data"


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
    """

    name: str
    root: Path
    mini: bool = False
    files: tuple[SplitFiles, SplitFiles] | None = None
    classes: tuple[str, ...] = ()
    crowds_are_objects: bool = False

    def annotation_file(self, split: Split) -> Path:
        """Return the annotation file of a split."""
        return self.files_of(split).annotations

    def image_folder(self, split: Split) -> Path:
        """Return the folder that a split's file names start from."""
        return self.files_of(split).images

    def files_of(self, split: Split) -> SplitFiles:
        """Return where a split lies."""
        if self.files is not None:
            return self.files[SPLITS.index(split)]
        return SplitFiles(
            self.root / "annotations" / f"instances_{split}2017.json", self.root / f"{split}2017"
        )


@dataclass(frozen=True)
class DataFacts:
    """What is known of a data set after all of it was checked.

    Attributes:
        fingerprint: Hex SHA-256 of the content of both annotation files and of all images; where
            the data lies does not matter.
        train_fingerprint: The same of the training split, which decides the trained weights.
        former_fingerprint: What identified the data before content did: annotations, and names
            and sizes of images. Records and states of then bear it.
        num_train: Training images with at least one object that is no crowd.
        num_val: Validation images.
        class_names: In order of a detector's class index.
        category_ids: The file's ids in the same order.
        has_masks: Both splits have a mask for each object.
        notes: What was mended while reading and what a reader of the scores has to know, one
            sentence each.
    """

    fingerprint: str
    train_fingerprint: str
    former_fingerprint: str
    num_train: int
    num_val: int
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    has_masks: bool
    notes: tuple[str, ...]


_FACTS = JsonFormat(DataFacts, "file of a data set's facts")


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
    with suppress(PreflightError) if begun else nullcontext():
        files = find_files(root)
        # A split whose annotations are lost is not made up from the other one.
        if not begun or files[0].part is None:
            return replace(data, files=files)
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
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def read_facts(data: CocoData, cache: Path, progress: Progress | None = None) -> DataFacts:
    """Check a data set in full: annotations, and that every image decodes at its stated size.

    Args:
        data: The data set.
        cache: Folder for what is known. A file is read again when its size or times change, and
            everything is checked again when the content of any file does.
        progress: Called now and then while images are read.

    Raises:
        PreflightError: An annotation file is wrong, the splits disagree, one has no object, or
            images are missing, broken or of another size.
    """
    cache = cache / _CACHE
    looks = {split: _look(data, split, cache, progress) for split in SPLITS}
    train, val = (looks[split].fingerprint for split in SPLITS)
    chosen = _choices(data)
    text = f"content-2 {train} {val}{f' {chosen}' if chosen else ''}"
    fingerprint = hashlib.sha256(text.encode()).hexdigest()
    path = cache / f"coco-{hash16([_FACTS_VERSION, fingerprint])}.json"
    with suppress(UnreadableFileError):
        known = _FACTS.read(path)
        if known.fingerprint == fingerprint:
            return known
    found = _check(data, looks, fingerprint)
    _FACTS.write(path, found)
    return found


def _choices(data: CocoData) -> str:
    """Return what a person chose beyond the files, empty for nothing."""
    part = data.files_of("val").part
    chosen = {
        "part": None if part is None else [part.share, part.seed],
        "classes": list(data.classes),
        "crowds": data.crowds_are_objects,
    }
    return canonical_json(chosen) if any(chosen.values()) else ""


def _look(data: CocoData, split: Split, cache: Path, progress: Progress | None) -> SplitContents:
    files = data.files_of(split)
    found = look_at_split(files.annotations, files.images, cache, split, progress)
    if found is not None:
        return found
    # What cannot list its images is refused in words of its own.
    read_annotations(files.annotations)
    raise PreflightError(f"The annotation file {files.annotations} cannot be read.")


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
    read = read_split(data, split)
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


def _check(data: CocoData, looks: dict[Split, SplitContents], fingerprint: str) -> DataFacts:
    train, val = (read_split(data, split) for split in SPLITS)
    if (train.category_ids, train.class_names) != (val.category_ids, val.class_names):
        raise PreflightError(
            f"The training and validation annotations of {data.root} list different categories; "
            "both must have the same ids and names."
        )
    for split, read in zip(SPLITS, (train, val), strict=True):
        check_objects(read.images, read.path, split)
        refuse_unusable(looks[split], read.images, data.image_folder(split), split)
    return DataFacts(
        fingerprint=fingerprint,
        train_fingerprint=_with_choices(data, looks["train"].fingerprint),
        former_fingerprint=_former_fingerprint(looks, (train, val)),
        num_train=sum(map(has_objects, train.images)),
        num_val=len(val.images),
        class_names=train.class_names,
        category_ids=train.category_ids,
        has_masks=train.has_masks and val.has_masks,
        notes=tuple(
            dict.fromkeys((*train.notes, *val.notes, *_remarks(data, looks, (train, val))))
        ),
    )


def _former_fingerprint(
    looks: dict[Split, SplitContents], read: tuple[AnnotationFile, AnnotationFile]
) -> str:
    """Return the identity that records of before content bear, from names and sizes."""
    digest = hashlib.sha256()
    for split, file in zip(SPLITS, read, strict=True):
        sizes = dict(zip(looks[split].names, looks[split].images, strict=True))
        digest.update(sha256_file(file.path).encode())
        for image in file.images:
            name = image["file_name"]
            digest.update(f"{name}\0{sizes[name].size}\0".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _with_choices(data: CocoData, fingerprint: str) -> str:
    chosen = _choices(data)
    if not chosen:
        return fingerprint
    return hashlib.sha256(f"{fingerprint} {chosen}".encode()).hexdigest()


def _remarks(
    data: CocoData, looks: dict[Split, SplitContents], read: tuple[AnnotationFile, AnnotationFile]
) -> list[str]:
    """Return sentences on the two splits together."""
    train, val = (looks[split] for split in SPLITS)
    found = []
    part = data.files_of("val").part
    if part is not None:
        found.append(
            f"There are no validation annotations, so {len(read[1].images)} of "
            f"{len(val.names)} images are validation images: a share of {part.share:g}, chosen by "
            f"their file names and seed {part.seed}."
        )
    own = [{image["file_name"] for image in file.images} for file in read]
    known = {look.digest for n, look in zip(train.names, train.images, strict=True) if n in own[0]}
    pairs = [(n, look) for n, look in zip(val.names, val.images, strict=True) if n in own[1]]
    same = [n for n, look in pairs if look.digest in known]
    if same:
        found.append(
            f"{len(same)} of {len(pairs)} validation images are training images too, byte for "
            f"byte (first: {same[0]}), so the scores are too high."
        )
    if read[0].has_masks != read[1].has_masks:
        split = SPLITS[int(read[0].has_masks)]
        found.append(
            f"Only one split has masks, {split} has none, so only boxes are trained and scored."
        )
    sampled = [split for split in SPLITS if looks[split].sampled]
    if sampled:
        found.append(
            f"The images of {' and '.join(sampled)} are identified by their sizes and three blocks "
            f"of {BLOCK_BYTES // 1024} KiB each, since all bytes together exceed "
            f"{WHOLE_BYTES // 2**30} GiB."
        )
    return found


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
