"""Recipes of the region correspondence."""

from collections.abc import Callable, Mapping

from benchmarks.labelled.config import MINI_DATA
from benchmarks.labelled.regions.config import RegionConfig


def correspondence() -> RegionConfig:
    """EsViT's measure of region correspondence.

    Source: Li et al. 2022 (EsViT); microsoft/esvit ``analyze_models.py``: the ten surest pairs of
    an image and its mirrored grey view. To reproduce: accuracy 0.95 and distance 2.5 pixels (DINO
    ViT), 0.66 and 49.9 (EsViT Swin, views alone), 0.91 and 11.9 (EsViT Swin, with regions).
    Beware: cells have 16 pixels in one network and 32 in the other. Cost: two forward passes over
    the test images.
    """
    return RegionConfig()


def correspondence_mini() -> RegionConfig:
    """The same on views of 64 pixels, for the embedded mini data."""
    return RegionConfig(protocol="correspondence-mini/v1", data=MINI_DATA)


CORRESPONDENCE_RECIPES: Mapping[str, Callable[[], RegionConfig]] = {
    "correspondence": correspondence,
    "correspondence-mini": correspondence_mini,
}
