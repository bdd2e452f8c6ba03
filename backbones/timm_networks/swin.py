"""Which token lies where in Swin's shifted windows, and bringing tokens there and back.

Padding, shift and cutting are one gather of whole tokens, its gradient another: no token goes
anywhere twice.

timm shifts first and then pads to whole windows, so that padding is masked where the originals
(microsoft/Swin-Transformer, microsoft/esvit) let it take part in attention; on grids that are not
a multiple of the window, as those of local crops, the results differ. ``SwinBlock`` does as they
do.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from timm.models.swin_transformer import SwinTransformerBlock
from timm.models.swin_transformer_v2 import SwinTransformerV2Block
from torch import Tensor, nn

# What crops of two sizes need, in four stages, with and without shift. No more: images of many
# sizes, as in detection, would fill a GPU with masks, 13 MB for one of 1333 x 800 pixels.
_KEPT_ORDERS, _KEPT_MASKS = 16, 8


@dataclass(frozen=True, eq=False)
class WindowOrder:
    """The tokens of a padded and shifted grid, window by window in raster order.

    Attributes:
        rows: Of the padded grid.
        columns: Of the padded grid.
        window: Rows and columns of a window.
        shift: How far up and left the padded grid was shifted.
        source: (P,) the token of the grid that lies at each place; any, where there is padding.
        padding: Those places that hold no token.
        place: (N,) where each token lies.
    """

    rows: int
    columns: int
    window: tuple[int, int]
    shift: tuple[int, int]
    source: Tensor
    padding: Tensor
    place: Tensor

    @property
    def padded(self) -> bool:
        """Return whether some places hold no token."""
        return len(self.padding) > 0


@lru_cache(_KEPT_ORDERS)
def windows_of(
    rows: int,
    columns: int,
    window: tuple[int, int],
    shift: tuple[int, int],
    device: torch.device,
) -> WindowOrder:
    """Return the order for a grid that is padded below and on the right, then shifted up and left.

    Args:
        rows: Of the grid.
        columns: Of the grid.
        window: Rows and columns of a window.
        shift: How far up and left.
        device: Of the tokens.
    """
    below, right = -rows % window[0], -columns % window[1]
    count = rows * columns
    # Kept for training too, whoever asks first. The CPU knows at once how much is padding.
    with torch.inference_mode(False), torch.device("cpu"):
        grid = F.pad(torch.arange(count).view(rows, columns), (0, right, 0, below), value=count)
        source = _cut(grid.roll((-shift[0], -shift[1]), (0, 1)), window).flatten()
        taken = source < count
        padding = (~taken).nonzero()[:, 0]
        # Not by sorting, which takes a tenth of a second for an image of a detector.
        place = torch.empty(count, dtype=torch.int64)
        place[source[taken]] = taken.nonzero()[:, 0]
        source = source.clamp(max=count - 1)
        source, padding, place = (tensor.to(device) for tensor in (source, padding, place))
    return WindowOrder(rows + below, columns + right, window, shift, source, padding, place)


def cut_windows(tokens: Tensor, order: WindowOrder, fill: Tensor | None = None) -> Tensor:
    """Bring tokens into windows.

    Args:
        tokens: (B, N, C), in raster order.
        order: Of their grid.
        fill: (C,), the value of padding; needed where there is any.

    Returns:
        (B, P, C), window by window.
    """
    out: Tensor = _Cut.apply(tokens, fill, order.source, order.padding, order.place)
    return out


def join_windows(windows: Tensor, order: WindowOrder) -> Tensor:
    """Bring tokens back from windows, dropping the padding.

    Args:
        windows: (B, P, C).
        order: Of their grid.

    Returns:
        (B, N, C), in raster order.
    """
    out: Tensor = _Join.apply(windows, order.source, order.padding, order.place)
    return out


@lru_cache(_KEPT_MASKS)
def shift_mask(order: WindowOrder, dtype: torch.dtype) -> Tensor:
    """Return what keeps apart, in shifted windows, tokens that are no neighbours in the grid.

    Args:
        order: Of the grid.
        dtype: Of the logits.

    Returns:
        (windows, 1, N, N), 0 or -100 to add to logits, as in microsoft/Swin-Transformer
        ``models/swin_transformer.py``.
    """
    device = order.source.device
    with torch.inference_mode(False):
        # Along each axis: whether a place came round from the other end of the grid.
        down = torch.arange(order.rows, device=device) >= order.rows - order.shift[0]
        across = torch.arange(order.columns, device=device) >= order.columns - order.shift[1]
        area = _cut(2 * down[:, None] + 1 * across, order.window)
        apart = area[:, None, :, None] != area[:, None, None, :]
        return torch.zeros(apart.shape, dtype=dtype, device=device).masked_fill(apart, -100.0)


def shifted_windows(net: nn.Module) -> list[list[tuple[int, int]]]:
    """Return the window side and shift of each block of a Swin as it is built, stage by stage.

    Args:
        net: Any network. SwinV2-CR has windows by the size of the image and is not one of them.

    Returns:
        One list per stage, empty for networks without shifted windows.
    """
    stages: dict[str, list[tuple[int, int]]] = {}
    for name, block in net.named_modules():
        if isinstance(block, SwinTransformerBlock | SwinTransformerV2Block):
            stage = name.rpartition(".blocks.")[0]
            stages.setdefault(stage, []).append((block.window_size[0], max(block.shift_size)))
    return list(stages.values())


def _cut(grid: Tensor, window: tuple[int, int]) -> Tensor:
    """Return (windows, N) of a grid (rows, columns)."""
    high, wide = window
    cut = grid.view(len(grid) // high, high, grid.shape[1] // wide, wide)
    return cut.transpose(1, 2).reshape(-1, high * wide)


class _Cut(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        tokens: Tensor,
        fill: Tensor | None,
        source: Tensor,
        padding: Tensor,
        place: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(padding, place)
        windows = tokens.index_select(1, source)
        if fill is not None:
            windows[:, padding] = fill
        return windows

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        padding, place = ctx.saved_tensors
        filled = None
        if ctx.needs_input_grad[1]:
            filled = grad.index_select(1, padding).sum((0, 1))
        return grad.index_select(1, place), filled, None, None, None


class _Join(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, windows: Tensor, source: Tensor, padding: Tensor, place: Tensor
    ) -> Tensor:
        ctx.save_for_backward(source, padding)
        return windows.index_select(1, place)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        source, padding = ctx.saved_tensors
        windows = grad.index_select(1, source)
        if len(padding):
            windows[:, padding] = 0
        return windows, None, None, None


class SwinBlock(SwinTransformerBlock):  # type: ignore[misc]
    """A block that pads to whole windows and then shifts.

    What the originals pad with is zeros in front of the projection to queries, keys and values; its
    bias is all that those tokens have. So where there is padding, real tokens alone are projected,
    before and after attention.
    """

    def _attn(self, x: Tensor) -> Tensor:
        """Attend within windows.

        Args:
            x: (B, rows, columns, C).

        Returns:
            Of the same shape.
        """
        batch, rows, columns, channels = x.shape
        project, (high, wide) = self.attn.qkv, self.window_size
        order = windows_of(rows, columns, self.window_size, self.shift_size, x.device)
        tokens = x.reshape(batch, rows * columns, channels)
        if order.padded:
            qkv = project(tokens)
            fill = qkv.new_zeros(qkv.shape[-1]) if project.bias is None else project.bias
            qkv = cut_windows(qkv, order, fill.to(qkv.dtype))
        else:
            qkv = project(cut_windows(tokens, order))
        bias = self.attn._get_rel_pos_bias()
        if any(self.shift_size):
            bias = bias + shift_mask(order, bias.dtype)
        found = self._attend(qkv.view(-1, high * wide, qkv.shape[-1]), bias)
        found = found.view(batch, -1, found.shape[-1])
        project = self.attn.proj
        # Projected where there are fewer tokens or, if there are as many, where they lie already.
        if order.padded:
            joined = project(join_windows(found, order))
        else:
            joined = join_windows(project(found), order)
        out: Tensor = self.attn.proj_drop(joined)
        return out.view(batch, rows, columns, channels)

    def _attend(self, qkv: Tensor, bias: Tensor) -> Tensor:
        """Return (B * windows, N, C).

        Args:
            qkv: (B * windows, N, 3 C).
            bias: (1 or windows, heads, N, N), added to the logits: by position and, in shifted
                windows, by what is not a neighbour. Together they take one pass over the logits.
        """
        count, length, _ = qkv.shape
        heads = self.attn.num_heads
        q, k, v = qkv.view(count, length, 3, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        if self.attn.fused_attn:
            each = bias if len(bias) == 1 else bias.repeat(count // len(bias), 1, 1, 1)
            drop = self.attn.attn_drop.p if self.training else 0.0
            fused = F.scaled_dot_product_attention(q, k, v, attn_mask=each, dropout_p=drop)
            return fused.transpose(1, 2).reshape(count, length, -1)
        logits = (q * self.attn.scale) @ k.transpose(-2, -1)
        logits = logits.view(-1, len(bias), heads, length, length) + bias
        weights = self.attn.attn_drop(F.softmax(logits, dim=-1))
        found: Tensor = weights.view(count, heads, length, length) @ v
        return found.transpose(1, 2).reshape(count, length, -1)
