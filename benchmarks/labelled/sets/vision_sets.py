"""Sets of labelled images by name, read as torchvision or their authors keep them on disk.

The splits are those that Radford et al. 2021 (CLIP), appendix A, train and test linear probes on:
validation images belong to the training images where a set has both. Imports torch only to open
one that torchvision reads.
"""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from backbones.base.errors import PreflightError
from benchmarks.data.roots import DataRoot
from benchmarks.labelled.sets.pcam import open_pcam
from benchmarks.labelled.sets.torchvision_sets import TorchvisionReader
from benchmarks.labelled.sets.ucf101 import open_ucf101
from benchmarks.labelled.sets.vision_splits import first_partition, thirty_of_each_class
from pretrain.data.images import ImageSet


@dataclass(frozen=True)
class VisionSet:
    """A set that is known by name.

    Attributes:
        folder: What its files lie in, inside the folder that a command names.
        read: Called with that path and a cache, returns the training and the test images; raises
            PreflightError where files are missing or damaged.
        mean_class: The set is reported as mean per class.
    """

    folder: str
    read: Callable[[Path, Path], tuple[ImageSet, ImageSet]]
    mean_class: bool = False


_BY_FLAG = (({"train": True},), ({"train": False},))
_BY_NAME = (({"split": "train"},), ({"split": "test"},))
_WITH_VAL = (({"split": "train"}, {"split": "val"}), ({"split": "test"},))
_WITH_VALID = (({"split": "train"}, {"split": "valid"}), ({"split": "test"},))
_TRAINVAL = (({"split": "trainval"},), ({"split": "test"},))

# Which sets are reported as mean per class: Radford et al. 2021, table 9.
VISION_SETS: Mapping[str, VisionSet] = {
    "aircraft": VisionSet(
        "fgvc-aircraft-2013b", TorchvisionReader("FGVCAircraft", *_TRAINVAL), mean_class=True
    ),
    "caltech101": VisionSet(
        "caltech101",
        TorchvisionReader("Caltech101", ({},), (), divide=thirty_of_each_class),
        mean_class=True,
    ),
    "cars": VisionSet("stanford_cars", TorchvisionReader("StanfordCars", *_BY_NAME)),
    "cifar10": VisionSet("cifar-10-batches-py", TorchvisionReader("CIFAR10", *_BY_FLAG)),
    "cifar100": VisionSet("cifar-100-python", TorchvisionReader("CIFAR100", *_BY_FLAG)),
    "country211": VisionSet("country211", TorchvisionReader("Country211", *_WITH_VALID)),
    "dtd": VisionSet("dtd", TorchvisionReader("DTD", *_WITH_VAL)),
    "fer2013": VisionSet("fer2013", TorchvisionReader("FER2013", *_BY_NAME)),
    "flowers102": VisionSet(
        "flowers-102", TorchvisionReader("Flowers102", *_WITH_VAL), mean_class=True
    ),
    "food101": VisionSet("food-101", TorchvisionReader("Food101", *_BY_NAME)),
    "gtsrb": VisionSet("gtsrb", TorchvisionReader("GTSRB", *_BY_NAME)),
    "mnist": VisionSet("MNIST", TorchvisionReader("MNIST", *_BY_FLAG)),
    "pcam": VisionSet("pcam", open_pcam),
    "pets": VisionSet(
        "oxford-iiit-pet", TorchvisionReader("OxfordIIITPet", *_TRAINVAL), mean_class=True
    ),
    "rendered-sst2": VisionSet("rendered-sst2", TorchvisionReader("RenderedSST2", *_WITH_VAL)),
    "stl10": VisionSet("stl10_binary", TorchvisionReader("STL10", *_BY_NAME)),
    "sun397": VisionSet("SUN397", TorchvisionReader("SUN397", ({},), (), divide=first_partition)),
    "ucf101": VisionSet("UCF-101", open_ucf101),
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
            f"--data {shlex.quote(f'{next(iter(here))}={data.path}')}."
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
