"""The detection set: scenes as COCO images and annotations.

Masks are written as polygons that run along pixel edges, or as uncompressed run lengths where an
object has a hole and for every fourth object; both give back exactly the mask, so an annotation's
area and box are the mask's own.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.data.mini.classes import CLASSES
from benchmarks.data.mini.compose import compose
from benchmarks.data.mini.photos import PHOTOS, Split
from benchmarks.data.mini.png import png_bytes
from benchmarks.data.mini.scene import Scene
from benchmarks.data.mini.stream import Stream

NUM_IMAGES: dict[Split, int] = {"train": 800, "val": 150}
# Training images that hold an object; detection trains on no others.
NUM_TRAINABLE = 780

_SEED = {"train": (2026, 1), "val": (2026, 2)}
_FIRST_ID = {"train": 1, "val": 100001}
_GREY_EVERY = 50
_RLE_EVERY = 4
_MAX_OBJECTS = 100

Mask = NDArray[np.bool_]


def image_path(split: Split, index: int) -> str:
    """Return an image's path inside the data set's root, as COCO names its files."""
    return f"{split}2017/{_FIRST_ID[split] + index:012d}.png"


def make_image(split: Split, index: int) -> tuple[bytes, dict[str, Any]]:
    """Make one image with its annotations; equal arguments give equal bytes.

    Args:
        split: ``"train"`` or ``"val"``.
        index: From 0 to ``NUM_IMAGES[split]`` - 1.

    Returns:
        The PNG file and ``{"image": ..., "annotations": [...]}`` in COCO's format.
    """
    scene = compose(split, Stream(*_SEED[split], index), index)
    grey = index % _GREY_EVERY == _GREY_EVERY - 2
    picture = scene.finish(grey)
    image_id = _FIRST_ID[split] + index
    record = {
        "id": image_id,
        "file_name": image_path(split, index).partition("/")[2],
        "height": scene.height,
        "width": scene.width,
        "license": max(_LICENCE_IDS[PHOTOS[name].licence] for name in scene.photos),
        "photos": sorted(scene.photos),
    }
    return png_bytes(picture), {"image": record, "annotations": _annotations(scene, image_id)}


def instances(split: Split, records: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the content of ``instances_*2017.json``.

    Args:
        split: ``"train"`` or ``"val"``.
        records: What ``make_image`` returned for every image, in order.
    """
    return {
        "info": {
            "description": f"Backbench mini data, {split}: composed from photographs, not scenes",
            "version": "1.0",
            "year": 2026,
            "contributor": "; ".join(f"{name}: {photo.credit}" for name, photo in PHOTOS.items()),
        },
        "licenses": [
            {"id": _LICENCE_IDS[name], "name": name, "url": url} for name, url in _LICENCES.items()
        ],
        "categories": [
            {"id": number, "name": kind.name, "supercategory": kind.shape}
            for number, kind in enumerate(CLASSES, start=1)
        ],
        "images": [record["image"] for record in records],
        "annotations": [entry for record in records for entry in record["annotations"]],
    }


# In the order of what they ask of a user, so the strictest of an image's photographs is the last.
_LICENCES = {
    "CC0 1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "No known copyright restrictions": "https://rightsstatements.org/vocab/NKC/1.0/",
    "BSD-3-Clause": "https://github.com/scikit-image/scikit-image/blob/main/LICENSE.txt",
    "CC BY 2.0": "https://creativecommons.org/licenses/by/2.0/",
}
_LICENCE_IDS = {name: number for number, name in enumerate(_LICENCES, start=1)}


def _annotations(scene: Scene, image_id: int) -> list[dict[str, Any]]:
    found = []
    for number, (placed, mask) in enumerate(scene.visible()):
        prefer_runs = placed.crowd or (image_id + number) % _RLE_EVERY == 0
        outlines = None if prefer_runs else polygons(mask)
        found.append(
            {
                "id": image_id * _MAX_OBJECTS + number,
                "image_id": image_id,
                "category_id": placed.class_index + 1,
                "segmentation": run_lengths(mask) if outlines is None else outlines,
                "area": int(mask.sum()),
                "bbox": tight_box(mask),
                "iscrowd": int(placed.crowd),
            }
        )
    return found


def tight_box(mask: Mask) -> list[int]:
    """Return the smallest box around a mask that is not empty: x, y, width, height in pixels."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    left, top = int(columns[0]), int(rows[0])
    return [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top]


def run_lengths(mask: Mask) -> dict[str, list[int]]:
    """Return COCO's uncompressed run-length encoding: columns first, beginning with zeros."""
    flat = np.concatenate([[False], mask.ravel(order="F")])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    ends = np.concatenate([[0], changes, [mask.size]])
    return {"counts": np.diff(ends).tolist(), "size": list(mask.shape)}


def polygons(mask: Mask) -> list[list[int]] | None:
    """Return outlines along pixel edges, one a 4-connected part, or None where there is a hole.

    Args:
        mask: (height, width), not empty.

    Returns:
        Lists of x, y, x, y ... in pixel corners, which COCO's tools fill to exactly ``mask``.
    """
    left, top, width, height = tight_box(mask)
    outgoing = _directed_edges(mask[top : top + height, left : left + width])
    unused = {(corner, heading) for corner, found in outgoing.items() for heading in found}
    outlines = []
    for corner, found in outgoing.items():
        for heading in found:
            if (corner, heading) in unused:
                corners = _walk(corner, heading, outgoing, unused)
                if _turns_left(corners):
                    return None
                outlines.append([value for x, y in corners for value in (x + left, y + top)])
    return outlines


Corner = tuple[int, int]


def _directed_edges(mask: Mask) -> dict[Corner, list[Corner]]:
    """Return the unit edges around a mask, from corner to corner, with the mask on the right."""
    padded = np.pad(mask, 1)
    inner = padded[1:-1, 1:-1]
    outgoing: dict[Corner, list[Corner]] = {}
    # For each side of a pixel: its neighbour there, and the side's first corner and direction.
    sides = (
        (padded[:-2, 1:-1], (0, 0), (1, 0)),
        (padded[1:-1, 2:], (1, 0), (0, 1)),
        (padded[2:, 1:-1], (1, 1), (-1, 0)),
        (padded[1:-1, :-2], (0, 1), (0, -1)),
    )
    for neighbour, (x, y), direction in sides:
        rows, columns = np.nonzero(inner & ~neighbour)
        for corner in zip((columns + x).tolist(), (rows + y).tolist(), strict=True):
            outgoing.setdefault(corner, []).append(direction)
    return outgoing


def _walk(
    here: Corner,
    heading: Corner,
    outgoing: dict[Corner, list[Corner]],
    unused: set[tuple[Corner, Corner]],
) -> list[Corner]:
    """Follow one outline until it closes; return where it turns and strike out its edges."""
    corners = []
    while (here, heading) in unused:
        unused.remove((here, heading))
        here = (here[0] + heading[0], here[1] + heading[1])
        # Where two pixels meet at a corner, turning right stays with the same one.
        right = (-heading[1], heading[0])
        turned = right if right in outgoing[here] else outgoing[here][0]
        if turned != heading:
            corners.append(here)
        heading = turned
    return corners


def _turns_left(corners: list[Corner]) -> bool:
    """Tell whether an outline runs against the clock on the screen, as holes do."""
    twice = 0
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
        twice += x0 * y1 - x1 * y0
    return twice < 0
