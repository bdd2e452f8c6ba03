"""Outlines of objects, and the pixels they cover.

Vertices are rounded to quarter pixels and filled in integer arithmetic, so the last digit of a
sine cannot change a mask.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.data.mini.stream import Stream

Ring = NDArray[np.float64]
"""A closed outline, (points, 2) as x, y."""

SUBPIXELS = 4
"""Coverage is counted on 4 x 4 samples a pixel."""


def _arc(start: float, end: float, points: int, across: float = 1.0) -> Ring:
    angles = [start + (end - start) * i / (points - 1) for i in range(points)]
    return np.array([(across * math.cos(a), math.sin(a)) for a in angles])


def _star(stream: Stream) -> list[Ring]:
    points, inner = stream.integer(5, 6), stream.between(0.42, 0.52)
    corners = []
    for i in range(2 * points):
        radius = inner if i % 2 else 1.0
        angle = math.pi * i / points
        corners.append((radius * math.cos(angle), radius * math.sin(angle)))
    return [np.array(corners)]


def _cross(stream: Stream) -> list[Ring]:
    arm = stream.between(0.28, 0.38)
    quarter = [(1.0, -arm), (1.0, arm), (arm, arm)]
    corners = []
    for cos, sin in ((1, 0), (0, 1), (-1, 0), (0, -1)):
        corners += [(x * cos - y * sin, x * sin + y * cos) for x, y in quarter]
    return [np.array(corners)]


def _crescent(stream: Stream) -> list[Ring]:
    opening, bite = math.radians(115), stream.between(0.45, 0.75)
    outer = _arc(-opening, opening, 22)
    inner = _arc(math.pi / 2, -math.pi / 2, 16, across=bite)[1:-1]
    inner = inner * (1.0, math.sin(opening)) + (math.cos(opening), 0.0)
    return [np.concatenate([outer, inner])]


def _ring(stream: Stream) -> list[Ring]:
    outer = _arc(0.0, 2 * math.pi, 33)[:-1]
    return [outer, outer * stream.between(0.45, 0.58)]


def _triangle(stream: Stream) -> list[Ring]:
    angles = [2 * math.pi * i / 3 + stream.between(-0.22, 0.22) for i in range(3)]
    return [np.array([(math.cos(a), math.sin(a)) for a in angles])]


def _slab(stream: Stream) -> list[Ring]:
    half = stream.between(0.35, 0.8)
    return [np.array([(-1.0, -half), (1.0, -half), (1.0, half), (-1.0, half)])]


def _pebble(stream: Stream) -> list[Ring]:
    second, third = stream.between(0.0, 0.12), stream.between(0.0, 0.08)
    phase = stream.between(0.0, 2 * math.pi)
    corners = []
    for i in range(28):
        angle = 2 * math.pi * i / 28
        radius = 1 + second * math.cos(2 * angle + phase) + third * math.cos(3 * angle - phase)
        corners.append((radius * math.cos(angle), radius * math.sin(angle)))
    return [np.array(corners)]


SHAPES: dict[str, Callable[[Stream], list[Ring]]] = {
    "star": _star,
    "cross": _cross,
    "crescent": _crescent,
    "ring": _ring,
    "triangle": _triangle,
}
"""Shapes that belong to classes."""

CLUTTER_SHAPES: dict[str, Callable[[Stream], list[Ring]]] = {"slab": _slab, "pebble": _pebble}
"""Shapes that no class has."""


def outline(draw: Callable[[Stream], list[Ring]], side: float, stream: Stream) -> list[Ring]:
    """Return a shape, randomly stretched and turned, with an area of ``side`` squared.

    Args:
        draw: An entry of ``SHAPES`` or ``CLUTTER_SHAPES``.
        side: Square root of the area, in pixels.
        stream: Where the random numbers come from.

    Returns:
        Rings around the origin; a second ring is a hole.
    """
    rings = draw(stream)
    stretch, angle = stream.between(0.88, 1.14), stream.between(-0.3, 0.3)
    cos, sin = math.cos(angle), math.sin(angle)
    turn = np.array([(stretch * cos, stretch * sin), (-sin, cos)])
    turned = [ring @ turn for ring in rings]
    area = _area(turned[0]) - sum(_area(hole) for hole in turned[1:])
    scale = side / math.sqrt(area)
    return [ring * scale for ring in turned]


@dataclass(frozen=True)
class PixelCoverage:
    """How much of each pixel a shape covers, in a window of the canvas."""

    top: int
    left: int
    samples: NDArray[np.int32]
    """0 to 16, (height, width) of the window."""

    @property
    def window(self) -> tuple[slice, slice]:
        """Return the window as slices of the canvas."""
        height, width = self.samples.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Return the pixels that are covered by half or more."""
        return self.samples >= SUBPIXELS * SUBPIXELS // 2

    def moved(self, x: int, y: int, height: int, width: int) -> "PixelCoverage":
        """Return the shape moved by whole pixels onto a canvas, without what lies outside it."""
        top, left = self.top + y, self.left + x
        rows = slice(max(-top, 0), max(height - top, 0))
        columns = slice(max(-left, 0), max(width - left, 0))
        return PixelCoverage(max(top, 0), max(left, 0), self.samples[rows, columns])


