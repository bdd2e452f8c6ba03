"""Which patches are masked: orders drawn per image, and their use as flat indices."""

import math

import torch
from torch import Tensor

from backbones.vit.positions import Grid
from pretrain.masked_config import num_visible

# BEiT's rectangles (section 2.3): at least 16 patches, height to width from 0.3 to 1 / 0.3, ten
# attempts each. The smallest area shrinks with the grid, 16 being for 14 x 14 patches.
_BLOCK_SHARE = 16 / 14**2
_BLOCK_RATIO = 0.3
_BLOCK_ATTEMPTS = 10
_GRID_STEP = 2  # MAE, figure 6: of every 2 x 2 patches, one is kept


def split_by_noise(noise: Tensor, num_first: int) -> tuple[Tensor, Tensor]:
    """Return flat indices of each row's ``num_first`` smallest values and of the others.

    Args:
        noise: (B, N); equal values rank by place.
        num_first: Values of each row that count as first.

    Returns:
        (B * num_first,) and (B * (N - num_first),), into the flattened noise, each row's in
        rising order of noise.
    """
    batch, length = noise.shape
    order = noise.argsort(dim=1, stable=True)
    order = order + torch.arange(batch, device=noise.device)[:, None] * length
    return order[:, :num_first].reshape(-1), order[:, num_first:].reshape(-1)


def draw_noise(sampling: str, grid: Grid, mask_ratio: float, generator: torch.Generator) -> Tensor:
    """Draw the order in which an image's patches are kept: the smallest values are visible.

    Every sampling of MAE's figure 6 is such an order, so that all images of a batch keep equally
    many patches: "random" is uniform noise, "block" puts rectangles last, "grid" one patch of
    every 2 x 2 first; inside those groups the order is random.

    Args:
        sampling: One of ``masked_config.SAMPLINGS``.
        grid: Rows and columns of patches.
        mask_ratio: Share that will be masked; only "block" asks for it.
        generator: Source of randomness.

    Returns:
        (rows * columns,), raster order.
    """
    noise = torch.rand(grid[0] * grid[1], generator=generator)
    if sampling == "block":
        target = len(noise) - num_visible(len(noise), mask_ratio)
        noise = noise + draw_blocks(grid, target, generator).reshape(-1)
    elif sampling == "grid":
        rows, columns = (torch.arange(side) % _GRID_STEP == 0 for side in grid)
        noise = noise + (~(rows[:, None] & columns)).reshape(-1)
    return noise


def draw_blocks(grid: Grid, target: int, generator: torch.Generator) -> Tensor:
    """Draw rectangles as BEiT does, until ``target`` patches are covered or no more fit.

    Args:
        grid: Rows and columns of patches.
        target: Patches to be covered; never more, at times a few less.
        generator: Source of randomness.

    Returns:
        (rows, columns) bool, true where covered.
    """
    covered = torch.zeros(grid, dtype=torch.bool)
    smallest = max(1, round(_BLOCK_SHARE * covered.numel()))
    missing = target
    while missing > 0:
        for _ in range(_BLOCK_ATTEMPTS):
            block = _draw_block(grid, smallest, max(missing, smallest), generator)
            gain = int((~covered[block]).sum()) if block else 0
            if block and 0 < gain <= missing:
                covered[block] = True
                missing -= gain
                break
        else:
            break
    return covered


def _draw_block(
    grid: Grid, smallest: int, largest: int, generator: torch.Generator
) -> tuple[slice, slice] | None:
    """Return a rectangle, or None if the one drawn does not fit into the grid."""
    area = smallest + float(torch.rand((), generator=generator)) * (largest - smallest)
    reach = -math.log(_BLOCK_RATIO)
    ratio = math.exp((2 * float(torch.rand((), generator=generator)) - 1) * reach)
    height, width = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
    if not (0 < height < grid[0] and 0 < width < grid[1]):
        return None
    top = int(torch.randint(grid[0] - height + 1, (), generator=generator))
    left = int(torch.randint(grid[1] - width + 1, (), generator=generator))
    return slice(top, top + height), slice(left, left + width)


def draw_squares(grid: Grid, mask_ratio: float, generator: torch.Generator) -> Tensor:
    """Draw SimMIM's mask: ``ceil(ratio * n)`` of the n squares.

    Args:
        grid: Rows and columns of squares.
        mask_ratio: Share of the squares.
        generator: Source of randomness.

    Returns:
        (rows, columns) bool, true where masked.
    """
    count = grid[0] * grid[1]
    mask = torch.zeros(count, dtype=torch.bool)
    mask[torch.randperm(count, generator=generator)[: math.ceil(count * mask_ratio)]] = True
    return mask.reshape(grid)
