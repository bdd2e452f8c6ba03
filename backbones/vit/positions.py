"""Absolute positions of patches: the fixed sin-cos table, and tables resized to any grid."""

import math
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from backbones.vit.positions_rule import BICUBIC, PositionRule

Grid: TypeAlias = tuple[int, int]  # rows, columns of patches

_BASE = 10000.0  # wavelengths rise geometrically to this; Vaswani et al. 2017, section 3.5


def sincos_table(embed_dim: int, grid: Grid, num_prefix: int = 0) -> Tensor:
    """Return MAE's fixed two-dimensional table.

    The first half of the channels varies with the column, the second with the row; each half is
    sines, then cosines (MAE, ``util/pos_embed.py``). MoCo v3's tables have the halves the other
    way round, so a table that comes with weights must be loaded, never made anew.

    Args:
        embed_dim: Channels, a multiple of 4.
        grid: Rows and columns of patches.
        num_prefix: Rows of zeros put in front, for tokens that have no place in the image.

    Returns:
        (1, num_prefix + rows * columns, embed_dim), float32.

    Raises:
        ValueError: ``embed_dim`` is not a multiple of 4.
    """
    if embed_dim % 4:
        raise ValueError(f"sin-cos positions need embed_dim % 4 == 0, not {embed_dim}")
    rows, columns = grid
    quarter = embed_dim // 4
    rates = _BASE ** -(torch.arange(quarter, dtype=torch.float64) / quarter)
    by_column = _waves(columns, rates).expand(rows, columns, -1)
    by_row = _waves(rows, rates)[:, None].expand(rows, columns, -1)
    table = torch.cat([by_column, by_row], dim=-1).reshape(1, rows * columns, embed_dim)
    return F.pad(table, (0, 0, num_prefix, 0)).float()


def _waves(length: int, rates: Tensor) -> Tensor:
    """Return sines, then cosines, of places along an axis at (R,) rates, (length, 2 * R)."""
    angles = torch.arange(length, dtype=torch.float64)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def resize_positions(table: Tensor, grid: Grid, rule: PositionRule = BICUBIC) -> Tensor:
    """Interpolate the patch rows of a position table, made for a square grid, to another grid.

    Args:
        table: (1, n * n, C).
        grid: Rows and columns wanted.
        rule: How; without a nudge the scale follows from the grids. DINO adds 0.1, so that rounding
            cannot lose a row, which moves values by 1 to 3 %.

    Returns:
        (1, rows * columns, C); ``table`` itself if the grid is its own.
    """
    side = math.isqrt(table.shape[1])
    if grid == (side, side):
        return table
    square = table.reshape(1, side, side, -1).permute(0, 3, 1, 2)
    wanted: dict[str, Any] = {"size": grid}
    if rule.nudge:
        # Sides of a grid are tensors while operations are counted, which trace the network.
        wanted = {"scale_factor": tuple((int(length) + rule.nudge) / side for length in grid)}
    resized = F.interpolate(
        square, **wanted, mode=rule.mode, align_corners=False, antialias=rule.antialias
    )
    return resized.flatten(2).transpose(1, 2)


def tile_positions(table: Tensor, grid: Grid) -> Tensor:
    """Repeat the patch rows of a position table over a larger grid, as Perception Encoder does.

    Window attention with windows of the pretraining grid then sees the positions of pretraining.

    Args:
        table: (1, n * n, C).
        grid: Rows and columns wanted.

    Returns:
        (1, rows * columns, C).
    """
    side = math.isqrt(table.shape[1])
    square = table.reshape(1, side, side, -1)
    down, across = (-(-length // side) for length in grid)
    return square.repeat(1, down, across, 1)[:, : grid[0], : grid[1]].flatten(1, 2)


def place_positions(table: Tensor, grid: Grid, tiled: bool, rule: PositionRule = BICUBIC) -> Tensor:
    """Return the positions of a grid, tiled or resized; see the two functions above."""
    return tile_positions(table, grid) if tiled else resize_positions(table, grid, rule)


def table_in_words(side: int, tiled: bool) -> str:
    """Return a table of absolute positions in words, for the facts about a detector."""
    return f"table of {side} x {side}, {'tiled' if tiled else 'interpolated'}"
