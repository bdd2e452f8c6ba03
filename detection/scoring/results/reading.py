"""A results file of COCO's format, read entry by entry into columns.

The format (https://cocodataset.org/#format-results): a list of objects with ``image_id``,
``category_id``, ``score``, ``bbox`` (x, y, width, height in pixels) and, for masks,
``segmentation``. Python objects of one entry exist at a time, so that files of hundreds of
megabytes need little more than their own size.
"""

import mmap
import re
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt

from backbones.base.errors import PreflightError
from backbones.base.wording import first_of, quoted
from detection.data.segmentation import BrokenMaskError, check_segmentation

# What files begin with that are not JSON text.
_OTHER_FILES = {
    b"\x1f\x8b": "is compressed by gzip; unpack it with gunzip",
    b"PK": "is a ZIP or PyTorch file, not JSON; unpack it, or end its name in .pt",
    b"\x80": "is a pickle, not JSON; write the list with json.dump",
}
_NOT_FINITE = re.compile(rb"(?<![\w\"])-?(NaN|Infinity)(?![\w\"])")
_FORMAT = "a results file is a list of {image_id, category_id, bbox, score[, segmentation]}"
_UNBOXED = (float("nan"),) * 4


_Side = Annotated[int, msgspec.Meta(ge=1, le=2**20)]


class _Rle(msgspec.Struct):
    size: tuple[_Side, _Side]
    counts: str | list[int]


class _Entry(msgspec.Struct):
    image_id: int
    category_id: int
    score: float
    bbox: tuple[float, float, float, float] | None = None
    segmentation: _Rle | list[list[float]] | None = None


@dataclass(frozen=True)
class ResultColumns:
    """The N detections of a results file, in its order.

    Attributes:
        image_ids: (N,) int64 as in the file.
        category_ids: (N,) int64 as in the file.
        scores: (N,) float64.
        boxes: (N, 4) float64 x, y, width, height in pixels; NaN where an entry has no box.
        masks: Of each detection compressed COCO run-length ``counts``, polygons, or None.
        mask_sizes: (N, 2) int64 height and width of run-length masks, -1 for other detections.
    """

    image_ids: npt.NDArray[np.int64]
    category_ids: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float64]
    boxes: npt.NDArray[np.float64]
    masks: list[bytes | list[list[float]] | None]
    mask_sizes: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.scores)


def read_results(path: Path, *, boxes_only: bool = False) -> ResultColumns:
    """Read a results file.

    Args:
        path: The JSON file.
        boxes_only: Leave masks out.

    Raises:
        PreflightError: The file cannot be read, is not a list, is empty, is truncated, or has
            entries that are not detections; one sentence with counts.
    """
    return _columns(path, _entries(path, _mapped(path)), boxes_only)


def _mapped(path: Path) -> memoryview:
    """Return the bytes of a file without reading them all at once.

    The file is closed when nothing refers to its entries any more.

    Raises:
        PreflightError: The file cannot be read, is empty, or is not text.
    """
    try:
        with path.open("rb") as file:
            start = file.read(4)
            for magic, what in _OTHER_FILES.items():
                if start.startswith(magic):
                    raise PreflightError(f"{path} {what}.")
            if not start.strip():
                raise PreflightError(f"{path} is empty; {_FORMAT}.")
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise PreflightError(f"{path} cannot be read ({error.strerror}).") from error


