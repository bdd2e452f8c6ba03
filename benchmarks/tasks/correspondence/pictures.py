"""Pictures of matches between two views."""

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from benchmarks.tasks.correspondence.matches import RegionMatches

# Small views are enlarged to this many pixels.
_SIDE = 224
_GAP = 12
_RIGHT, _WRONG = (40, 190, 70), (230, 60, 50)
_DOT = 3


def draw_matches(views: Tensor, matches: RegionMatches, stride: int) -> Tensor:
    """Draw two views side by side, and a line from each region to its match.

    Green where the match is the place itself, red elsewhere.

    Args:
        views: (B, 2, 3, S, S) uint8.
        matches: Of these images.
        stride: Side of a region, in pixels.

    Returns:
        (B, 1, 3, height, width) uint8.
    """
    factor = max(1, round(_SIDE / views.shape[-1]))
    side = factor * views.shape[-1]
    columns = -(-views.shape[-1] // stride)
    pictures = []
    for number, pair in enumerate(views):
        canvas = Image.new("RGB", (2 * side + _GAP, side), "white")
        for place, view in enumerate(pair):
            image = Image.fromarray(view.permute(1, 2, 0).contiguous().cpu().numpy())
            canvas.paste(image.resize((side, side)), (place * (side + _GAP), 0))
        pen = ImageDraw.Draw(canvas)
        # Wrong ones last, so that they are seen.
        for k in sorted(range(matches.first.shape[1]), key=lambda k: not matches.right[number, k]):
            color = _RIGHT if matches.right[number, k] else _WRONG
            ends = [
                _middle(int(cells[number, k]), columns, factor * stride, place * (side + _GAP))
                for place, cells in enumerate((matches.first, matches.second))
            ]
            pen.line([*ends[0], *ends[1]], fill=color, width=2)
            for x, y in ends:
                pen.ellipse((x - _DOT, y - _DOT, x + _DOT, y + _DOT), fill=color, outline="white")
        pictures.append(torch.from_numpy(np.array(canvas)).permute(2, 0, 1))
    return torch.stack(pictures)[:, None]


def _middle(cell: int, columns: int, side: int, left: int) -> tuple[float, float]:
    """Return where the middle of a cell lies, in pixels from the left and from the top."""
    row, column = divmod(cell, columns)
    return left + (column + 0.5) * side, (row + 0.5) * side
