"""Sets of labelled images as torchvision keeps them on disk. Imports torch only to open one.

The splits are those that Radford et al. 2021 (CLIP), appendix A, train and test linear probes on:
validation images belong to the training images where a set has both. Of sets that torchvision gives
out whole ``vision_splits`` makes two.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from backbones.errors import PreflightError
from benchmarks.data.roots import DataRoot
from benchmarks.imagenet.vision_splits import Split, first_partition, thirty_of_each_class
from pretrain.data.images import FileImages, ImageSet, Subset


@dataclass(frozen=True)
class VisionSet:
    """A set that torchvision can read.

    Attributes:
        reader: Its class in ``torchvision.datasets``.
        folder: What it keeps its files in, inside the folder that it calls root.
        train: Arguments of the reader, for each part of the training images.
        test: Likewise, of the test images; none where the set is not divided.
        mean_class: The set is reported as mean per class.
        divide: Divides an undivided set: called with its folder, names of images inside it and
            their classes.
    """

    reader: str
    folder: str
    train: tuple[Mapping[str, Any], ...]
    test: tuple[Mapping[str, Any], ...]
    mean_class: bool = False
    divide: Callable[[Path, Sequence[str], Sequence[int]], Split] | None = None


_BY_FLAG = (({"train": True},), ({"train": False},))
_BY_NAME = (({"split": "train"},), ({"split": "test"},))
_WITH_VAL = (({"split": "train"}, {"split": "val"}), ({"split": "test"},))
_WITH_VALID = (({"split": "train"}, {"split": "valid"}), ({"split": "test"},))
_TRAINVAL = (({"split": "trainval"},), ({"split": "test"},))

# Which sets are reported as mean per class: Radford et al. 2021, table 9.
VISION_SETS: Mapping[str, VisionSet] = {
    "aircraft": VisionSet("FGVCAircraft", "fgvc-aircraft-2013b", *_TRAINVAL, mean_class=True),
    "caltech101": VisionSet(
        "Caltech101", "caltech101", ({},), (), mean_class=True, divide=thirty_of_each_class
    ),
    "cars": VisionSet("StanfordCars", "stanford_cars", *_BY_NAME),
    "cifar10": VisionSet("CIFAR10", "cifar-10-batches-py", *_BY_FLAG),
    "cifar100": VisionSet("CIFAR100", "cifar-100-python", *_BY_FLAG),
    "country211": VisionSet("Country211", "country211", *_WITH_VALID),
    "dtd": VisionSet("DTD", "dtd", *_WITH_VAL),
    "fer2013": VisionSet("FER2013", "fer2013", *_BY_NAME),
    "flowers102": VisionSet("Flowers102", "flowers-102", *_WITH_VAL, mean_class=True),
    "food101": VisionSet("Food101", "food-101", *_BY_NAME),
    "gtsrb": VisionSet("GTSRB", "gtsrb", *_BY_NAME),
    "mnist": VisionSet("MNIST", "MNIST", *_BY_FLAG),
    "pets": VisionSet("OxfordIIITPet", "oxford-iiit-pet", *_TRAINVAL, mean_class=True),
    "rendered-sst2": VisionSet("RenderedSST2", "rendered-sst2", *_WITH_VAL),
    "stl10": VisionSet("STL10", "stl10_binary", *_BY_NAME),
    "sun397": VisionSet("SUN397", "SUN397", ({},), (), divide=first_partition),
}


def vision_set(data: DataRoot) -> VisionSet | None:
    """Return which set lies in a folder, None where the folder has a layout of another kind.

    Args:
        data: A folder that may hold several sets; then its name says which.

    Raises:
        PreflightError: It holds several, and the name is none of theirs.
    """
    if data.path is None or (data.path / "train").is_dir():
        return None
    here = {n: known for n, known in VISION_SETS.items() if (data.path / known.folder).is_dir()}
    if data.name in here:
        return here[data.name]
    if len(here) > 1:
        raise PreflightError(
            f"{data.path} holds several sets ({', '.join(here)}); name one: "
            f"--data {next(iter(here))}={data.path}."
        )
    return next(iter(here.values()), None)


def about_mean_class(data: DataRoot) -> list[str]:
    """Return a sentence where papers report a set as mean per class, not as accuracy.

    Args:
        data: The set, known by its files or by the name that it is given.

    Raises:
        PreflightError: As for ``vision_set``.
    """
    known = vision_set(data) or VISION_SETS.get(data.name)
    if known is None or not known.mean_class:
        return []
    return [f"papers report {data.name} as mean per class: read the …_mean_class numbers, not top1"]


def open_vision_set(known: VisionSet, root: Path) -> tuple[ImageSet, ImageSet]:
    """Return the training and the test images.

    Args:
        known: Which set.
        root: What torchvision calls root.

    Raises:
        PreflightError: Files are missing, or are not what torchvision expects.
    """
    if known.divide is not None:
        whole = _open(known, root, known.train)
        folder = root / known.folder
        places = range(len(whole))
        names = [str(Path(whole.name_of(place)).relative_to(folder)) for place in places]
        train, test = known.divide(folder, names, [whole.label(place) for place in places])
        return Subset(whole, train), Subset(whole, test)
    return _open(known, root, known.train), _open(known, root, known.test)


def _open(known: VisionSet, root: Path, parts: Sequence[Mapping[str, Any]]) -> ImageSet:
    try:
        return _read(known, root, parts)
    except (RuntimeError, OSError, ValueError, KeyError) as error:
        raise PreflightError(
            f"torchvision's {known.reader} cannot read {root} "
            f"({str(error).partition(chr(10))[0].rstrip('.')}); have it download the set anew."
        ) from error


def _read(known: VisionSet, root: Path, parts: Sequence[Mapping[str, Any]]) -> ImageSet:
    from torchvision import datasets

    opened = [getattr(datasets, known.reader)(str(root), **part) for part in parts]
    given = [number for part in opened for number in _labels(part)]
    if None in given:
        raise PreflightError(
            f"torchvision's {known.reader} finds no classes of test images in {root}; put in the "
            "file that has them (of FER2013 fer2013.csv or icml_face_data.csv)."
        )
    labels = [int(number) for number in given]
    names = getattr(opened[0], "classes", getattr(opened[0], "categories", None))
    classes = tuple(map(str, names if names is not None else range(max(labels) + 1)))
    if all(_files(part) is None for part in opened):
        return _PixelImages(known.reader, opened[0], labels, classes)
    files = [Path(file) for part in opened for file in _files(part) or ()]
    if known.divide is not None:
        # Some are given out in whatever order the disk has them.
        order = sorted(range(len(files)), key=files.__getitem__)
        files, labels = [files[at] for at in order], [labels[at] for at in order]
    sized = [(str(file.relative_to(root)), file.stat().st_size) for file in files]
    images = FileImages(root, sized, labels, classes)
    images.name = known.reader
    return images


# torchvision's readers have no common way to their files and labels but opening every image; these
# are the names that they keep them under.
def _files(part: Any) -> Sequence[Any] | None:
    if hasattr(part, "samples"):
        return [file for file, _ in part.samples]
    if hasattr(part, "_samples"):
        files = [file for file, _ in part._samples]
        return files if isinstance(files[0], str | Path) else None
    if hasattr(part, "index"):
        folders = [Path(part.root, "101_ObjectCategories", name) for name in part.categories]
        return [
            folders[label] / f"image_{number:04d}.jpg"
            for label, number in zip(part.y, part.index, strict=True)
        ]
    found: Sequence[Any] | None = getattr(part, "_image_files", getattr(part, "_images", None))
    return found


def _labels(part: Any) -> list[Any]:
    if hasattr(part, "_samples"):
        return [number for _, number in part._samples]
    names = ("_labels", "targets", "labels", "y")
    found = next(getattr(part, name) for name in names if hasattr(part, name))
    return list(found)


class _PixelImages(ImageSet):
    """Images that a set keeps as numbers, given out as files without loss."""

    def __init__(self, name: str, part: Any, labels: list[int], classes: tuple[str, ...]) -> None:
        self.name = name
        self.classes = classes
        self._part = part
        self._labels = np.asarray(labels, dtype=np.int32)
        pixels = (
            part.data if hasattr(part, "data") else [image.numpy() for image, _ in part._samples]
        )
        digest = sha256(np.ascontiguousarray(pixels).tobytes() + self._labels.tobytes())
        self.fingerprint = digest.hexdigest()[:16]

    def __len__(self) -> int:
        return len(self._labels)

    def read(self, index: int) -> bytes:
        content = BytesIO()
        self._part[index][0].save(content, "PNG", compress_level=0)
        return content.getvalue()

    def name_of(self, index: int) -> str:
        return f"{self.name}, image {index}"

    def label(self, index: int) -> int:
        return int(self._labels[index])
