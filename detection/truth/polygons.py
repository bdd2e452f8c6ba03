"""Polygons by arithmetic: their extent, their area, and what of them lies near an image."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]

# Kept round the image, so that edges along the cut leave no pixel inside it.
_MARGIN = 8.0


def extent_of(polygons: Sequence[Sequence[float]]) -> tuple[float, float, float, float]:
    """Return x0, y0, x1, y1 of an object's polygons."""
    xs = [x for polygon in polygons for x in polygon[::2]]
    ys = [y for polygon in polygons for y in polygon[1::2]]
    return min(xs), min(ys), max(xs), max(ys)


def area_of(polygons: Sequence[Sequence[float]]) -> float:
    """Return the sum of the areas of an object's polygons (Gauss's trapezoid formula)."""
    total = 0.0
    for polygon in polygons:
        points = np.asarray(polygon, dtype=np.float64).reshape(-1, 2)
        x, y = points[:, 0] - points[0, 0], points[:, 1] - points[0, 1]
        total += 0.5 * abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1)))
    return total


def cut_to_image(polygon: Sequence[float], width: int, height: int) -> list[float]:
    """Return the part of a polygon near an image; empty where nothing of it is.

    Drawing walks along every edge, so that a corner a million pixels away costs gigabytes. The
    sides of the image's surroundings are cut off one after another (Sutherland and Hodgman 1974,
    "Reentrant polygon clipping").

    Args:
        polygon: x, y, x, y, ...
        width: Of the image, in pixels.
        height: Of the image, in pixels.
    """
    points: Points = np.asarray(polygon, dtype=np.float64).reshape(-1, 2)
    for axis, limit in ((0, float(width)), (1, float(height))):
        points = _cut(points, axis, -_MARGIN, 1.0)
        points = _cut(points, axis, limit + _MARGIN, -1.0)
    found: list[float] = points.reshape(-1).tolist()
    return found


def _cut(points: Points, axis: int, limit: float, sign: float) -> Points:
    """Return a polygon without what lies beyond a line.

    Args:
        points: (N, 2) corners.
        axis: Of the coordinate that the line bounds.
        limit: Of that coordinate.
        sign: 1 keeps what lies above the limit, -1 what lies below.
    """
    if not len(points):
        return points
    inside = sign * (points[:, axis] - limit) >= 0
    kept: list[Points] = []
    for at, point in enumerate(points):
        before = points[at - 1]
        if inside[at] != inside[at - 1]:
            share = (limit - before[axis]) / (point[axis] - before[axis])
            crossing = before + share * (point - before)
            crossing[axis] = limit
            kept.append(crossing)
        if inside[at]:
            kept.append(point)
    return np.array(kept).reshape(-1, 2)
