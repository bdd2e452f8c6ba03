"""The first crop of every method, with all draws from a generator that is handed in."""

import math

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from pretrain.config import DataConfig

_ATTEMPTS = 10  # torchvision's RandomResizedCrop
_JITTER = 0.4  # BEiT's brightness, contrast and saturation; MAE's table 1e names no numbers
_MARGIN = 256 / 224  # short side before a crop of fixed size, as in ImageNet's evaluation


def draw_crop(
    image: Image.Image,
    data: DataConfig,
    augmentation: str,
    generator: torch.Generator,
    resample: Image.Resampling = Image.Resampling.BICUBIC,
) -> Tensor:
    """Cut a square out of an image, (3, img_size, img_size) uint8.

    Args:
        image: RGB, any size.
        data: Size, scale, ratio, flip.
        augmentation: "crop": random resized crop and flip. "crop_color": and colour jitter.
            "fixed_crop": short side resized, random crop, flip. "none": central crop.
        generator: Source of randomness.
        resample: Filter of every resizing.
    """
    size = data.img_size
    if augmentation in ("fixed_crop", "none"):
        image = _resize_short_side(image, round(size * _MARGIN), resample)
        box = _fixed_box(image, size, None if augmentation == "none" else generator)
        image = image.crop(box)
    else:
        box = draw_box(image.width, image.height, data, generator)
        image = image.crop(box).resize((size, size), resample)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    if augmentation != "none" and _uniform(0, 1, generator) < data.flip:
        pixels = pixels.flip(-1)
    return jitter(pixels, generator) if augmentation == "crop_color" else pixels.contiguous()


def draw_box(
    width: int, height: int, data: DataConfig, generator: torch.Generator
) -> tuple[int, int, int, int]:
    """Draw a random resized crop by torchvision's rule.

    Args:
        width: Of the image.
        height: Likewise.
        data: Ranges of area and ratio.
        generator: Source of randomness.

    Returns:
        Left, top, right, bottom. After ten boxes that do not fit: the central one that comes
        nearest to the range of ratios.
    """
    low, high = data.crop_ratio
    for _ in range(_ATTEMPTS):
        area = width * height * _uniform(*data.crop_scale, generator)
        ratio = math.exp(_uniform(math.log(low), math.log(high), generator))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            top = int(torch.randint(height - h + 1, (), generator=generator))
            left = int(torch.randint(width - w + 1, (), generator=generator))
            return left, top, left + w, top + h
    ratio = min(max(width / height, low), high)
    w, h = min(width, round(height * ratio)), min(height, round(width / ratio))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def jitter(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Vary brightness, contrast and saturation of (3, H, W) uint8 pixels, in random order."""
    changes = (TF.adjust_brightness, TF.adjust_contrast, TF.adjust_saturation)
    factors = [_uniform(1 - _JITTER, 1 + _JITTER, generator) for _ in changes]
    for i in torch.randperm(len(changes), generator=generator).tolist():
        pixels = changes[i](pixels, factors[i])
    return pixels.contiguous()


def _resize_short_side(image: Image.Image, side: int, resample: Image.Resampling) -> Image.Image:
    factor = side / min(image.size)
    width, height = (max(side, round(length * factor)) for length in image.size)
    return image.resize((width, height), resample)


def _fixed_box(
    image: Image.Image, size: int, generator: torch.Generator | None
) -> tuple[int, int, int, int]:
    right, down = image.width - size, image.height - size
    if generator is None:
        left, top = right // 2, down // 2
    else:
        left = int(torch.randint(right + 1, (), generator=generator))
        top = int(torch.randint(down + 1, (), generator=generator))
    return left, top, left + size, top + size


def _uniform(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))
