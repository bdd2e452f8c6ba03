"""The first crop of every method, with all draws from a generator that is handed in."""

import math

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from pretrain.config import PretrainDataConfig
from pretrain.parts.views.photometric import (
    Photometric,
    distort,
    draw_uniform,
    happens,
    jitter_colors,
)

_ATTEMPTS = 10  # torchvision's RandomResizedCrop
# BEiT's brightness, contrast and saturation (microsoft/unilm beit/datasets.py); MAE's table 1e
# names no numbers.
_JITTER = (0.4, 0.4, 0.4, 0.0)
_MARGIN = 256 / 224  # short side before a crop of fixed size, as in ImageNet's evaluation


def draw_crop(
    image: Image.Image,
    data: PretrainDataConfig,
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
        image = _random_resized(image, data, generator, resample)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    if augmentation != "none" and happens(data.flip, generator):
        pixels = pixels.flip(-1)
    if augmentation == "crop_color":
        pixels = jitter_colors(pixels, _JITTER, generator)
    return pixels.contiguous()


def draw_view(
    image: Image.Image,
    data: PretrainDataConfig,
    photometric: Photometric,
    generator: torch.Generator,
    resample: Image.Resampling = Image.Resampling.BICUBIC,
) -> Tensor:
    """Cut a square out of an image and distort it, (3, img_size, img_size) uint8.

    Random resized crop, flip, then colours.

    Args:
        image: RGB, any size.
        data: Size, scale, ratio, flip.
        photometric: What happens to the colours.
        generator: Source of randomness.
        resample: Filter of the resizing.
    """
    image = _random_resized(image, data, generator, resample)
    if happens(data.flip, generator):
        image = ImageOps.mirror(image)
    image = distort(image, photometric, generator)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def draw_box(
    width: int, height: int, data: PretrainDataConfig, generator: torch.Generator
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
        area = width * height * draw_uniform(*data.crop_scale, generator)
        ratio = math.exp(draw_uniform(math.log(low), math.log(high), generator))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            top = int(torch.randint(height - h + 1, (), generator=generator))
            left = int(torch.randint(width - w + 1, (), generator=generator))
            return left, top, left + w, top + h
    ratio = min(max(width / height, low), high)
    w, h = min(width, round(height * ratio)), min(height, round(width / ratio))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def _random_resized(
    image: Image.Image,
    data: PretrainDataConfig,
    generator: torch.Generator,
    resample: Image.Resampling,
) -> Image.Image:
    box = draw_box(image.width, image.height, data, generator)
    return image.crop(box).resize((data.img_size, data.img_size), resample)


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
