"""What a scene holds: how many objects, how large, what lies around them."""

from typing import Literal

from benchmarks.data.mini.classes import CLASSES
from benchmarks.data.mini.photos import Split
from benchmarks.data.mini.scene import Scene
from benchmarks.data.mini.shapes import SHAPES, fill, outline
from benchmarks.data.mini.stream import Stream

SizeBucket = Literal["small", "medium", "large"]

SIDES: dict[SizeBucket, tuple[float, float]] = {
    "small": (20.0, 31.0),
    "medium": (40.0, 76.0),
    "large": (100.0, 112.0),
}
"""Square root of an object's area, in pixels, inside COCO's three buckets (32 and 96)."""

_CLASSES_TRIED = 3

_EXTENTS = (9, 12)
"""Shortest and longest side of a picture, in units of 16 pixels."""
_EXTENTS_LARGE = (11, 13)
"""Where a large object has to find room."""


def compose(split: Split, stream: Stream, index: int) -> Scene:
    """Compose one detection scene.

    Args:
        split: Which halves of the photographs to use.
        stream: The image's own random numbers.
        index: The image's number; every 40th scene has no objects, every 16th one a crowd.

    Returns:
        The scene, before noise.
    """
    sides = _sides(stream)
    shortest, longest = _EXTENTS_LARGE if max(sides) > SIDES["medium"][1] else _EXTENTS
    height, width = (16 * stream.integer(shortest, longest) for _ in range(2))
    scene = Scene(height, width, split, stream)
    scene.paint_background()
    for _ in range(stream.integer(0, 1)):
        scene.add_clutter(stream.between(20, 50))
    if index % 40 == 39:
        return scene
    if index % 16 == 7:
        scene.add_crowd(stream.integer(0, len(CLASSES) - 1))
    for side in sides:
        _add_any_object(scene, side)
    if stream.chance(0.2):
        scene.add_clutter(stream.between(14, 24))
    return scene


def _add_any_object(scene: Scene, side: float) -> None:
    """Add an object of a random class, or of another one where that finds no place."""
    for _ in range(_CLASSES_TRIED):
        if scene.add_object(scene.stream.integer(0, len(CLASSES) - 1), side, center=None):
            return


def _sides(stream: Stream) -> list[float]:
    """Return the sizes of a scene's objects, large ones first so that they hide fewer."""
    sides = []
    if stream.chance(0.3):
        sides.append(stream.between(*SIDES["large"]))
    sides += [stream.between(*SIDES["medium"]) for _ in range(stream.integer(1, 2))]
    sides += [stream.between(*SIDES["small"]) for _ in range(stream.integer(0, 1))]
    return sorted(sides, reverse=True)


def compose_crop(split: Split, stream: Stream, class_index: int) -> Scene:
    """Compose a small scene around one object, with about 15 % of context on every side.

    Args:
        split: Which halves of the photographs to use.
        stream: The picture's own random numbers.
        class_index: Index into ``CLASSES``.

    Returns:
        The scene, before noise; its first object is the one in the middle.
    """
    side = stream.between(30, 56)
    cover = fill(outline(SHAPES[CLASSES[class_index].shape], side, stream))
    context = stream.integer(10, 20)
    height, width = (extent + 2 * extent * context // 100 for extent in cover.samples.shape)
    scene = Scene(height, width, split, stream)
    scene.paint_background()
    if stream.chance(0.5):
        scene.add_clutter(stream.between(14, 40))
    x = (width - cover.samples.shape[1]) // 2 - cover.left + stream.integer(-3, 3)
    y = (height - cover.samples.shape[0]) // 2 - cover.top + stream.integer(-3, 3)
    scene.place(class_index, side, cover.moved(x, y, height, width))
    if stream.chance(0.3):
        corner = (stream.pick((0, width)), stream.pick((0, height)))
        scene.add_object(stream.integer(0, len(CLASSES) - 1), stream.between(16, 30), corner)
    return scene
