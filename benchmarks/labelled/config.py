"""Sections that the recipes on labelled images share: frozen, plain values."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from backbones.base.sections import Conflict, Section
from backbones.base.values import Count, CountOrZero
from backbones.training.config import Precision

Interpolation = Literal["bicubic", "bilinear"]
# See ``benchmarks.labelled.features``: the contract's own vector; class token, mean of the patch
# tokens, or both; the last four blocks' of either; the means of all maps.
FeatureKind = Literal["pooled", "cls", "cls4", "mean", "mean4", "cls+mean", "stages"]


@dataclass(frozen=True)
class CentralViewConfig(Section):
    """The central view of an image, as all evaluations on ImageNet take it.

    The defaults are those of facebookresearch/dino ``eval_knn.py`` and facebookresearch/mae
    ``main_linprobe.py``.

    Attributes:
        img_size: Side of the central crop, in pixels, and what tables of positions are made for.
        resize_to: Length of the short side before the crop, in pixels.
        interpolation: Filter of the resizing.
        max_corrupt: Largest number of unreadable images of a split; they are left out and named.
    """

    img_size: Count = 224
    resize_to: Count = 256
    interpolation: Interpolation = "bicubic"
    max_corrupt: CountOrZero = 10

    def conflicts(self) -> Iterator[Conflict]:
        """Yield a crop that is larger than the resized image."""
        if self.img_size > self.resize_to:
            yield Conflict("img_size", f"a number of at most data.resize_to ({self.resize_to})")


@dataclass(frozen=True)
class ExtractionConfig(Section):
    """How images become features.

    Attributes:
        batch_size: Images of a forward pass.
        precision: Precision of the forward pass; features are kept in fp32.
    """

    batch_size: Count = 64
    precision: Precision = "fp32"


# The mini data's pictures have a side of 93 pixels; in 64 of them a nano backbone sees 2,000 in
# seconds. The ratio of crop to short side is ImageNet's.
MINI_DATA = CentralViewConfig(img_size=64, resize_to=73)
