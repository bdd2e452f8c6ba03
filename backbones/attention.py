"""Multi-head self-attention of the plain ViT, with what detection and LoMaR add to its logits."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.irpe import RelativeKeys
from backbones.positions import Grid
from backbones.windows import partition, unpartition


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
        qkv = self.qkv(tokens)
        size = self.window_size
        if size:
            cut = partition(qkv, _known(grid), size, self.qkv.bias)
            attended = unpartition(self._attend(cut, (size, size), 0), _known(grid), size)
        else:
            attended = self._attend(qkv, grid, num_prefix)
        out: Tensor = self.proj(attended)
        return out

    def _attend(self, qkv: Tensor, grid: Grid | None, num_prefix: int) -> Tensor:
        batch, length, _ = qkv.shape
        heads = qkv.view(batch, length, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = heads.unbind(0)
        if self.rpe_k is not None:
            bias = self.rpe_k(q, _known(grid), num_prefix)
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        elif self.has_relative:
            out = attend_relative(q, k, v, self.rel_pos_h, self.rel_pos_w, _known(grid))
        else:
            out = F.scaled_dot_product_attention(q, k, v)
        return out.transpose(1, 2).reshape(batch, length, -1)


def attend_relative(
    q: Tensor, k: Tensor, v: Tensor, rel_pos_h: Tensor, rel_pos_w: Tensor, grid: Grid
) -> Tensor:
    """Attend with decomposed relative positions: logit + q . rel_h[dy] + q . rel_w[dx].

    The relative term is an inner product too: of the query's products with all row and all column
    offsets, and the key's row and column written as one-hot vectors. Appended to q and k, these
    channels let the fused kernels do all the work, and no N x N bias exists.

    Args:
        q: (B, heads, rows * columns, head_dim); not scaled in the relative terms.
        k: Likewise.
        v: Likewise.
        rel_pos_h: (2 * size - 1, head_dim), by row offset, most negative first.
        rel_pos_w: Likewise by column offset.
        grid: Rows and columns.

    Returns:
        (B, heads, rows * columns, head_dim).
    """
    by_row, by_column = relative_products(q, rel_pos_h, rel_pos_w, grid)
    head_dim = q.shape[-1]
    spare = -(head_dim + sum(grid)) % 8  # fused kernels on a GPU want multiples of 8
    ones = key_places(grid, q).expand(*k.shape[:2], -1, -1)
    wide_q = F.pad(torch.cat([q * head_dim**-0.5, by_row, by_column], dim=-1), (0, spare))
    wide_k = F.pad(torch.cat([k, ones], dim=-1), (0, spare))
    wide_v = F.pad(v, (0, wide_q.shape[-1] - head_dim))
    return F.scaled_dot_product_attention(wide_q, wide_k, wide_v, scale=1.0)[..., :head_dim]


def relative_products(
    q: Tensor, rel_pos_h: Tensor, rel_pos_w: Tensor, grid: Grid
) -> tuple[Tensor, Tensor]:
    """Return the queries' products with every row's and every column's relative position.

    Args:
        q: (B, heads, rows * columns, head_dim).
        rel_pos_h: (2 * size - 1, head_dim).
        rel_pos_w: Likewise.
        grid: Rows and columns.

    Returns:
        (B, heads, rows * columns, rows) and (B, heads, rows * columns, columns).
    """
    rows, columns = grid
    table_h = offset_table(rel_pos_h, rows).to(q.dtype)
    table_w = offset_table(rel_pos_w, columns).to(q.dtype)
    image = q.view(*q.shape[:2], rows, columns, -1)
    by_row = torch.einsum("bnhwc,hkc->bnhwk", image, table_h)
    by_column = torch.einsum("bnhwc,wkc->bnhwk", image, table_w)
    return by_row.flatten(2, 3), by_column.flatten(2, 3)


def offset_table(rel_pos: Tensor, size: int) -> Tensor:
    """Return the relative position of every (query, key) pair along one axis.

    A table made for another size is interpolated linearly, as detectron2's ``get_rel_pos``.

    Args:
        rel_pos: (2 * made_for - 1, C).
        size: Length of the axis.

    Returns:
        (size, size, C).
    """
    length = 2 * size - 1
    if rel_pos.shape[0] != length:
        rel_pos = F.interpolate(rel_pos.t()[None], size=length, mode="linear")[0].t()
    places = torch.arange(size, device=rel_pos.device)
    return rel_pos[places[:, None] - places[None, :] + size - 1]


def key_places(grid: Grid, like: Tensor) -> Tensor:
    """Return every patch's row and column as one-hot vectors, (rows * columns, rows + columns)."""
    rows, columns = grid
    one_row = torch.eye(rows, dtype=like.dtype, device=like.device).repeat_interleave(columns, 0)
    one_column = torch.eye(columns, dtype=like.dtype, device=like.device).repeat(rows, 1)
    return torch.cat([one_row, one_column], dim=-1)


def _known(grid: Grid | None) -> Grid:
    if grid is None:
        raise ValueError("windows and relative positions need the grid that the tokens form")
    return grid
