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
        (B, windows down, windows across, size, size, C), a view where nothing is padded.
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
    return image.view(batch, down, size, across, size, channels).transpose(2, 3)


def unpartition(windows: Tensor, grid: Grid, size: int) -> Tensor:
    """Put the heads of all windows together again, dropping the padding.

    Args:
        windows: (B * windows, num_heads, size * size, head_dim), windows of an image in raster
            order.
        grid: Rows and columns of the original.
        size: Side of a window.

    Returns:
        (B, rows * columns, num_heads * head_dim).
    """
    rows, columns = grid
    down, across = -(-rows // size), -(-columns // size)
    _, num_heads, _, head_dim = windows.shape
    cut = windows.view(-1, down, across, num_heads, size, size, head_dim)
    cut = cut.permute(0, 1, 4, 2, 5, 3, 6)
    image = cut.reshape(-1, down * size, across * size, num_heads * head_dim)
    return image[:, :rows, :columns].reshape(-1, rows * columns, num_heads * head_dim)
