"""Distortions of colour and sharpness that contrastive methods and self-distillation share.

BYOL's family (Grill et al. 2020, appendix B): colour jitter, grey, blur, solarization, in this
order, each with a probability of its own; DINO and MoCo v3 keep it. On PIL images, with
torchvision's colour operations and PIL's blur, as the official loaders work.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from PIL import Image, ImageFilter, ImageOps
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

Pixels = TypeVar("Pixels", Image.Image, Tensor)

# In the order in which torchvision's ColorJitter names and numbers them.
_ADJUSTMENTS: tuple[Callable[..., Any], ...] = (
    TF.adjust_brightness,
    TF.adjust_contrast,
    TF.adjust_saturation,
    TF.adjust_hue,
)


@dataclass(frozen=True)
class Photometric:
    """How often and how much an image is distorted.

    Attributes:
        jitter_probability: Of the colour jitter.
        jitter: Brightness, contrast, saturation, hue: factors are drawn from [1 - x, 1 + x], the
            shift of the hue from [-x, x], in turns of the colour circle (at most 0.5).
        grey_probability: Of losing all colour.
        blur_probability: Of a Gaussian blur.
        blur_radius: Range of its standard deviation, in pixels.
        solarize_probability: Of inverting bright values.
        solarize_threshold: From this value (of 255) on.
    """

    jitter_probability: float = 0.8
    jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.2, 0.1)
    grey_probability: float = 0.2
    blur_probability: float = 0.0
    blur_radius: tuple[float, float] = (0.1, 2.0)
    solarize_probability: float = 0.0
    solarize_threshold: int = 128


# facebookresearch/dino, main_dino.py, DataAugmentationDINO; the defaults above are its common part.
# EsViT (microsoft/esvit, datasets/build.py) has the same three.
DINO_GLOBAL_1 = Photometric(blur_probability=1.0)
DINO_GLOBAL_2 = Photometric(blur_probability=0.1, solarize_probability=0.2)
DINO_LOCAL = Photometric(blur_probability=0.5)
# facebookresearch/moco-v3, main_moco.py, augmentation1 and augmentation2: BYOL's two views (Grill
# et al. 2020, table 6). They are those of DINO's global crops.
MOCOV3_VIEW_1 = DINO_GLOBAL_1
MOCOV3_VIEW_2 = DINO_GLOBAL_2


def distort(image: Image.Image, config: Photometric, generator: torch.Generator) -> Image.Image:
    """Distort an image's colours and sharpness.

    Args:
        image: RGB, any size.
        config: How often and how much.
        generator: The only source of randomness.

    Returns:
        RGB, same size.
    """
    if happens(config.jitter_probability, generator):
        image = jitter_colors(image, config.jitter, generator)
    if happens(config.grey_probability, generator):
        image = ImageOps.grayscale(image).convert("RGB")
    if happens(config.blur_probability, generator):
        radius = draw_uniform(*config.blur_radius, generator)
        image = image.filter(ImageFilter.GaussianBlur(radius))
    if happens(config.solarize_probability, generator):
        image = ImageOps.solarize(image, config.solarize_threshold)
    return image


def jitter_colors(
    image: Pixels, amounts: tuple[float, float, float, float], generator: torch.Generator
) -> Pixels:
    """Vary brightness, contrast, saturation and hue in random order, as torchvision's ColorJitter.

    Args:
        image: An RGB image, or (3, H, W) pixels.
        amounts: See ``Photometric.jitter``; what is 0 stays untouched.
        generator: Source of randomness.
    """
    order = torch.randperm(len(_ADJUSTMENTS), generator=generator).tolist()
    ranges = [(max(0.0, 1 - amount), 1 + amount) for amount in amounts[:3]]
    ranges.append((-amounts[3], amounts[3]))
    values = [draw_uniform(low, high, generator) for low, high in ranges]
    for i in order:
        if amounts[i] > 0:
            image = _ADJUSTMENTS[i](image, values[i])
    return image


def happens(probability: float, generator: torch.Generator) -> bool:
    """Draw whether something of that probability happens."""
    return draw_uniform(0, 1, generator) < probability


def draw_uniform(low: float, high: float, generator: torch.Generator) -> float:
    """Draw a number between ``low`` and ``high``."""
    return low + (high - low) * float(torch.rand((), generator=generator))
