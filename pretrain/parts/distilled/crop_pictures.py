"""Pictures of crops, and of what student and teacher find alike in them."""

import torch
import torch.nn.functional as F
from torch import Tensor

from backbones.training.objective import Batch

# So many regions of a crop are marked, evenly spread.
_NUM_MARKS = 6
_STRENGTH = 0.6  # of a mark's colour over the image


def show_crops(batch: Batch) -> Tensor:
    """Return global and local crops side by side, (B, 2 + L, 3, H, W)."""
    large, small = batch["global"], batch.get("local")
    if small is None:
        return large
    size = large.shape[-2:]
    shown = F.interpolate(small.flatten(0, 1), size=size, mode="nearest")
    return torch.cat([large, shown.reshape(*small.shape[:3], *size)], dim=1)


def show_matches(crops: Tensor, match: Tensor, stride: int) -> Tensor:
    """Mark a few regions of one crop, and in the other those most similar, in the same colours.

    Args:
        crops: (B, 2, 3, H, W), what is marked, and where the matches lie.
        match: (B, N), for each region of the first crop a region of the second.
        stride: Pixels a side of a region.

    Returns:
        Same shape as ``crops``.
    """
    width = crops.shape[-1]
    columns = -(-width // stride)
    count = min(_NUM_MARKS, match.shape[1])
    # Evenly spread in raster order, in the middle of their portions.
    places = ((torch.arange(count) + 0.5) * match.shape[1] / count).long().tolist()
    shown = crops.clone()
    for image in range(len(crops)):
        for number, place in enumerate(places):
            color = _color(number, count, crops)
            for view, cell in enumerate((place, int(match[image, place]))):
                top, left = (part * stride for part in divmod(cell, columns))
                area = shown[image, view, :, top : top + stride, left : left + stride]
                area.lerp_(color.expand_as(area), _STRENGTH)
    return shown


def _color(number: int, count: int, like: Tensor) -> Tensor:
    """Return one of ``count`` colours as (3, 1, 1) normalised values within what images hold."""
    angle = 2 * torch.pi * (number / count + torch.arange(3) / 3)
    return 2 * angle.cos().to(like)[:, None, None]
