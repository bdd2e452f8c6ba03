"""Cutting a token grid into square windows and putting it together again, as ViTDet does."""

from torch import Tensor

from backbones.positions import Grid


def partition(tokens: Tensor, grid: Grid, size: int, padding: Tensor | None) -> Tensor:
    """Cut the grid into windows; what is missing to a multiple of ``size`` is padded.

    Padded tokens take part in attention like any other (ViTDet masks nothing). ViTDet pads with
    zeros in front of the projection to queries, keys and values, whose bias then is all that those
    tokens have; projecting first and padding with that bias is the same and projects less.

    Args:
        tokens: (B, rows * columns, C).
        grid: Rows and columns.
        size: Side of a window.
        padding: (C,), the value of padded tokens; None for zeros.

    Returns:
        (B * windows, size * size, C), windows of one image together, in raster order.
    """
    rows, columns = grid
    batch, _, channels = tokens.shape
    down, across = -(-rows // size), -(-columns // size)
    image = tokens.view(batch, rows, columns, channels)
    if rows % size or columns % size:
        fill = tokens.new_zeros(channels) if padding is None else padding.to(tokens.dtype)
        padded = fill.expand(batch, down * size, across * size, channels).clone()
        padded[:, :rows, :columns] = image
        image = padded
    cut = image.view(batch, down, size, across, size, channels).transpose(2, 3)
    return cut.reshape(batch * down * across, size * size, channels)


def unpartition(windows: Tensor, grid: Grid, size: int) -> Tensor:
    """Undo ``partition``, dropping the padding.

    Args:
        windows: (B * windows, size * size, C).
        grid: Rows and columns of the original.
        size: Side of a window.

    Returns:
        (B, rows * columns, C).
    """
    rows, columns = grid
    down, across = -(-rows // size), -(-columns // size)
    channels = windows.shape[-1]
    cut = windows.view(-1, down, across, size, size, channels).transpose(2, 3)
    image = cut.reshape(-1, down * size, across * size, channels)[:, :rows, :columns]
    return image.reshape(-1, rows * columns, channels)
