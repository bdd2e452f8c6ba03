"""Images as rows of pixels, a row a patch, and back."""

from torch import Tensor

from backbones.base.errors import UserError
from backbones.vit.positions import Grid


def grid_of(images: Tensor, patch_size: int) -> Grid:
    """Return rows and columns of patches of (B, 3, H, W) images.

    Raises:
        UserError: The images do not divide into whole patches.
    """
    return check_grid(images.shape[-2], images.shape[-1], patch_size)


def check_grid(height: int, width: int, patch_size: int) -> Grid:
    """Return rows and columns of patches.

    Raises:
        UserError: Height or width, in pixels, is no multiple of ``patch_size``.
    """
    if height % patch_size or width % patch_size or not height or not width:
        raise UserError(
            f"Images of {width} x {height} pixels do not divide into patches of {patch_size}; "
            "set data.img_size to a multiple of the backbone's patch size."
        )
    return height // patch_size, width // patch_size


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """Cut images into patches, values ordered (row, column, channel) as in MAE, section 3.

    Args:
        images: (B, C, H, W).
        patch_size: Side in pixels; divides H and W.

    Returns:
        (B, N, patch_size**2 * C), patches in raster order.
    """
    rows, columns = grid_of(images, patch_size)
    batch, channels = images.shape[:2]
    cut = images.reshape(batch, channels, rows, patch_size, columns, patch_size)
    return cut.permute(0, 2, 4, 3, 5, 1).reshape(batch, rows * columns, -1)


def unpatchify(patches: Tensor, grid: Grid, patch_size: int) -> Tensor:
    """Undo ``patchify``: (B, N, patch_size**2 * C) to (B, C, H, W)."""
    rows, columns = grid
    cut = patches.reshape(len(patches), rows, columns, patch_size, patch_size, -1)
    image = cut.permute(0, 5, 1, 3, 2, 4)
    return image.reshape(len(patches), -1, rows * patch_size, columns * patch_size)
