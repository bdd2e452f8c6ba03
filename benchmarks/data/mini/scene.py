"""Composition: a background, clutter, objects that hide each other, and whose pixel is whose."""

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.data.mini.photos import Frame, Pixels, Split, cut, grey_half, photo_half
from benchmarks.data.mini.shapes import (
    CLUTTER_SHAPES,
    SHAPES,
    SUBPIXELS,
    Coverage,
    fill,
    outline,
)
from benchmarks.data.mini.stream import Stream

TEXTURES: dict[str, float] = {"brick": 1.8, "grass": 1.0, "page": 1.1, "gravel": 1.3, "coins": 2.8}
"""Photographs that fill objects, with photograph pixels per image pixel for a 64-pixel object:
chosen by eye so that about three bricks, lines, stones or coins lie side by side."""

_CHANNEL_ORDERS = ((0, 1, 2), (0, 1, 2), (0, 1, 2), (1, 0, 2), (2, 1, 0), (1, 2, 0))

BACKGROUNDS = ("astronaut", "camera", "chelsea", "coffee", "ihc", "rocket", "china", "flower")


@dataclass(frozen=True)
class ObjectClass:
    """A pairing of a shape and a texture."""

    shape: str
    texture: str

    @property
    def name(self) -> str:
        """Return the class's name, as ``"brick star"``."""
        return f"{self.texture} {self.shape}"


def _pairings() -> tuple[ObjectClass, ...]:
    textures = tuple(TEXTURES)
    return tuple(
        ObjectClass(shape, textures[(number + step) % len(textures)])
        for number, shape in enumerate(SHAPES)
        for step in (0, 1)
    )


CLASSES: tuple[ObjectClass, ...] = _pairings()
"""Each shape and each texture belongs to two classes, so neither alone tells the class."""

VISIBLE_AT_LEAST = 0.5
"""A later object may hide half of an earlier one; one that clutter hides further is dropped."""

PIXELS_AT_LEAST = 40
"""Fewer visible pixels than this and an object counts as hidden."""


_PLACES_TRIED = 8


@dataclass
class PlacedObject:
    """One object, or one crowd of objects, of a scene."""

    class_index: int
    full_area: int
    """Pixels inside the canvas, as if nothing hid it."""
    crowd: bool = False


