"""Labelled images in the layouts that ImageNet is kept in.

* ``train/CLASS/*`` and ``val/CLASS/*``; ``training``, ``valid``, ``validation`` and, where there is
  no such folder, ``test`` are other names, in any case;
* ``ILSVRC/Data/CLS-LOC`` with these, as Kaggle's archive of ImageNet unpacks;
* ``val/*`` without folders, as the official archive unpacks, beside a list of its classes: a line
  ``NAME CLASS`` an image, where CLASS is a folder of ``train`` or its number from 0 in string order
  (``val.txt`` of BVLC/caffe's ``get_ilsvrc_aux.sh``, Kaggle's ``LOC_val_solution.csv``);
* tar shards in ``train/`` and ``val/`` with classes in ``.cls`` members (webdataset);
* what ``torchvision.datasets`` or a set's authors keep on disk, see ``vision_sets``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from backbones.base.errors import PreflightError
from backbones.base.files import hash16
from backbones.base.wording import first_of, quoted
from benchmarks.data.mini import MINI_SHA256, mini_data
from benchmarks.data.mini.classes import CLASSES
from benchmarks.data.mini.imagenet import num_crops
from benchmarks.data.roots import DataRoot
from benchmarks.labelled.sets.class_lists import read_class_list
from benchmarks.labelled.sets.class_orders import refuse_ambiguous_numbers
from benchmarks.labelled.sets.copies import say_copies
from benchmarks.labelled.sets.real_labels import REAL_FILE
from benchmarks.labelled.sets.vision_sets import vision_set
from benchmarks.task import Facts
from pretrain.data.find import find_images, split_folder, take_fraction
from pretrain.data.images import ImageSet, TarImages

_LISTS = (
    "val.txt",
    "val/val.txt",
    "val_map.txt",
    "LOC_val_solution.csv",
    "val/val_annotations.txt",
)
_KAGGLE = Path("ILSVRC/Data/CLS-LOC")
_GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"


@dataclass(frozen=True)
class LabelledImages:
    """A set of labelled images in two splits.

    Attributes:
        root: Folder that holds them.
        train: Training images; their classes are those of ``classes``.
        val: Images that metrics are computed on, likewise.
        classes: Names of the classes.
        fingerprint: Identity of the content, wherever it lies.
        former_fingerprint: As in ``ImageSet``; empty where it is the same.
    """

    root: Path
    train: ImageSet
    val: ImageSet
    classes: tuple[str, ...]
    fingerprint: str
    former_fingerprint: str = ""


class _Relabelled(ImageSet):
    """Images of a set, with classes that it does not know itself."""

    def __init__(self, images: ImageSet, labels: Sequence[int], classes: tuple[str, ...]) -> None:
        self.name = images.name
        self.classes = classes
        self.notes = images.notes
        self.digests = images.digests
        self.fingerprint, self.former_fingerprint = (
            hash16([known, list(labels)])
            for known in (images.fingerprint, images.former_fingerprint)
        )
        self._images = images
        self._labels = np.asarray(labels, dtype=np.int32)

    def __len__(self) -> int:
        return len(self._images)

    def read(self, index: int) -> bytes:
        return self._images.read(index)

    def name_of(self, index: int) -> str:
        return self._images.name_of(index)

    def label(self, index: int) -> int:
        return int(self._labels[index])


def read_facts(data: DataRoot, cache: Path) -> Facts:
    """Return what a plan needs to know; the mini data need not exist yet.

    Raises:
        PreflightError: The folder has none of the layouts.
    """
    if data.path is None:
        return Facts(MINI_SHA256, num_crops("train"), num_crops("val"))
    images = _find(data, data.path, cache)
    return Facts(
        images.fingerprint,
        len(images.train),
        len(images.val),
        images.former_fingerprint,
        tuple(dict.fromkeys((*images.train.notes, *images.val.notes))),
    )


def open_labelled(data: DataRoot, cache: Path, limit: int | None = None) -> LabelledImages:
    """Return the images, the mini data included, at most ``limit`` of each split.

    Args:
        data: Where they lie.
        cache: Folder for listings.
        limit: The images kept are the same ones in every run.

    Raises:
        PreflightError: The folder has none of the layouts.
    """
    images = _find(data, data.path or mini_data().imagenet, cache)
    train, val = (take_fraction(split, 1.0, limit, seed=0) for split in (images.train, images.val))
    return replace(images, train=train, val=val)


def _find(data: DataRoot, root: Path, cache: Path) -> LabelledImages:
    known = vision_set(data)
    if known is None:
        return find_labelled(root, cache)
    return _join(root, *known.read(root / known.folder, cache))


def _join(root: Path, train: ImageSet, val: ImageSet) -> LabelledImages:
    _refuse_different(root, train, val)
    fingerprint, former = (
        hash16([*prints, list(train.classes)])
        for prints in (
            (train.fingerprint, val.fingerprint),
            (train.former_fingerprint, val.former_fingerprint),
        )
    )
    val.notes = (*val.notes, *say_copies(train, val))
    known = former if train.former_fingerprint and val.former_fingerprint else ""
    return LabelledImages(root, train, val, train.classes, fingerprint, known)


def find_labelled(root: Path, cache: Path) -> LabelledImages:
    """Return the images of a folder in any of the layouts.

    Raises:
        PreflightError: It has none of them, its splits have different classes, or numbers of
            classes can be read in two ways.
    """
    folders = [_folder_of(root, split) for split in ("train", "val")]
    train = find_images(folders[0], cache)
    if train.partly_classed:
        raise PreflightError(f"In {root}, {train.partly_classed}")
    if not train.classes:
        raise PreflightError(
            f"The images in {folders[0]} have no classes; put each into a folder with the name "
            "of its class."
        )
    val = find_images(folders[1], cache)
    # Flat images, or folders that are not classes, as tiny-imagenet's val/images.
    if not val.classes or (set(val.classes) - set(train.classes) and _list_of(root) is not None):
        val = _with_list(root, folders[1], val, train.classes)
    train, val = _numbered_alike(train, val)
    if (root / REAL_FILE).is_file():
        refuse_ambiguous_numbers(
            root / REAL_FILE,
            range(len(train.classes)),
            train.classes,
            "name the folders of train by WordNet ID (n01440764), or remove the file",
        )
    return _join(root, train, val)


def has_train_folder(root: Path) -> bool:
    """Return whether a folder holds one of training images."""
    try:
        _folder_of(root, "train")
    except PreflightError:
        return False
    return True


def _folder_of(root: Path, split: str) -> Path:
    """Return the folder of a split.

    Raises:
        PreflightError: There is none.
    """
    base = root / _KAGGLE if (root / _KAGGLE).is_dir() else root
    found = split_folder(base, split)
    if found is not None:
        return found
    raise PreflightError(
        f"{base} has no folder {split}; labelled images lie in train/CLASS and val/CLASS, "
        "or in tar shards in train and val."
    )


def labels_of(images: ImageSet) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """Return the class of every image, (N,)."""
    return np.fromiter((images.label(i) for i in range(len(images))), np.int64, len(images))


def class_name(data: DataRoot, number: int, classes: Sequence[str]) -> str:
    """Return a class as people know it; the mini data's folders cannot hold spaces."""
    return CLASSES[number].name if data.mini and len(classes) == len(CLASSES) else classes[number]


