"""Masks as outlines that a page draws: a few numbers each."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pycocotools.mask as rle_tools
from PIL import Image

# Corners closer to their outline than this are left out, in pixels of the thumbnail.
_TOLERANCE = 0.8
_FEWEST_CORNERS = 3
# Between a pixel of the mask and one beside it.
_EDGE = 0.5


def outlines(rle: Mapping[str, Any], longest_side: int) -> list[list[int]]:
    """Return a mask's outlines, holes among them, as a thumbnail can show them.

    Args:
        rle: The mask, as COCO run lengths.
        longest_side: Of the thumbnail, in pixels; larger masks are made smaller.

    Returns:
        Each outline as x, y, x, y … in pixels of the image; what lies within an odd number of
        them is the mask.
    """
    # It takes a third of a second to import.
    from skimage.measure import approximate_polygon, find_contours

    mask = Image.fromarray(255 * rle_tools.decode(rle))
    width, height = mask.size
    small = mask.copy()
    small.thumbnail((longest_side, longest_side), Image.Resampling.BOX)
    # Within a frame of nothing, every outline is closed.
    shares = np.pad(np.asarray(small, dtype=np.float64) / 255, 1)
    found = []
    for contour in find_contours(shares, _EDGE):
        corners = approximate_polygon(contour, _TOLERANCE)[:-1]
        if len(corners) < _FEWEST_CORNERS:
            continue
        # Rows and columns of pixel centres in the frame become x and y of the image.
        points = (corners[:, ::-1] - 0.5) * (width / small.width, height / small.height)
        found.append(points.clip(0, (width, height)).round().astype(int).ravel().tolist())
    return found
