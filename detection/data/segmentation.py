"""COCO's two encodings of a mask, polygons and run lengths: checked and measured."""

import math
from dataclasses import dataclass
from typing import Any

import pycocotools.mask as rle_tools

from backbones.base.wording import quoted
from detection.truth.polygons import cut_to_image

Segmentation = list[list[float]] | dict[str, Any]

# A polygon needs three points, each an x and a y.
FEWEST_NUMBERS = 6


class BrokenMaskError(Exception):
    """A mask cannot be read; the message is a phrase that says what it is."""


@dataclass(frozen=True)
class Checked:
    """A mask in canonical form.

    Attributes:
        segmentation: Polygons as lists of numbers, or compressed run lengths with ``counts`` as
            ASCII text; None where the annotation has no mask.
        dropped: How many of its polygons were no polygons.
        cut: A corner lay so far outside the image that what lies there was cut off.
    """

    segmentation: Segmentation | None
    dropped: int = 0
    cut: bool = False


def check_segmentation(segmentation: Any, height: int, width: int) -> Checked:
    """Return a mask in canonical form.

    Args:
        segmentation: As a COCO file has it: polygons, or a dict with ``size`` and ``counts``.
        height: Of the image, in pixels.
        width: Of the image, in pixels.

    Raises:
        BrokenMaskError: The mask cannot be right.
    """
    if isinstance(segmentation, dict):
        return Checked(_check_rle(segmentation, height, width))
    if not isinstance(segmentation, list):
        raise BrokenMaskError("a segmentation that is neither polygons nor run lengths")
    if not any(segmentation):
        return Checked(None)
    faults = [_polygon_fault(polygon) for polygon in segmentation]
    sound = [p for p, fault in zip(segmentation, faults, strict=True) if not fault]
    if not sound:
        raise BrokenMaskError(next(filter(None, faults)))
    near = [_near(polygon, height, width) for polygon in sound]
    kept = [polygon for polygon in near if len(polygon) >= FEWEST_NUMBERS]
    if not kept:
        raise BrokenMaskError("a mask far outside its image")
    return Checked(kept, len(segmentation) - len(sound), near != sound)


def misformed(segmentation: Any) -> str:
    """Say how a mask that cannot be read is written, empty where that is not plain."""
    if isinstance(segmentation, str):
        return "masks look like JSON within text"
    if isinstance(segmentation, dict):
        text = str(segmentation.get("counts"))
        return "run lengths look like Python's bytes as text" if text[:2] in ("b'", 'b"') else ""
    first = segmentation[0] if isinstance(segmentation, list) and segmentation else None
    if isinstance(first, int | float):
        return "polygons look like one list of numbers; COCO's masks are lists of such lists"
    if isinstance(first, dict) and "counts" in first:
        return "run lengths look wrapped in a list"
    inner = first[0] if isinstance(first, list) and first else first
    pairs = isinstance(first, list) and len(first) == 2 and len(segmentation) > 2
    if pairs or isinstance(inner, list | dict):
        return "polygons look like lists of points; COCO's are [x0, y0, x1, y1, ...]"
    return "numbers of polygons look like text" if isinstance(inner, str) else ""


def _polygon_fault(polygon: Any) -> str:
    """Say what is wrong with a polygon, empty for a sound one."""
    if not isinstance(polygon, list) or not set(map(type, polygon)) <= {int, float}:
        return "a polygon that is not a list of numbers"
    if len(polygon) % 2 or not all(map(math.isfinite, polygon)):
        return "a polygon with NaN or an odd count of numbers"
    return "" if len(polygon) >= FEWEST_NUMBERS else "a polygon of fewer than three points"


def _near(polygon: list[float], height: int, width: int) -> list[float]:
    """Return a polygon, without what lies farther outside the image than the image is large."""
    far = max(height, width)
    if min(polygon) >= -far and max(polygon) <= 2 * far:
        return polygon
    return cut_to_image(polygon, width, height)


def segmentation_rle(segmentation: Segmentation, height: int, width: int) -> dict[str, Any]:
    """Return any canonical mask as one compressed run-length mask of the image's size."""
    if isinstance(segmentation, dict):
        return segmentation
    rle: dict[str, Any] = rle_tools.merge(rle_tools.frPyObjects(segmentation, height, width))
    return rle


def segmentation_area(segmentation: Segmentation, height: int, width: int) -> float:
    """Return the mask's area in pixels."""
    return float(rle_tools.area(segmentation_rle(segmentation, height, width)))


def _check_rle(rle: dict[str, Any], height: int, width: int) -> dict[str, Any]:
    """Return a run-length mask with compressed counts, after proving that it fits the image."""
    if rle.get("size") != [height, width]:
        raise BrokenMaskError(
            f"a run-length mask of size {quoted(rle.get('size'))} in an image of height {height} "
            f"and width {width}"
        )
    counts = rle.get("counts")
    if isinstance(counts, list):
        runs = counts if all(isinstance(run, int) for run in counts) else [-1]
    elif isinstance(counts, str):
        runs = _uncompressed(counts)
    else:
        raise BrokenMaskError("a run-length mask without counts")
    # The C decoder trusts its input: runs that go beyond the image would be written there.
    if min(runs, default=-1) < 0 or sum(runs) != height * width:
        raise BrokenMaskError(
            f"a run-length mask whose runs do not add up to the {height * width} pixels of its "
            "image"
        )
    if isinstance(counts, list):
        compressed = rle_tools.frPyObjects(
            {"size": [height, width], "counts": counts}, height, width
        )
        counts = compressed["counts"].decode("ascii")
    return {"size": [height, width], "counts": counts}


def _uncompressed(text: str) -> list[int]:
    """Return the runs behind COCO's compressed text, or a negative run where it is no such text.

    The format (cocoapi ``maskApi.c``, ``rleFrString``): base 32 digits from character 48 on, least
    significant first, bit 5 says that more follow, bit 4 of the last is the sign; from the fourth
    on a run is stored as its difference to the run two before.
    """
    runs: list[int] = []
    value = shift = 0
    more = False
    for character in text:
        digit = ord(character) - 48
        if not 0 <= digit < 64:
            return [-1]
        value |= (digit & 0x1F) << shift
        shift += 5
        more = bool(digit & 0x20)
        if more:
            continue
        if digit & 0x10:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0
    return [-1] if more else runs
