"""Pixels between loader, network and people: uint8 images, normalised values, pictures."""

import torch
from torch import Tensor

from backbones.spec import BackboneSpec
from backbones.training.objective import Batch


class Pixels:
    """Normalises pixels, and undoes it."""

    def __init__(self, spec: BackboneSpec, device: torch.device) -> None:
        """Take mean and standard deviation from the backbone's name card."""
        self._device = device
        self._mean = torch.tensor(spec.mean, device=device).view(3, 1, 1)
        self._std = torch.tensor(spec.std, device=device).view(3, 1, 1)

    def ready(self, batch: Batch) -> Batch:
        """Return a batch on the device, its uint8 pixels (..., 3, H, W) normalised."""
        moved = {name: v.to(self._device, non_blocking=True) for name, v in batch.items()}
        return {
            name: self.normalise(value) if value.dtype == torch.uint8 else value
            for name, value in moved.items()
        }

    def normalise(self, pixels: Tensor) -> Tensor:
        """Return uint8 (..., 3, H, W) as normalised float32."""
        return pixels.float().div_(255).sub_(self._mean).div_(self._std)

    def restore(self, values: Tensor) -> Tensor:
        """Return normalised (..., 3, H, W) as uint8, cut to the range that an image can show."""
        shown = values.float() * self._std + self._mean
        return (shown.nan_to_num().clamp(0, 1) * 255).round().to(torch.uint8)
