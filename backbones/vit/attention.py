"""Multi-head self-attention of the plain ViT, with what detection and LoMaR add to its logits."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.vit.irpe import RelativeKeys
from backbones.vit.positions import Grid
from backbones.vit.relative_attention import attend_relative


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


class Attention(nn.Module):
    """Self-attention over all tokens or inside windows, optionally with relative positions.

    Attributes:
        window_size: Side in tokens of the windows; 0 attends to all tokens.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        qkv_bias: bool = True,
        window_size: int = 0,
        relative_size: int = 0,
        irpe: bool = False,
    ) -> None:
        """Make the projections and tables.

        Args:
            embed_dim: Channels of a token.
            num_heads: Divides ``embed_dim``.
            qkv_bias: Gives queries, keys and values a bias.
            window_size: Side of the windows, 0 for none.
            relative_size: Side of the grid that decomposed relative positions are made for, 0 for
                none. They start at zero (MViTv2; ViTDet, section 3).
            irpe: Adds LoMaR's relative positions instead.
        """
        super().__init__()
        self.num_heads = num_heads
        self.window_size = window_size
        head_dim = embed_dim // num_heads
        self.qkv = nn.Linear(embed_dim, 3 * embed_dim, bias=qkv_bias)
        self.proj = nn.Linear(embed_dim, embed_dim)
        self.rpe_k = RelativeKeys(head_dim) if irpe else None
        self.has_relative = relative_size > 0
        if self.has_relative:
            self.rel_pos_h = nn.Parameter(torch.zeros(2 * relative_size - 1, head_dim))
            self.rel_pos_w = nn.Parameter(torch.zeros(2 * relative_size - 1, head_dim))

    def forward(self, tokens: Tensor, grid: Grid | None, num_prefix: int) -> Tensor:
        """Attend.

        Args:
            tokens: (B, N, C), prefix tokens first.
            grid: Rows and columns of the patches; needed by windows and relative positions.
            num_prefix: Prefix tokens in front; 0 with windows or decomposed relative positions.

        Returns:
            (B, N, C).
        """
        batch, length, channels = tokens.shape
        qkv, size = self.qkv(tokens), self.window_size
        shape = (3, self.num_heads, channels // self.num_heads)
        if size:
            cut = partition(qkv, _known(grid), size, self.qkv.bias)
            heads = cut.view(*cut.shape[:-1], *shape).permute(5, 0, 1, 2, 6, 3, 4, 7)
            heads = heads.reshape(3, -1, self.num_heads, size * size, shape[-1])
            attended = unpartition(self._attend(heads, (size, size), 0), _known(grid), size)
        else:
            heads = qkv.view(batch, length, *shape).permute(2, 0, 3, 1, 4)
            attended = self._attend(heads, grid, num_prefix).transpose(1, 2).flatten(2)
        out: Tensor = self.proj(attended)
        return out

    def answer(self, asking: Tensor, tokens: Tensor) -> Tensor:
        """Attend from some tokens to all, without windows or relative positions.

        Args:
            asking: (B, M, C), which of the tokens attend; queries of the others are not computed.
            tokens: (B, N, C), attended to.

        Returns:
            (B, M, C).

        Raises:
            ValueError: Windows or relative positions, which depend on where a token lies.
        """
        if self.window_size or self.has_relative or self.rpe_k is not None:
            raise ValueError("tokens that ask have no place in windows and relative positions")
        batch, length, channels = tokens.shape
        weight, bias = self.qkv.weight, self.qkv.bias
        biases = (None, None) if bias is None else (bias[:channels], bias[channels:])
        queries = F.linear(asking, weight[:channels], biases[0])
        pairs = F.linear(tokens, weight[channels:], biases[1])
        heads = (self.num_heads, channels // self.num_heads)
        q = queries.view(batch, -1, *heads).transpose(1, 2)
        k, v = pairs.view(batch, length, 2, *heads).permute(2, 0, 3, 1, 4).unbind(0)
        attended = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.proj(attended.transpose(1, 2).flatten(2))
        return out

    def _attend(self, heads: Tensor, grid: Grid | None, num_prefix: int) -> Tensor:
        """Return (B, num_heads, N, head_dim) from queries, keys and values (3, B, ...)."""
        if self.has_relative:
            return attend_relative(heads, self.rel_pos_h, self.rel_pos_w, _known(grid))
        q, k, v = heads.unbind(0)
        bias = None if self.rpe_k is None else self.rpe_k(q, _known(grid), num_prefix)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)


def _known(grid: Grid | None) -> Grid:
    if grid is None:
        raise ValueError("windows and relative positions need the grid that the tokens form")
    return grid
