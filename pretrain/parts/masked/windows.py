"""LoMaR's windows: squares of patches at random places, all the same size."""

import torch
from torch import Tensor

from backbones.base.errors import UserError
from backbones.vit.positions import Grid


def draw_windows(
    num_windows: int, grid: Grid, window_size: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw the top left corners of windows, rows and columns paired at random.

    As in LoMaR's code, no row and no column is drawn twice while there are others left; a second
    permutation follows where more windows are wanted than the grid has places along an axis.

    Args:
        num_windows: How many.
        grid: Rows and columns of patches.
        window_size: Side of a window in patches.
        generator: Source of randomness.

    Returns:
        Tops and lefts, each (num_windows,) int64.

    Raises:
        UserError: The window is larger than the grid.
    """
    if window_size > min(grid):
        raise UserError(
            f"A window of {window_size} x {window_size} patches does not fit into {grid[0]} x "
            f"{grid[1]}; make model.window_size smaller or data.img_size larger."
        )
    top, left = (_draw_places(num_windows, side - window_size + 1, generator) for side in grid)
    return top, left


def _draw_places(count: int, places: int, generator: torch.Generator) -> Tensor:
    """Return random places below ``places``, (count,), each drawn once before any comes again."""
    rounds = -(-count // places)
    drawn = [torch.randperm(places, generator=generator) for _ in range(rounds)]
    return torch.cat(drawn)[:count]


def window_patches(tops: Tensor, lefts: Tensor, window_size: int, grid: Grid) -> Tensor:
    """Return the patches of windows, as raster indices into an image's.

    Args:
        tops: (...) first rows.
        lefts: (...) first columns.
        window_size: Side of a window.
        grid: Rows and columns of patches.

    Returns:
        (..., window_size**2), raster order inside the window.
    """
    side = torch.arange(window_size, device=tops.device)
    rows = tops[..., None] + side
    columns = lefts[..., None] + side
    return (rows[..., :, None] * grid[1] + columns[..., None, :]).flatten(-2)


def pair_windows(
    tops: Tensor, lefts: Tensor, window_size: int, grid: Grid, pairing: str
) -> tuple[Tensor, Tensor]:
    """Pair every image of a batch with W windows, which makes B * W rows.

    "per_image": row b * W + w is image b with its own window w, as LoMaR's paper draws it.
    "batch_shared": row k is image k mod B with window k mod W of those of the first image, which
    is what the released code computes. An image then has W / gcd(B, W) distinct windows (one, if W
    divides B), each several times with other masks.

    Args:
        tops: (B, W) first rows.
        lefts: (B, W) first columns.
        window_size: Side of a window.
        grid: Rows and columns of patches.
        pairing: One of ``masked_config.PAIRINGS``.

    Returns:
        The image of every row, (B * W,), and its patches as raster indices into that image's,
        (B * W, window_size**2).
    """
    batch, per_image = tops.shape
    k = torch.arange(batch * per_image, device=tops.device)
    if pairing == "per_image":
        patches = window_patches(tops, lefts, window_size, grid).flatten(0, 1)
        return k // per_image, patches
    shared = window_patches(tops[0], lefts[0], window_size, grid)
    return k % batch, shared[k % per_image]
