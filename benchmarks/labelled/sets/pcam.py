"""PatchCamelyon, in the HDF5 files of its authors and of torchvision.

``torchvision.datasets.PCAM`` opens two files anew for every image, which takes twenty times as long
as reading it here, and tells a label only with its image.
"""

import os
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from backbones.base.errors import PreflightError
from backbones.base.reading import reading
from benchmarks.labelled.sets.optional import import_optional
from benchmarks.labelled.sets.raw_images import as_file
from pretrain.data.images import ImageSet

T = TypeVar("T")

_CLASSES = ("no tumor", "tumor")
_SHAPE = (96, 96, 3)
# Images of each file whose pixels the fingerprint is made of; all are 9 GB, and every plan asks.
_SAMPLED = 32


@dataclass(frozen=True)
class _Part:
    """One of the three official parts.

    Attributes:
        path: Of the images.
        labels: (N,) their classes.
        digest: Of the labels, and of the pixels of some images, evenly spread.
    """

    path: Path
    labels: npt.NDArray[np.uint8]
    digest: bytes


def open_pcam(folder: Path, cache: Path) -> tuple[ImageSet, ImageSet]:
    """Return the training images, the validation images among them, and the test images.

    Args:
        folder: Holds ``camelyonpatch_level_2_split_{train,valid,test}_{x,y}.h5``.
        cache: Not used: the files hold few checksums of their own to compute.

    Raises:
        PreflightError: h5py is not installed; a file is missing or damaged.
    """
    del cache
    import_optional("h5py", "PatchCamelyon")
    train, valid, test = (_open_part(folder, name) for name in ("train", "valid", "test"))
    return _Patches((train, valid)), _Patches((test,))


class _Patches(ImageSet):
    """Images read one by one from where they lie."""

    def __init__(self, parts: Sequence[_Part]) -> None:
        self.name = "PatchCamelyon"
        self.classes = _CLASSES
        self._paths = [part.path for part in parts]
        self._labels = np.concatenate([part.labels for part in parts])
        self._firsts = [0, *np.cumsum([len(part.labels) for part in parts]).tolist()]
        self.fingerprint = sha256(b"".join(part.digest for part in parts)).hexdigest()[:16]

    def __len__(self) -> int:
        return len(self._labels)

    def read(self, index: int) -> bytes:
        path, row = self._place(index)
        try:
            return as_file(_kept_open(path)[row])
        except (KeyError, RuntimeError) as error:
            raise OSError(_reason(error)) from error

    def name_of(self, index: int) -> str:
        path, row = self._place(index)
        return f"{path}, image {row}"

    def label(self, index: int) -> int:
        return int(self._labels[index])

    def _place(self, index: int) -> tuple[Path, int]:
        part = bisect_right(self._firsts, index) - 1
        return self._paths[part], index - self._firsts[part]


def _open_part(folder: Path, name: str) -> _Part:
    path, labels_path = (
        folder / f"camelyonpatch_level_2_split_{name}_{letter}.h5" for letter in "xy"
    )
    count, sample = _take(path, "x", _SHAPE, lambda held: (len(held), _sample(held)))
    labels = _take(labels_path, "y", (1, 1, 1), lambda held: held[:].reshape(-1))
    if count != len(labels):
        raise PreflightError(
            f"{path} holds {count} images and {labels_path.name} {len(labels)} labels; download "
            "both anew."
        )
    if labels.max() >= len(_CLASSES):
        raise PreflightError(
            f"{labels_path} holds the label {labels.max()}, where PatchCamelyon has 0 and 1; "
            "download it anew."
        )
    return _Part(path, labels, sha256(labels.tobytes() + sample).digest())


def _sample(held: Any) -> bytes:
    rows = np.linspace(0, len(held) - 1, min(_SAMPLED, len(held))).round().astype(int)
    return b"".join(held[row].tobytes() for row in rows.tolist())


def _take(path: Path, key: str, shape: tuple[int, ...], what: Callable[[Any], T]) -> T:
    """Return ``what`` of a file's rows, each of ``shape``; the file is closed again."""
    if not path.is_file():
        raise PreflightError(
            f"{path} is missing; the six files camelyonpatch_level_2_split_{{train,valid,test}}_"
            "{x,y}.h5 belong there, unpacked from .gz."
        )
    try:
        with reading(str(path)), _open(path) as file:
            _refuse_other(path, key, shape, file[key])
            return what(file[key])
    except (OSError, KeyError, RuntimeError) as error:
        raise PreflightError(
            f"{path} cannot be read ({_reason(error)}); download it anew."
        ) from error


def _refuse_other(path: Path, key: str, shape: tuple[int, ...], held: Any) -> None:
    found = getattr(held, "shape", None) or ()
    if found[:1] in ((), (0,)) or found[1:] != shape or held.dtype != np.uint8:
        shown = f"{held.dtype} of shape {found}" if found else "something else"
        raise PreflightError(
            f"{path} holds {shown} under {key!r}, where PatchCamelyon has uint8 of shape "
            f"(N, {', '.join(map(str, shape))}); download it anew."
        )


def _reason(error: Exception) -> str:
    # A KeyError shows its text in quotes.
    return str(error.args[0] if error.args else error).partition("\n")[0].rstrip(".")


def _open(path: Path) -> Any:
    # Nobody writes there, and file systems without locks are common on clusters.
    return import_optional("h5py", "PatchCamelyon").File(path, "r", locking=False)


@lru_cache(maxsize=3)
def _kept_open(path: Path) -> Any:
    return _open(path)["x"]


# HDF5 keeps state for each open file, which processes must not share: a forked one opens its own.
os.register_at_fork(after_in_child=_kept_open.cache_clear)
