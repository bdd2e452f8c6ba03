"""A picture in the making: what is painted where, and whose pixel is whose."""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from benchmarks.data.mini.classes import BACKGROUNDS, CLASSES, TEXTURES, TONES
from benchmarks.data.mini.photos import Frame, Pixels, Split, cut, grey_half, photo_half
from benchmarks.data.mini.shapes import (
    CLUTTER_SHAPES,
    SHAPES,
    SUBPIXELS,
    PixelCoverage,
    fill,
    outline,
)
from benchmarks.data.mini.stream import Stream

_CHANNEL_ORDERS = ((0, 1, 2), (0, 1, 2), (0, 1, 2), (1, 0, 2), (2, 1, 0), (1, 2, 0))

VISIBLE_AT_LEAST = 0.6
"""A later object may hide 40 % of an earlier one; one that clutter hides further is dropped."""

PIXELS_AT_LEAST = 40
"""Fewer visible pixels than this and an object counts as hidden."""

_PLACES_TRIED = 8

# Clutter is darker and flatter than objects, as backgrounds are: a fresh network of a few hundred
# thousand parameters has to find objects within some hundred steps.
_CLUTTER_TONE = 80
_CLUTTER_CONTRAST = 20


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
            scale=stream.between(0.3, 0.8),
            angle=stream.between(-0.5, 0.5),
            mirrored=stream.chance(0.5),
        )
        piece = cut(photo_half(name, self.split), frame, self.height, self.width)
        order = stream.pick(_CHANNEL_ORDERS)
        contrast = stream.integer(50, 100)
        tint = np.array([stream.integer(25, 70) for _ in range(3)], np.int32)
        mean = (piece.reshape(-1, 3).sum(axis=0) // (self.height * self.width)).astype(np.int32)
        level = (mean + 2 * tint) // 3
        picture = level[list(order)] + ((piece - mean)[..., list(order)] * contrast >> 8)
        self.pixels = np.clip(picture, 0, 255).astype(np.int32)

    def add_clutter(self, side: float) -> None:
        """Paint a patch that belongs to no class, anywhere, over whatever lies there."""
        stream = self.stream
        rings = outline(CLUTTER_SHAPES[stream.pick(tuple(CLUTTER_SHAPES))], side, stream)
        x, y = stream.integer(0, self.width), stream.integer(0, self.height)
        cover = fill(rings).moved(x, y, self.height, self.width)
        texture = stream.pick(BACKGROUNDS)
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
        margin = round(0.4 * side)
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

    def place(self, class_index: int, side: float, cover: PixelCoverage) -> None:
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

    def _fits(self, cover: PixelCoverage, side: float) -> bool:
        mask = cover.mask
        if mask.sum() < max(PIXELS_AT_LEAST, 0.8 * side * side):
            return False
        taken = self.owner[cover.window][mask]
        hidden = np.bincount(taken[taken >= 0], minlength=len(self.objects))
        for number in np.flatnonzero(hidden):
            left = int((self.owner == number).sum()) - int(hidden[number])
            if left < VISIBLE_AT_LEAST * self.objects[number].full_area:
                return False
        return True

    def _textured(self, name: str, side: float, cover: PixelCoverage) -> Pixels:
        """Return a piece of a photograph for a window, in random colours."""
        stream = self.stream
        self.photos.add(name)
        # Small objects show finer detail, though not in proportion, as distant ones do.
        scale = (
            TEXTURES.get(name, 1.0) * stream.between(0.85, 1.15) * math.sqrt(max(64 / side, 0.8))
        )
        frame = Frame(
            x=stream.fraction(),
            y=stream.fraction(),
            scale=scale,
            angle=stream.between(-0.2, 0.2),
        )
        height, width = cover.samples.shape
        piece = cut(grey_half(name, self.split), frame, height, width)
        return self._recoloured(piece, TONES.get(name))

    def _recoloured(self, piece: Pixels, tone: int | None) -> Pixels:
        """Give a grey piece a random tint, contrast and light; a tone of None means clutter."""
        stream = self.stream
        count = max(piece.size, 1)
        mean = int(piece.sum()) // count
        spread = max(math.isqrt(int(((piece - mean) ** 2).sum()) // count), 4)
        grey = (tone or _CLUTTER_TONE) + stream.integer(-25, 25)
        color = np.array([grey + stream.integer(-24, 24) for _ in range(3)], np.int32)
        contrast = stream.integer(40, 50) if tone else _CLUTTER_CONTRAST
        gains = np.array([contrast * stream.integer(85, 115) // 100 for _ in range(3)], np.int32)
        lit = color + (piece - mean) * gains // spread
        height, width, _ = piece.shape
        slope_x, slope_y = stream.integer(-25, 25), stream.integer(-25, 25)
        across = slope_x * (2 * np.arange(width, dtype=np.int32)[None, :, None] - width) // width
        down = slope_y * (2 * np.arange(height, dtype=np.int32)[:, None, None] - height) // height
        shaded: Pixels = np.clip(lit * (256 + across + down) >> 8, 0, 255).astype(np.int32)
        return shaded

    def _paint(self, cover: PixelCoverage, texture: Pixels) -> None:
        whole = SUBPIXELS * SUBPIXELS
        share = cover.samples[..., None]
        under = self.pixels[cover.window]
        self.pixels[cover.window] = (texture * share + under * (whole - share)) // whole
