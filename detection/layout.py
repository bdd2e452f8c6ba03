"""How maps lie in memory, which decides what convolutions cost.

On a CPU the backward pass of a 3x3 convolution takes 3.5 times as long where the channels are
innermost, as transformers and LayerNorm leave them (oneDNN 3, 256 channels, 256 x 256 positions);
ResNet-50 with FPN is 1.23 times as fast with them outermost. A GPU likes them innermost.
"""

from typing import Any

import torch
from torch import Tensor


def laid_out(maps: Tensor) -> Tensor:
    """Return maps or images (B, C, H, W) as the device's convolutions like them."""
    on_cpu = maps.device.type == "cpu"
    layout = torch.contiguous_format if on_cpu else torch.channels_last
    return maps.contiguous(memory_format=layout)


def swapped(rows: Tensor) -> Tensor:
    """Return the transpose (B, N, M) of (B, M, N): written out on a CPU, a view elsewhere."""
    if rows.device.type != "cpu":
        return rows.mT
    out: Tensor = _Swap.apply(rows)
    return out


class _Swap(torch.autograd.Function):
    """A transpose, a matrix at a time: torch walks in blocks through two dimensions, not three."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        batch, height, width = rows.shape
        out = rows.new_empty(batch, width, height)
        for target, matrix in zip(out, rows, strict=True):
            target.copy_(matrix.t())
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        out: Tensor = _Swap.apply(grad)
        return out
