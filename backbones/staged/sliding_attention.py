"""Attention of Vision Longformer: a sliding window of chunks, and global tokens."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backbones.staged.backbone import Grid


class SlidingAttention(nn.Module):
    """Patches attend to their neighbourhood and to the global tokens; those attend to everything.

    The neighbourhood of a patch is its own chunk of ``window`` x ``window`` patches and the eight
    chunks around it (Zhang et al. 2021, sections 3.1 and 3.3; microsoft/vision-longformer
    Implementation.md). On a grid of at most two chunks a side that is every patch, so that the
    last two stages of an image of 224 pixels attend globally, as the paper has it. Projections
    are shared by global tokens and patches.

    Attributes:
        bias_local: ((2 * reach - 1) ** 2, heads), by the rows and columns between two patches.
        bias_cross: (2, heads, P), of global tokens asking patches, and of patches asking them.
        bias_global: (heads, P, P), among global tokens.
    """

    def __init__(
        self, channels: int, num_heads: int, num_prefix: int, window: int, reach: int
    ) -> None:
        """Make the projections and tables; see ``ViLConfig`` for ``window`` and ``reach``."""
        super().__init__()
        self.num_heads, self.num_prefix = num_heads, num_prefix
        self.window, self.reach = window, reach
        self.query = nn.Linear(channels, channels)
        self.kv = nn.Linear(channels, 2 * channels)
        self.proj = nn.Linear(channels, channels)
        self.bias_local = nn.Parameter(torch.zeros((2 * reach - 1) ** 2, num_heads))
        if num_prefix:
            self.bias_cross = nn.Parameter(torch.zeros(2, num_heads, num_prefix))
            self.bias_global = nn.Parameter(torch.zeros(num_heads, num_prefix, num_prefix))

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        """Return (B, P + N, C) for tokens of that shape, whose patches form ``grid``."""
        q = self._heads(self.query(tokens))
        k, v = (self._heads(half) for half in self.kv(tokens).chunk(2, dim=-1))
        if max(grid) <= 2 * self.window:
            bias = self._patches_ask(self._among(_offsets(grid, tokens.device)))
            if self.num_prefix:
                bias = torch.cat([self._prefix_asks(grid), bias], dim=1)
            found = F.scaled_dot_product_attention(q, k, v, bias.to(q.dtype))
        else:
            found = self._slide(q, k, v, grid)
            if self.num_prefix:
                asking, bias = q[:, :, : self.num_prefix], self._prefix_asks(grid).to(q.dtype)
                prefix = F.scaled_dot_product_attention(asking, k, v, bias)
                found = torch.cat([prefix, found], dim=2)
        out: Tensor = self.proj(found.transpose(1, 2).flatten(2))
        return out

    def _slide(self, q: Tensor, k: Tensor, v: Tensor, grid: Grid) -> Tensor:
        """Return what patches find, (B, heads, rows * columns, channels of a head)."""
        count, side = self.num_prefix, self.window
        down, across = -(-grid[0] // side), -(-grid[1] // side)
        # (B, down * across * heads, tokens, channels of a head), so that a fused kernel takes it.
        asking = self._chunks(q[:, :, count:], grid, around=0).flatten(1, 2)
        keys, values = (
            torch.cat(
                [
                    x[:, None, :, :count].expand(-1, down * across, -1, -1, -1),
                    self._chunks(x[:, :, count:], grid, around=side),
                ],
                dim=3,
            ).flatten(1, 2)
            for x in (k, v)
        )
        bias = self._patches_ask(self._among(_chunk_offsets(side, q.device)))
        inside = self._chunks(q.new_ones(1, 1, grid[0] * grid[1], 1), grid, around=side)
        there = F.pad(inside[0, :, :, None, :, 0], (count, 0), value=1) > 0
        bias = torch.where(there, bias.to(q.dtype), float("-inf")).flatten(0, 1)
        found = F.scaled_dot_product_attention(
            asking, keys, values, bias.expand(len(q), -1, -1, -1)
        )
        found = torch.unflatten(found, 2, (side, side))
        found = torch.unflatten(found, 1, (down, across, self.num_heads))
        # (B, heads, down, side, across, side, channels of a head)
        found = found.permute(0, 3, 1, 4, 2, 5, 6).flatten(4, 5).flatten(2, 3)
        return found[:, :, : grid[0], : grid[1]].flatten(2, 3)

    def _chunks(self, x: Tensor, grid: Grid, around: int) -> Tensor:
        """Return chunks with ``around`` rows and columns on all sides, zeros outside the grid.

        Args:
            x: (B, heads, rows * columns, D).
            grid: Rows and columns.
            around: In tokens.

        Returns:
            (B, chunks, heads, (window + 2 * around) ** 2, D), all in raster order.
        """
        side, (rows, columns) = self.window, grid
        image = torch.unflatten(x, 2, grid)
        right, below = -columns % side + around, -rows % side + around
        image = F.pad(image, (0, 0, around, right, around, below))
        cut = image.unfold(2, side + 2 * around, side).unfold(3, side + 2 * around, side)
        # Of (B, heads, down, across, D, rows, columns).
        return cut.permute(0, 2, 3, 1, 5, 6, 4).flatten(4, 5).flatten(1, 2)

    def _among(self, offsets: Tensor) -> Tensor:
        """Return the bias between patches, (heads, asking, asked).

        Args:
            offsets: (asking, asked, 2), rows and columns from the asked patch to the asking one.
        """
        near = offsets.clamp(1 - self.reach, self.reach - 1) + self.reach - 1
        return self.bias_local[near[..., 0] * (2 * self.reach - 1) + near[..., 1]].movedim(-1, 0)

    def _patches_ask(self, among: Tensor) -> Tensor:
        """Return (heads, asking, P + asked) of the bias between patches, (heads, asking, asked)."""
        if not self.num_prefix:
            return among
        cross = self.bias_cross[1, :, None].expand(-1, among.shape[1], -1)
        return torch.cat([cross, among], dim=2)

    def _prefix_asks(self, grid: Grid) -> Tensor:
        """Return the bias of prefix tokens that ask, (heads, P, P + rows * columns)."""
        cross = self.bias_cross[0, :, :, None].expand(-1, -1, grid[0] * grid[1])
        return torch.cat([self.bias_global, cross], dim=2)

    def _heads(self, x: Tensor) -> Tensor:
        """Return (B, N, heads * D) channels apart by head, (B, heads, N, D)."""
        return torch.unflatten(x, 2, (self.num_heads, -1)).transpose(1, 2)


def _offsets(grid: Grid, device: torch.device) -> Tensor:
    """Return (N, N, 2): rows and columns from the second patch of a grid to the first."""
    places = _raster(0, grid[0], 0, grid[1], device)
    return places[:, None] - places


def _chunk_offsets(side: int, device: torch.device) -> Tensor:
    """Return (side ** 2, 9 * side ** 2, 2): from the patches in and around a chunk to its own."""
    own = _raster(0, side, 0, side, device)
    return own[:, None] - _raster(-side, 2 * side, -side, 2 * side, device)


def _raster(top: int, bottom: int, left: int, right: int, device: torch.device) -> Tensor:
    """Return (N, 2): rows and columns of a rectangle, in raster order."""
    rows = torch.arange(top, bottom, device=device)
    return torch.cartesian_prod(rows, torch.arange(left, right, device=device))
