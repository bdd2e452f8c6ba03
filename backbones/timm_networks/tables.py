"""Biases of relative positions on other windows and grids: tables resized, MLPs evaluated."""

import math
from typing import Any

import torch
from timm.layers import gen_relative_position_index
from torch import Tensor
from torch.nn import functional as F


def resize_bias_table(table: Tensor, rows: int) -> Tensor:
    """Resize the table of a square window bicubically, as Microsoft's Swin loader does.

    Args:
        table: ((2 * old - 1) ** 2, heads).
        rows: (2 * new - 1) ** 2.

    Returns:
        (rows, heads); ``table`` itself if it has that size.

    Raises:
        ValueError: Either count is no square.
    """
    old, new = math.isqrt(table.shape[0]), math.isqrt(rows)
    if old**2 != table.shape[0] or new**2 != rows:
        raise ValueError(f"{table.shape[0]} or {rows} rows are not the table of a square window")
    if old == new:
        return table
    square = table.float().T.reshape(1, -1, old, old)
    resized = F.interpolate(square, size=(new, new), mode="bicubic", align_corners=False)
    return resized.flatten(2)[0].T.to(table.dtype)


def geometric_positions(old: int, new: int) -> Tensor:
    """Return where 2 * new - 1 offsets fall among 2 * old - 1 table rows, as BEiT's loader does.

    Old offsets are spread at distances that grow geometrically from 1, so that near offsets keep
    their values and the far ones stretch (unilm: beit/run_class_finetuning.py).

    Args:
        old: Side in patches of the grid that the table was made for.
        new: Side wanted.

    Returns:
        (2 * new - 1,) fractional row indices, rising, symmetric about the middle row.
    """
    if old == new or old == 1:
        return torch.linspace(0, 2 * old - 2, 2 * new - 1, dtype=torch.float64)
    steps = torch.arange(old - 1, dtype=torch.float64)
    distances = F.pad((_ratio(old, new) ** steps).cumsum(0), (1, 0))
    offsets = torch.arange(new, dtype=torch.float64)
    upper = torch.searchsorted(distances, offsets).clamp(1, old - 1)
    low, high = distances[upper - 1], distances[upper]
    index = upper - 1 + ((offsets - low) / (high - low)).clamp(0, 1)
    return torch.cat([old - 1 - index[1:].flip(0), old - 1 + index])


def resize_geometric(table: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Resize a BEiT table to another grid, linearly between geometrically spread offsets.

    Args:
        table: ((2 * rows - 1) * (2 * columns - 1) + 3, heads); the last three rows are for the cls
            token and stay.
        old: Rows and columns of the grid that it was made for.
        new: Grid wanted.

    Returns:
        The table for ``new``, differentiable; ``table`` itself if the grids are equal.
    """
    if old == new:
        return table
    plane = table[:-3].reshape(2 * old[0] - 1, 2 * old[1] - 1, -1)
    vertical = _interpolation(old[0], new[0]).to(plane)
    horizontal = _interpolation(old[1], new[1]).to(plane)
    resized = torch.einsum("ij,kl,jlh->ikh", vertical, horizontal, plane)
    return torch.cat([resized.flatten(0, 1), table[-3:]])


def mlp_bias(relative: Any, grid: tuple[int, int]) -> Tensor:
    """Return the bias of every pair of patches of a grid, (1, heads, N, N), N = rows * columns.

    The bias is an MLP of the offset in rows and in columns, each as sign(d) * ln(1 + abs(d)), d in
    patches (Swin V2, section 3.3; timm's mode "cr", which does not divide d by the side of the
    grid). It depends only on the offset, so that nothing is resized on another grid.

    Args:
        relative: A ``RelPosMlp`` of timm in mode "cr".
        grid: Rows and columns.
    """
    weight = relative.mlp.fc1.weight
    rows, columns = (
        torch.arange(1 - side, side, device=weight.device, dtype=weight.dtype) for side in grid
    )
    offsets = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1)
    by_offset = relative.mlp(offsets.sign() * offsets.abs().log1p()).flatten(0, 1)
    pairs = gen_relative_position_index(grid, device=weight.device)
    bias: Tensor = by_offset[pairs].permute(2, 0, 1)[None]
    return bias


def _ratio(old: int, new: int) -> float:
    """Return the growth q for which 1 + q + … + q ** (old - 2) just spans new - 1 offsets."""
    low, high = 1e-3, float(max(new, 2))
    for _ in range(60):
        middle = (low + high) / 2
        if sum(middle**i for i in range(old - 1)) < new - 1:
            low = middle
        else:
            high = middle
    return high


def _interpolation(old: int, new: int) -> Tensor:
    """Return the (2 * new - 1, 2 * old - 1) matrix of linear interpolation."""
    index = geometric_positions(old, new)
    low = index.floor().long().clamp(max=max(2 * old - 3, 0))
    matrix = torch.zeros(2 * new - 1, 2 * old - 1, dtype=torch.float64)
    rows = torch.arange(2 * new - 1)
    matrix[rows, low] = 1 - (index - low)
    if old > 1:
        matrix[rows, low + 1] = index - low
    return matrix