def fill(rings: list[Ring]) -> PixelCoverage:
    """Return what closed outlines cover, by the even-odd rule.

    Args:
        rings: Outlines in pixels, anywhere around the origin; those inside another are holes.

    Returns:
        The covered pixels, in a window that holds the outlines.
    """
    points = np.concatenate(rings)
    left, top = (int(v) for v in np.floor(points.min(axis=0)))
    right, bottom = (int(v) for v in np.ceil(points.max(axis=0)))
    # Vertices sit on even eighths of a pixel and samples on odd ones: they never coincide.
    corners = [2 * np.rint((ring - (left, top)) * SUBPIXELS).astype(np.int64) for ring in rings]
    starts = np.concatenate(corners)
    ends = np.concatenate([np.roll(ring, -1, axis=0) for ring in corners])
    height, width = SUBPIXELS * (bottom - top), SUBPIXELS * (right - left)
    inside = _inside(starts, ends, height, width)
    by_row = inside[0::4] + inside[1::4] + inside[2::4] + inside[3::4]
    by_pixel = by_row[:, 0::4] + by_row[:, 1::4] + by_row[:, 2::4] + by_row[:, 3::4]
    return PixelCoverage(top, left, by_pixel.astype(np.int32))


def _inside(
    starts: NDArray[np.int64], ends: NDArray[np.int64], height: int, width: int
) -> NDArray[np.uint8]:
    """Return 1 for each of (height, width) samples inside edges, else 0.

    Args:
        starts: (edges, 2) as x, y in eighths of a pixel; sample i lies at 2 i + 1.
        ends: As ``starts``.
        height: Rows of samples.
        width: Columns of samples.
    """
    downward = (starts[:, 1] < ends[:, 1])[:, None]
    x0, y0 = np.where(downward, starts, ends).T
    x1, y1 = np.where(downward, ends, starts).T
    samples = 2 * np.arange(height)[:, None] + 1
    rows, edges = np.nonzero((y0 < samples) & (samples < y1))
    tall = (y1 - y0)[edges]
    crossing = x0[edges] * tall + (2 * rows + 1 - y0[edges]) * (x1 - x0)[edges]
    first_right = (crossing + tall) // (2 * tall)
    crossed = np.bincount(rows * (width + 1) + first_right, minlength=height * (width + 1))
    parity = crossed.astype(np.uint8).reshape(height, width + 1)
    return np.cumsum(parity, axis=1, dtype=np.uint8)[:, :-1] & np.uint8(1)


def _area(ring: Ring) -> float:
    following = np.roll(ring, -1, axis=0)
    return abs(float((ring[:, 0] * following[:, 1] - ring[:, 1] * following[:, 0]).sum())) / 2
