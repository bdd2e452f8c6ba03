"""Sets of labelled images that classes of ``torchvision.datasets`` read. Imports torch to open one.

Of sets that torchvision gives out whole ``vision_splits`` makes two.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from backbones.base.errors import PreflightError
from benchmarks.labelled.sets.raw_images import as_file
from benchmarks.labelled.sets.vision_splits import Split
from pretrain.data.images import FileImages, ImageSet, Subset, digests_of


@dataclass(frozen=True)
class TorchvisionReader:
    """How torchvision reads a set.

    Attributes:
        reader: Its class in ``torchvision.datasets``.
        train: Arguments of the class, for each part of the training images.
        test: Likewise, of the test images; none where the set is not divided.
        divide: Divides an undivided set: called with its folder, names of images inside it and
            their classes.
    """

    reader: str
    train: tuple[Mapping[str, Any], ...]
    test: tuple[Mapping[str, Any], ...]
    divide: Callable[[Path, Sequence[str], Sequence[int]], Split] | None = None

    def __call__(self, folder: Path, cache: Path) -> tuple[ImageSet, ImageSet]:
        """Return the training and the test images.

        Args:
            folder: What torchvision keeps the set in, inside the folder that it calls root.
            cache: Folder for what is known of files.

        Raises:
            PreflightError: Files are missing, or are not what torchvision expects.
        """
        root = folder.parent
        if self.divide is None:
            return _open(self, root, self.train, cache), _open(self, root, self.test, cache)
        whole = _open(self, root, self.train, cache)
        places = range(len(whole))
        names = [str(Path(whole.name_of(place)).relative_to(folder)) for place in places]
        train, test = self.divide(folder, names, [whole.label(place) for place in places])
        return Subset(whole, train), Subset(whole, test)


def _open(
    known: TorchvisionReader, root: Path, parts: Sequence[Mapping[str, Any]], cache: Path
) -> ImageSet:
    try:
        return _read(known, root, parts, cache)
    except (RuntimeError, OSError, ValueError, KeyError) as error:
        raise PreflightError(
            f"torchvision's {known.reader} cannot read {root} "
            f"({str(error).partition(chr(10))[0].rstrip('.')}); have it download the set anew."
        ) from error


def _read(
    known: TorchvisionReader, root: Path, parts: Sequence[Mapping[str, Any]], cache: Path
) -> ImageSet:
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
    digests = digests_of(
        root, [name for name, _ in sized], cache, f"{known.reader} {list(map(dict, parts))}"
    )
    images = FileImages(root, sized, labels, classes, digests=digests)
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
        return as_file(np.asarray(self._part[index][0]))

    def name_of(self, index: int) -> str:
        return f"{self.name}, image {index}"

    def label(self, index: int) -> int:
        return int(self._labels[index])