def _entries(path: Path, content: memoryview) -> list[msgspec.Raw]:
    """Return the entries of a file, undecoded.

    Raises:
        PreflightError: It is not a list, or has no entry.
    """
    try:
        found = msgspec.json.decode(content, type=list[msgspec.Raw])
    except msgspec.ValidationError as error:
        raise PreflightError(f"{path} {_other_content(content)}; {_FORMAT}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PreflightError(f"{path} {_damage(content, error)}.") from error
    if not found:
        raise PreflightError(f"{path} is an empty list: it holds no detection; {_FORMAT}.")
    return found


def _other_content(content: memoryview) -> str:
    """Say what JSON that is not a list holds."""
    try:
        names = list(msgspec.json.decode(content, type=dict[str, msgspec.Raw]))
    except msgspec.MsgspecError:
        return "holds a single value, not a list"
    if {"annotations", "images"} <= set(names):
        return "holds ground truth (images and annotations), not detections"
    return f"holds an object ({first_of([quoted(name) for name in names])}), not a list"


def _damage(content: memoryview, error: Exception) -> str:
    """Say why a text is not JSON."""
    found = len(_NOT_FINITE.findall(content))
    if found:
        return f"has NaN or infinity {found} times, which JSON does not allow; remove or fix them"
    if "truncated" in str(error):
        return "is cut off in the middle; copy or write it again"
    return f"is not JSON ({error}); {_FORMAT}"


class _Builder:
    """Collects entries as columns."""

    def __init__(self, boxes_only: bool) -> None:
        self._boxes_only = boxes_only
        self._ids, self._sizes = array("q"), array("q")
        self._numbers = array("d")
        self._masks: list[bytes | list[list[float]] | None] = []

    def add(self, entry: _Entry) -> None:
        """Append an entry.

        Raises:
            BrokenMaskError: Its mask cannot be right.
        """
        segmentation = None if self._boxes_only else entry.segmentation
        mask, size = _mask(segmentation)
        self._ids.extend((entry.image_id, entry.category_id))
        self._numbers.extend((entry.score, *(entry.bbox or _UNBOXED)))
        self._sizes.extend(size)
        self._masks.append(mask)

    def columns(self) -> ResultColumns:
        """Return what was collected."""
        ids = np.array(self._ids, dtype=np.int64).reshape(-1, 2)
        numbers = np.array(self._numbers, dtype=np.float64).reshape(-1, 5)
        return ResultColumns(
            image_ids=ids[:, 0].copy(),
            category_ids=ids[:, 1].copy(),
            scores=numbers[:, 0].copy(),
            boxes=numbers[:, 1:].copy(),
            masks=self._masks,
            mask_sizes=np.array(self._sizes, dtype=np.int64).reshape(-1, 2),
        )


def _mask(
    segmentation: _Rle | list[list[float]] | None,
) -> tuple[bytes | list[list[float]] | None, tuple[int, int]]:
    """Return a mask's run lengths or polygons, and the size that it states.

    Raises:
        BrokenMaskError: Its runs are not those of a mask of its size.
    """
    if segmentation is None or isinstance(segmentation, list):
        return segmentation or None, (-1, -1)
    height, width = segmentation.size
    stated = {"size": [height, width], "counts": segmentation.counts}
    checked = check_segmentation(stated, height, width).segmentation
    assert isinstance(checked, dict)
    return checked["counts"].encode("ascii"), (height, width)


def _columns(path: Path, entries: list[msgspec.Raw], boxes_only: bool) -> ResultColumns:
    decoder = msgspec.json.Decoder(_Entry)
    builder = _Builder(boxes_only)
    wrong: list[str] = []
    count = 0
    for number, raw in enumerate(entries, start=1):
        try:
            builder.add(decoder.decode(raw))
        except msgspec.DecodeError as error:
            count += 1
            wrong += [f"entry {number}: {_fault(raw, str(error))}"] if not wrong else []
        except (BrokenMaskError, OverflowError) as error:
            count += 1
            wrong += [f"entry {number} has {_too_large(error)}"] if not wrong else []
    if wrong:
        raise PreflightError(
            f"{path}: {count:,} of {len(entries):,} entries are not detections ({wrong[0]}); "
            f"{_FORMAT}."
        )
    return builder.columns()


def _too_large(error: Exception) -> str:
    return str(error) if isinstance(error, BrokenMaskError) else "a number too large for an id"


def _fault(raw: msgspec.Raw, message: str) -> str:
    """Return what is wrong with an entry, and the likely cause where there is one."""
    found = re.fullmatch(r"(.*) - at `\$\.?(.*)`", message)
    what = f"{found[2] or 'it'}: {_lowered(found[1])}" if found else _lowered(message)
    what = what.replace("`", "")
    try:
        names = set(msgspec.json.decode(raw, type=dict[str, Any]))
    except msgspec.MsgspecError:
        return what
    if "score" not in names and names & {"iscrowd", "area", "id"}:
        return f"{what}; this looks like an annotation of the ground truth"
    return what


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:]