@dataclass
class Scene:
    """A picture in the making."""

    height: int
    width: int
    split: Split
    stream: Stream
    pixels: Pixels = field(init=False)
    owner: NDArray[np.int16] = field(init=False)
    """Number of the object that owns each pixel, -1 for background and clutter."""
    objects: list[PlacedObject] = field(default_factory=list)
    photos: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.pixels = np.zeros((self.height, self.width, 3), np.int32)
        self.owner = np.full((self.height, self.width), -1, np.int16)

    def paint_background(self) -> None:
        """Fill the canvas with a piece of a photograph in changed colours and soft contrast."""
        stream = self.stream
        name = stream.pick(BACKGROUNDS)
        self.photos.add(name)
        frame = Frame(
            x=stream.between(0.2, 0.8),
            y=stream.between(0.2, 0.8),
            scale=stream.between(0.5, 1.4),
            angle=stream.between(-0.5, 0.5),
            mirrored=stream.chance(0.5),
        )
        piece = cut(photo_half(name, self.split), frame, self.height, self.width)
        order = stream.pick(_CHANNEL_ORDERS)
        contrast = stream.integer(130, 220)
        tint = np.array([stream.integer(85, 135) for _ in range(3)])
        mean = piece.reshape(-1, 3).sum(axis=0) // (self.height * self.width)
        level = (mean + tint) // 2
        picture = level[list(order)] + ((piece - mean)[..., list(order)] * contrast >> 8)
        self.pixels = np.clip(picture, 0, 255).astype(np.int32)

    def add_clutter(self, side: float) -> None:
        """Paint a patch that belongs to no class, anywhere, over whatever lies there."""
        stream = self.stream
        rings = outline(CLUTTER_SHAPES[stream.pick(tuple(CLUTTER_SHAPES))], side, stream)
        x, y = stream.integer(0, self.width), stream.integer(0, self.height)
        cover = fill(rings).moved(x, y, self.height, self.width)
        texture = stream.pick(tuple(TEXTURES) + BACKGROUNDS)
        self._paint(cover, self._textured(texture, side, cover))
        self.owner[cover.window][cover.mask] = -1

    def add_object(self, class_index: int, side: float, center: tuple[int, int] | None) -> bool:
        """Paint an object where it hides no other too much.

        Args:
            class_index: Index into ``CLASSES``.
            side: Square root of the object's area, in pixels.
            center: x and y in pixels, or None for a random place.

        Returns:
            Whether a place was found.
        """
        cover = fill(outline(SHAPES[CLASSES[class_index].shape], side, self.stream))
        margin = round(0.3 * side)
        for _ in range(1 if center else _PLACES_TRIED):
            x, y = center or (
                self.stream.integer(margin, self.width - margin),
                self.stream.integer(margin, self.height - margin),
            )
            moved = cover.moved(x, y, self.height, self.width)
            if self._fits(moved, side):
                self.place(class_index, side, moved)
                return True
        return False

    def place(self, class_index: int, side: float, cover: Coverage) -> None:
        """Paint an object at a given place, over whatever lies there."""
        self._paint(cover, self._textured(CLASSES[class_index].texture, side, cover))
        self.owner[cover.window][cover.mask] = len(self.objects)
        self.objects.append(PlacedObject(class_index, int(cover.mask.sum())))

    def add_crowd(self, class_index: int) -> None:
        """Paint a group of many small objects of a class that counts as one crowd region."""
        stream = self.stream
        x, y = stream.integer(40, self.width - 40), stream.integer(40, self.height - 40)
        first = len(self.objects)
        for _ in range(24):
            angle, distance = stream.between(0, 2 * math.pi), stream.between(0, 44)
            center = (
                x + round(distance * math.cos(angle)),
                y + round(distance * math.sin(angle)),
            )
            self.add_object(class_index, stream.between(13, 20), center)
        members = range(first, len(self.objects))
        area = sum(self.objects[number].full_area for number in members)
        self.owner[np.isin(self.owner, list(members))] = first
        self.objects[first:] = [PlacedObject(class_index, area, crowd=True)] if members else []

    def finish(self, grey: bool) -> NDArray[np.uint8]:
        """Return the picture with a camera's noise: (height, width, 3), or (height, width)."""
        noise = self.stream.noise((self.height, self.width, 1), -4, 4)
        picture = np.clip(self.pixels + noise, 0, 255)
        if grey:
            picture = picture @ np.array([299, 587, 114]) // 1000
        finished: NDArray[np.uint8] = picture.astype(np.uint8)
        return finished

    def visible(self) -> list[tuple[PlacedObject, NDArray[np.bool_]]]:
        """Return the objects that can be seen, each with the mask of its visible pixels."""
        found = []
        for number, placed in enumerate(self.objects):
            mask = self.owner == number
            area = int(mask.sum())
            if area >= max(PIXELS_AT_LEAST, VISIBLE_AT_LEAST * placed.full_area):
                found.append((placed, mask))
        return found

    def _fits(self, cover: Coverage, side: float) -> bool:
        mask = cover.mask
        if mask.sum() < max(PIXELS_AT_LEAST, 0.65 * side * side):
            return False
        taken = self.owner[cover.window][mask]
        hidden = np.bincount(taken[taken >= 0], minlength=len(self.objects))
        for number in np.flatnonzero(hidden):
            left = int((self.owner == number).sum()) - int(hidden[number])
            if left < VISIBLE_AT_LEAST * self.objects[number].full_area:
                return False
        return True

    def _textured(self, name: str, side: float, cover: Coverage) -> Pixels:
        """Return a piece of a photograph for a window, in colours unlike what lies there."""
        stream = self.stream
        self.photos.add(name)
        # Small objects show finer detail, though not in proportion, as distant ones do.
        scale = TEXTURES.get(name, 1.0) * stream.between(0.75, 1.3) * math.sqrt(max(64 / side, 0.8))
        frame = Frame(
            x=stream.fraction(),
            y=stream.fraction(),
            scale=scale,
            angle=stream.between(0, 2 * math.pi),
            mirrored=False,
        )
        height, width = cover.samples.shape
        piece = cut(grey_half(name, self.split), frame, height, width)
        return self._recoloured(piece, cover)

    def _recoloured(self, piece: Pixels, cover: Coverage) -> Pixels:
        """Give a grey piece a random colour, contrast and light, so colour tells no class."""
        stream = self.stream
        count = max(piece.size, 1)
        mean = int(piece.sum()) // count
        spread = max(math.isqrt(int(((piece - mean) ** 2).sum()) // count), 4)
        around = self.pixels[cover.window].reshape(-1, 3).sum(axis=0) // count
        for _ in range(6):
            color = np.array([stream.integer(60, 195) for _ in range(3)])
            if int(abs(color - around).sum()) > 90:
                break
        contrast = stream.integer(28, 48) * (-1 if stream.chance(0.3) else 1)
        gains = np.array([contrast * stream.integer(75, 125) // 100 for _ in range(3)])
        lit = color + (piece - mean) * gains // spread
        height, width, _ = piece.shape
        slope_x, slope_y = stream.integer(-60, 60), stream.integer(-60, 60)
        across = slope_x * (2 * np.arange(width, dtype=np.int32)[None, :, None] - width) // width
        down = slope_y * (2 * np.arange(height, dtype=np.int32)[:, None, None] - height) // height
        shaded: Pixels = np.clip(lit * (256 + across + down) >> 8, 0, 255).astype(np.int32)
        return shaded

    def _paint(self, cover: Coverage, texture: Pixels) -> None:
        whole = SUBPIXELS * SUBPIXELS
        share = cover.samples[..., None]
        under = self.pixels[cover.window]
        self.pixels[cover.window] = (texture * share + under * (whole - share)) // whole


SizeBucket = Literal["small", "medium", "large"]

SIDES: dict[SizeBucket, tuple[float, float]] = {
    "small": (20.0, 31.0),
    "medium": (36.0, 80.0),
    "large": (108.0, 128.0),
}
"""Square root of an object's area, in pixels, inside COCO's three buckets (32 and 96)."""


def compose(split: Split, stream: Stream, index: int) -> Scene:
    """Compose one detection scene.

    Args:
        split: Which halves of the photographs to use.
        stream: The image's own random numbers.
        index: The image's number; every 40th scene has no objects, every 16th one a crowd.

    Returns:
        The scene, before noise.
    """
    height, width = 16 * stream.integer(10, 16), 16 * stream.integer(10, 16)
    scene = Scene(height, width, split, stream)
    scene.paint_background()
    for _ in range(stream.integer(0, 3)):
        scene.add_clutter(stream.between(20, 70))
    if index % 40 == 39:
        return scene
    if index % 16 == 7:
        scene.add_crowd(stream.integer(0, len(CLASSES) - 1))
    for side in _sides(stream):
        scene.add_object(stream.integer(0, len(CLASSES) - 1), side, center=None)
    if stream.chance(0.3):
        scene.add_clutter(stream.between(14, 24))
    return scene


def _sides(stream: Stream) -> list[float]:
    """Return the sizes of a scene's objects, large ones first so that they hide fewer."""
    sides = []
    if stream.chance(0.45):
        sides.append(stream.between(*SIDES["large"]))
    sides += [stream.between(*SIDES["medium"]) for _ in range(stream.integer(1, 3))]
    sides += [stream.between(*SIDES["small"]) for _ in range(stream.integer(0, 2))]
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
