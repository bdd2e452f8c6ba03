"""The simple feature pyramid of ViTDet, for a plain backbone of any stride.

Equal to detectron2's ``SimpleFeaturePyramid`` at stride 16 with the same weights. Two things
differ: the coarsest stride is what batches are really padded to (upstream publishes it under a
misspelt key, so that nothing pads), and other strides than 16 work.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.base.traces import is_written_as_graph

# Coarsest pyramid level that a neck computes; the one above is a subsample of it.
COARSEST_BUILT_LEVEL = 5


class MapNorm(nn.Module):
    """LayerNorm over the channels of a (B, C, H, W) map: detectron2's "LN", in one kernel.

    No subclass of ``nn.LayerNorm``, as upstream: the weight decay of ViTDet tells the two apart.
    """

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, maps: Tensor) -> Tensor:
        """Normalise each position; (B, C, H, W) to the same shape."""
        rows = swapped(maps.flatten(2))
        normed = F.layer_norm(rows, self.weight.shape, self.weight, self.bias, self.eps)
        return swapped(normed).reshape(maps.shape)


class SimplePyramid(nn.Module):
    """Pyramid levels from the one map of a plain backbone (ViTDet, section 3).

    Level n has stride 2**n. From a map of stride 16, level 2 is two deconvolutions away, level 3
    one, level 4 none, level 5 a max pool; from stride 8 it is one fewer or one pool more. A stride
    that is no power of two (patch 14) is first resampled, bilinearly, to the nearest one (16); the
    geometry stays exact, since the scale factor and not the target size is given.

    Parameters are named ``simfp_<level>.<i>``, as detectron2 names them.
    """

    def __init__(
        self, in_channels: int, stride: int, channels: int, levels: tuple[int, ...], norm: str
    ) -> None:
        """Build with fresh weights.

        Args:
            in_channels: Of the backbone's map.
            stride: Of the backbone's map, in pixels.
            channels: Of every level.
            levels: Consecutive, finest first; those above 5 are subsampled from 5.
            norm: After each convolution, see ``make_norm``.
        """
        super().__init__()
        self.levels = levels
        self.stride = stride
        self.resampled_stride = 2 ** round(math.log2(stride))
        self.built = [level for level in levels if level <= COARSEST_BUILT_LEVEL]
        for level in self.built:
            doublings = round(math.log2(self.resampled_stride)) - level
            self.add_module(f"simfp_{level}", _stage(in_channels, channels, doublings, norm))

    def forward(self, features: Tensor, height: int, width: int) -> dict[str, Tensor]:
        """Return the levels as ``{"p2": (B, C, H / 4, W / 4), ...}``.

        Args:
            features: (B, in_channels, ceil(H / stride), ceil(W / stride)).
            height: H of the padded images, a multiple of the coarsest stride.
            width: W, likewise.
        """
        features = laid_out(self._resample(features, height, width))
        maps = {f"p{level}": self.get_submodule(f"simfp_{level}")(features) for level in self.built}
        for level in self.levels[len(self.built) :]:
            maps[f"p{level}"] = F.max_pool2d(maps[f"p{level - 1}"], kernel_size=1, stride=2)
        return maps

    def _resample(self, features: Tensor, height: int, width: int) -> Tensor:
        """Return (B, C, h, w) features at ``resampled_stride`` S, (B, C, H / S, W / S)."""
        if self.stride == self.resampled_stride:
            return features
        target = (height // self.resampled_stride, width // self.resampled_stride)
        scale = self.stride / self.resampled_stride
        # The last cells may lie outside the image, or lack a part of a cell at its border.
        have = features.shape[-2:]
        missing = [max(0, math.ceil(target[i] / scale) - have[i]) for i in range(2)]
        features = F.pad(features, (0, missing[1], 0, missing[0]), mode="replicate")
        resampled = F.interpolate(features, scale_factor=scale, mode="bilinear")
        return resampled[..., : target[0], : target[1]]


class NormedConv(nn.Conv2d):
    """A convolution that keeps the map's size, then a norm; no bias where there is a norm."""

    def __init__(self, in_channels: int, channels: int, kernel_size: int, norm: str) -> None:
        super().__init__(
            in_channels, channels, kernel_size, padding=kernel_size // 2, bias=not norm
        )
        self.norm = make_norm(norm, channels)

    def forward(self, maps: Tensor) -> Tensor:
        """Convolve and normalise (B, in_channels, H, W) to (B, channels, H, W)."""
        normed: Tensor = self.norm(super().forward(maps))
        return normed


def make_norm(norm: str, channels: int) -> nn.Module:
    """Return the norm that a config names, for maps of ``channels`` channels.

    Args:
        norm: "LN" over channels, "GN" with 32 groups, "BN", "SyncBN", or "" for none.
        channels: Of the maps.
    """
    if norm == "GN":
        return nn.GroupNorm(32, channels)
    kinds: dict[str, Callable[[int], nn.Module]] = {
        "": nn.Identity,
        "LN": MapNorm,
        "BN": nn.BatchNorm2d,
        "SyncBN": nn.SyncBatchNorm,
    }
    return kinds[norm](channels)


def _stage(in_channels: int, channels: int, doublings: int, norm: str) -> nn.Sequential:
    """Return the layers from the backbone's map to one level, ``doublings`` finer (or coarser)."""
    layers: list[nn.Module] = []
    width = in_channels
    for index in range(doublings):
        if index:
            layers += [make_norm(norm, width), nn.GELU()]
        layers.append(nn.ConvTranspose2d(width, width // 2, kernel_size=2, stride=2))
        width //= 2
    if doublings < 0:
        layers.append(nn.MaxPool2d(kernel_size=2**-doublings))
    layers += [NormedConv(width, channels, 1, norm), NormedConv(channels, channels, 3, norm)]
    return nn.Sequential(*layers)


def laid_out(maps: Tensor) -> Tensor:
    """Return maps or images (B, C, H, W) as the device's convolutions like them."""
    on_cpu = maps.device.type == "cpu"
    layout = torch.contiguous_format if on_cpu else torch.channels_last
    return maps.contiguous(memory_format=layout)


def swapped(rows: Tensor) -> Tensor:
    """Return the transpose (B, N, M) of (B, M, N): written out on a CPU, a view elsewhere.

    A network that is written as a graph has the view.
    """
    if rows.device.type != "cpu" or is_written_as_graph():
        return rows.transpose(1, 2)
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