def _refuse_different(root: Path, train: ImageSet, val: ImageSet) -> None:
    """Raise where the splits do not have the same classes in the same order.

    Raises:
        PreflightError: Names the classes.
    """
    if train.classes == val.classes:
        return
    one, other = set(train.classes), set(val.classes)
    if one == other:
        pairs = enumerate(zip(train.classes, val.classes, strict=True))
        number, (first, second) = next((n, pair) for n, pair in pairs if pair[0] != pair[1])
        raise PreflightError(
            f"The classes of train and val in {root} can be read in two ways: class number "
            f"{number} is {quoted(first)} in train and {quoted(second)} in val; keep both splits "
            "in folders, or both in tar shards."
        )
    parts = [
        f"{split} lacks {len(missing)} of them ({first_of(missing)})"
        for split, missing in (("train", sorted(other - one)), ("val", sorted(one - other)))
        if missing
    ]
    raise PreflightError(
        f"The classes of train and val in {root} differ: {' and '.join(parts)}; every class needs "
        "images in both."
    )


def _list_of(root: Path) -> Path | None:
    return next((root / name for name in _LISTS if (root / name).is_file()), None)


def _numbered_alike(train: ImageSet, val: ImageSet) -> tuple[ImageSet, ImageSet]:
    """Return shards with the classes of the training images, of which validation may lack some."""
    shards = isinstance(train, TarImages) and isinstance(val, TarImages)
    if not shards or not val.classes or len(val.classes) > len(train.classes):
        return train, val
    labels = labels_of(val).tolist()
    lacking = sorted(set(range(len(train.classes))) - set(labels))
    if len(val.classes) < len(train.classes):
        val = _Relabelled(val, labels, train.classes)
    if lacking:
        words = first_of([train.classes[number] for number in lacking])
        val.notes = (*val.notes, f"{len(lacking)} classes have no validation image: {words}.")
    return train, val


def _with_list(root: Path, folder: Path, val: ImageSet, classes: tuple[str, ...]) -> ImageSet:
    """Return flat validation images with the classes that a list file gives them."""
    path = _list_of(root)
    if path is None and val.partly_classed:
        raise PreflightError(f"In {root}, {val.partly_classed}")
    if path is None:
        found = [p for p in (root / _GROUND_TRUTH, folder / _GROUND_TRUTH) if p.is_file()]
        own = (
            f"; {found[0].name} alone does not do, since it counts classes in an order of its own"
            if found
            else ""
        )
        raise PreflightError(
            f"The images in {folder} have no classes: put each into the folder of its class, "
            f"or a list val.txt with lines NAME CLASS into {root}{own}."
        )
    names = [_below(folder, val.name_of(i)) for i in range(len(val))]
    return _Relabelled(val, read_class_list(path, names, classes), classes)


def _below(folder: Path, name: str) -> str:
    path = Path(name)
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.as_posix()
