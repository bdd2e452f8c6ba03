"""Recipes of the attention statistics."""

from collections.abc import Callable, Mapping

from benchmarks.labelled.config import MINI_DATA
from benchmarks.labelled.regions.config import LookConfig, RegionConfig


def attention() -> RegionConfig:
    """Entropy and reach of attention on a thousand test images.

    Source: Dosovitskiy et al. 2021 (ViT), figure 7, for the distance. No published numbers.
    """
    return RegionConfig(protocol="attention/v1", look=LookConfig(num_images=1000))


def attention_mini() -> RegionConfig:
    """The same on 100 views of 64 pixels, for the embedded mini data."""
    return RegionConfig(
        protocol="attention-mini/v1", data=MINI_DATA, look=LookConfig(num_images=100)
    )


ATTENTION_RECIPES: Mapping[str, Callable[[], RegionConfig]] = {
    "attention": attention,
    "attention-mini": attention_mini,
}
