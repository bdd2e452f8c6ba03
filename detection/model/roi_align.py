"""RoIAlign as two matrix products, for small maps on a CPU.

torchvision's CPU kernel walks over samples one by one, forward and backward; on the mini recipe
that was a quarter of a training step. Bilinear sampling on a grid is separable: rows and columns
each have an interpolation matrix, so that pooling is ``rows @ map @ columns^T``.
"""

from typing import Any

import torch
from torch import Tensor, nn

# Above so many cells the products do more work than the samples would (measured on two CPUs).
LARGEST_MAP = 40 * 40


class SeparableRoIAlign(nn.Module):
    """Equal to detectron2's ``ROIAlign`` (aligned) with a fixed sampling ratio, up to rounding."""

    def __init__(self, fallback: Any) -> None:
        """Take over from ``fallback``, which keeps the large maps and the GPU.

        Args:
            fallback: A detectron2 ``ROIAlign`` with a sampling ratio above 0.
        """
        super().__init__()
        self.fallback = fallback
        self.bins: int = fallback.output_size[0]
        self.scale: float = fallback.spatial_scale
        self.samples: int = fallback.sampling_ratio

    def forward(self, maps: Tensor, rois: Tensor) -> Tensor:
        """Pool regions.

        Args:
            maps: (B, C, H, W).
            rois: (R, 5): index of the image, then xyxy in pixels of the images.

        Returns:
            (R, C, bins, bins).
        """
        height, width = maps.shape[-2:]
        if maps.device.type != "cpu" or height * width > LARGEST_MAP or not len(rois):
            pooled: Tensor = self.fallback(maps, rois)
            return pooled
        with torch.no_grad():
            corners = rois[:, 1:].float() * self.scale - 0.5
            columns = self._weights(corners[:, 0], corners[:, 2], width).to(maps.dtype)
            rows = self._weights(corners[:, 1], corners[:, 3], height).to(maps.dtype)
        image = rois[:, 0].long()
        channels_last = maps.permute(0, 2, 3, 1)
        parts = []
        order = torch.argsort(image, stable=True)
        counts = torch.bincount(image, minlength=len(maps)).tolist()
        for one, chosen in zip(channels_last, torch.split(order, counts), strict=True):
            by_row = torch.einsum("rph,hwc->rpwc", rows[chosen], one)
            parts.append(torch.einsum("rqw,rpwc->rcpq", columns[chosen], by_row))
        return torch.cat(parts)[torch.argsort(order)]

    def _weights(self, start: Tensor, end: Tensor, size: int) -> Tensor:
        """Return (R, bins, size): what each cell of an axis adds to each bin.

        Samples outside the map by more than a cell count for nothing; nearer ones lie on its edge.
        """
        steps = (torch.arange(self.bins * self.samples) + 0.5) / (self.bins * self.samples)
        places = start[:, None] + (end - start)[:, None] * steps
        inside = (places >= -1) & (places <= size)
        places = places.clamp(0, size - 1)
        cells = torch.arange(size)
        weights = (1 - (places[..., None] - cells).abs()).clamp_(min=0) * inside[..., None]
        return weights.view(len(start), self.bins, self.samples, size).mean(dim=2)
