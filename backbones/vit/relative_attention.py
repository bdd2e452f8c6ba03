"""Attention with decomposed relative positions: logit + q . rel_h[dy] + q . rel_w[dx].

Two exact formulations, and the choice between them:

* ``attend_folded``: the relative term is an inner product too, of the query's products with all
  row and column offsets, and the key's row and column as one-hot vectors. Appended to q and
  k, they let the fused kernels of ``scaled_dot_product_attention`` do all the work. Widening the
  heads (by rows + columns) costs arithmetic, which a GPU has in plenty.
* ``_ChunkedAttention``: plain matrix products over chunks of queries that stay in the cache. On
  the CPU in full precision it beats both the above and the textbook formulation, which walks
  through the N x N logits in memory about a dozen times.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from backbones.base.traces import is_written_as_graph
from backbones.vit.positions import Grid

# Logits in work at a time; 16 MiB in float32, a part of a server's L3 cache.
_CHUNK_LOGITS = 1 << 22


def attend_relative(heads: Tensor, rel_pos_h: Tensor, rel_pos_w: Tensor, grid: Grid) -> Tensor:
    """Attend with decomposed relative positions (MViTv2; ViTDet, section 3).

    Args:
        heads: (3, B, num_heads, rows * columns, head_dim): queries, keys, values. Queries are
            scaled in their product with keys, not in the relative terms.
        rel_pos_h: (2 * size - 1, head_dim), by row offset, most negative first.
        rel_pos_w: Likewise by column offset.
        grid: Rows and columns.

    Returns:
        (B, num_heads, rows * columns, head_dim).
    """
    table_h = offset_table(rel_pos_h, grid[0]).to(heads.dtype)
    table_w = offset_table(rel_pos_w, grid[1]).to(heads.dtype)
    chunked = heads.device.type == "cpu" and heads.dtype in (torch.float32, torch.float64)
    if chunked and not is_written_as_graph():
        out: Tensor = _ChunkedAttention.apply(heads, table_h, table_w)
        return out
    return attend_folded(heads, table_h, table_w)


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


def _products(q: Tensor, table_h: Tensor, table_w: Tensor) -> tuple[Tensor, Tensor]:
    """Return q's products with all row and column offsets, (..., N, rows) and (..., N, columns)."""
    image = q.reshape(-1, len(table_h), len(table_w), q.shape[-1])
    by_row = torch.einsum("nhwc,hkc->nhwk", image, table_h)
    by_column = torch.einsum("nhwc,wkc->nhwk", image, table_w)
    return by_row.reshape(*q.shape[:-1], -1), by_column.reshape(*q.shape[:-1], -1)


