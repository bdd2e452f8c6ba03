"""Attention of CvT: queries, keys and values come from depthwise convolutions of the map."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backbones.staged.backbone import Grid

_KERNEL = 3  # Wu et al. 2021, table 2


class ConvProjection(nn.Module):
    """Depthwise convolution, BatchNorm and pointwise projection (Wu et al. 2021, section 3.2)."""

    def __init__(self, channels: int, out_channels: int, stride: int = 1) -> None:
        """Project ``channels`` to ``out_channels`` at ``stride`` tokens in both directions."""
        super().__init__()
        self.depthwise = nn.Conv2d(
            channels, channels, _KERNEL, stride, _KERNEL // 2, groups=channels, bias=False
        )
        self.norm = nn.BatchNorm2d(channels)
        self.pointwise = nn.Linear(channels, out_channels)

    def forward(self, image: Tensor, prefix: Tensor | None = None) -> Tensor:
        """Return the projected tokens.

        Args:
            image: (B, C, rows, columns).
            prefix: (B, P, C), tokens that the convolution leaves out; they come first.

        Returns:
            (B, P + N, C'), raster order.
        """
        tokens = self.norm(self.depthwise(image)).flatten(2).transpose(1, 2)
        if prefix is not None:
            tokens = torch.cat([prefix, tokens], dim=1)
        out: Tensor = self.pointwise(tokens)
        return out


class ConvAttention(nn.Module):
    """Attention over the whole map, with keys and values at half its resolution.

    Logits are divided by the square root of all channels, not of those of one head, as in
    microsoft/CvT (lib/models/cls_cvt.py).
    """

    def __init__(self, channels: int, num_heads: int, num_prefix: int) -> None:
        """Make the projections for tokens with ``num_prefix`` tokens in front of the patches."""
        super().__init__()
        self.num_heads, self.num_prefix = num_heads, num_prefix
        self.q = ConvProjection(channels, channels)
        self.k = ConvProjection(channels, channels, stride=2)
        self.v = ConvProjection(channels, channels, stride=2)
        self.proj = nn.Linear(channels, channels)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        """Return (B, P + N, C) for tokens of that shape, whose patches form ``grid``."""
        prefix, patches = tokens[:, : self.num_prefix], tokens[:, self.num_prefix :]
        image = torch.unflatten(patches.transpose(1, 2), 2, grid)
        q, k, v = (
            torch.unflatten(project(image, prefix), 2, (self.num_heads, -1)).transpose(1, 2)
            for project in (self.q, self.k, self.v)
        )
        found = F.scaled_dot_product_attention(q, k, v, scale=tokens.shape[-1] ** -0.5)
        out: Tensor = self.proj(found.transpose(1, 2).flatten(2))
        return out


class WindowConvAttention(nn.Module):
    """EsViT's attention of CvT: within windows, one convolution for queries, keys and values.

    The map is zero-padded, right and bottom, to whole windows in front of the convolution; padding
    takes part in attention. A map smaller than the window is one of windows of its shorter side.
    Logits are scaled as in ``ConvAttention``. Source: microsoft/esvit models/cvt_v4_transformer.py.
    """

    def __init__(self, channels: int, num_heads: int, window: int) -> None:
        """Make the projections; ``window`` is the side of the windows in tokens."""
        super().__init__()
        self.num_heads, self.window = num_heads, window
        self.qkv = ConvProjection(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        """Return (B, N, C) for tokens of that shape, which form ``grid``."""
        rows, columns = grid
        side = min(self.window, rows, columns)
        image = torch.unflatten(tokens.transpose(1, 2), 2, grid)
        image = F.pad(image, (0, -columns % side, 0, -rows % side))
        down, across = image.shape[-2] // side, image.shape[-1] // side
        qkv = torch.unflatten(self.qkv(image), 1, (down, side, across, side))
        qkv = torch.unflatten(qkv, -1, (3, self.num_heads, -1))
        # (3, B, down * across * heads, tokens of a window, channels of a head)
        q, k, v = qkv.permute(5, 0, 1, 3, 6, 2, 4, 7).flatten(5, 6).flatten(2, 4).unbind(0)
        found = F.scaled_dot_product_attention(q, k, v, scale=tokens.shape[-1] ** -0.5)
        found = torch.unflatten(found, 2, (side, side))
        found = torch.unflatten(found, 1, (down, across, self.num_heads))
        # (B, down, side, across, side, heads, channels of a head)
        found = found.permute(0, 1, 4, 2, 5, 3, 6).flatten(5).flatten(3, 4).flatten(1, 2)
        out: Tensor = self.proj(found[:, :rows, :columns].flatten(1, 2))
        return out