def _products_backward(
    q: Tensor, grad_q: Tensor, tables: tuple[Tensor, Tensor], grads: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Add ``_products``' share to ``grad_q``, (..., N, D); return the tables', (side, side, D)."""
    rows, columns, head_dim = len(tables[0]), len(tables[1]), q.shape[-1]
    image = q.view(-1, rows, columns, head_dim)
    by_row = grads[0].view(-1, rows, columns, rows)
    by_column = grads[1].view(-1, rows, columns, columns)
    image_grad = grad_q.view(-1, rows, columns, head_dim)
    image_grad += torch.einsum("nhwk,hkc->nhwc", by_row, tables[0])
    image_grad += torch.einsum("nhwk,wkc->nhwc", by_column, tables[1])
    grad_h = torch.einsum("nhwk,nhwc->hkc", by_row, image)
    return grad_h, torch.einsum("nhwk,nhwc->wkc", by_column, image)


def attend_folded(heads: Tensor, table_h: Tensor, table_w: Tensor) -> Tensor:
    """Attend through the fused kernels, with relative positions as further channels.

    Args:
        heads: (3, B, num_heads, rows * columns, head_dim).
        table_h: (rows, rows, head_dim), from ``offset_table``.
        table_w: (columns, columns, head_dim).

    Returns:
        (B, num_heads, rows * columns, head_dim).
    """
    q, k, v = heads.unbind(0)
    head_dim = q.shape[-1]
    by_row, by_column = _products(q, table_h, table_w)
    rows, columns = len(table_h), len(table_w)
    one_row = torch.eye(rows, dtype=k.dtype, device=k.device).repeat_interleave(columns, 0)
    one_column = torch.eye(columns, dtype=k.dtype, device=k.device).repeat(rows, 1)
    places = torch.cat([one_row, one_column], dim=-1).expand(*k.shape[:2], -1, -1)
    wide = head_dim + rows + columns
    wide += -wide % 8  # fused kernels on a GPU want multiples of 8, and v as wide as q and k
    wide_q = _widen(torch.cat([q * head_dim**-0.5, by_row, by_column], dim=-1), wide)
    wide_k = _widen(torch.cat([k, places], dim=-1), wide)
    out = F.scaled_dot_product_attention(wide_q, wide_k, _widen(v, wide), scale=1.0)
    return out[..., :head_dim]


def _widen(x: Tensor, channels: int) -> Tensor:
    """Return (..., C) with zeros behind, (..., channels)."""
    return F.pad(x, (0, channels - x.shape[-1]))


class _ChunkedAttention(torch.autograd.Function):
    """Attention over chunks of queries; keeps the probabilities for the backward pass."""

    @staticmethod
    def forward(ctx: Any, heads: Tensor, table_h: Tensor, table_w: Tensor) -> Tensor:
        batch, num_heads, length, head_dim = heads.shape[1:]
        q, k, v = heads.reshape(3, batch * num_heads, length, head_dim).unbind(0)
        by_row, by_column = _products(q, table_h, table_w)
        keep = any(ctx.needs_input_grad)
        kept = q.new_empty(len(q) if keep else 0, length, length)
        out = torch.empty_like(q)
        for part, span in _chunks(len(q), length):
            logits = by_row[part, span, :, None] + by_column[part, span, None, :]
            logits = logits.view(*logits.shape[:2], length)
            logits.baddbmm_(q[part, span], k[part].mT, alpha=head_dim**-0.5)
            chunk = kept[part, span] if keep else torch.empty_like(logits)
            torch.softmax(logits, dim=-1, out=chunk)
            torch.bmm(chunk, v[part], out=out[part, span])
        ctx.shape = heads.shape
        ctx.save_for_backward(q, k, v, table_h, table_w, kept)
        return out.view(batch, num_heads, length, head_dim)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v, table_h, table_w, kept = ctx.saved_tensors
        heads, length, head_dim = q.shape
        rows, columns = len(table_h), len(table_w)
        scale = head_dim**-0.5
        grad_q = torch.empty_like(q)
        # Transposed, because MKL is a third slower when the long side of a product is contracted
        # by columns.
        grad_kv = q.new_zeros(2, heads, head_dim, length)
        by_row, by_column = q.new_empty(heads, length, rows), q.new_empty(heads, length, columns)
        grad_out = grad.reshape(q.shape)
        for part, span in _chunks(heads, length):
            chunk, upper = kept[part, span], grad_out[part, span]
            grad_kv[1, part].baddbmm_(upper.mT, chunk)
            lower = torch._softmax_backward_data(upper @ v[part].mT, chunk, -1, chunk.dtype)
            torch.bmm(lower, k[part], out=grad_q[part, span])
            grad_kv[0, part].baddbmm_(q[part, span].mT, lower, alpha=scale)
            image = lower.view(*lower.shape[:2], rows, columns)
            by_row[part, span], by_column[part, span] = image.sum(-1), image.sum(-2)
        grad_q *= scale
        grad_h, grad_w = _products_backward(q, grad_q, (table_h, table_w), (by_row, by_column))
        grads = torch.cat([grad_q[None], grad_kv.mT])
        return grads.view(ctx.shape), grad_h, grad_w


def _chunks(heads: int, length: int) -> Iterator[tuple[slice, slice]]:
    """Yield slices of heads and of queries that together cover all pairs.

    Either several whole heads, or a span of one head's queries: at most _CHUNK_LOGITS logits.
    """
    together = max(1, _CHUNK_LOGITS // length**2)
    span = max(1, min(length, _CHUNK_LOGITS // length))
    for first in range(0, heads, together):
        for start in range(0, length, span):
            yield slice(first, first + together), slice(start, start + span)
