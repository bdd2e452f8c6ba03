"""Recipes of the region probe."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated

from msgspec import Meta

from backbones.base.sections import LATER, Conflict, Recipe, Section
from backbones.base.values import Below1, Count, CountOrZero, Inside01, Name, Positive
from benchmarks.labelled.config import ExtractionConfig


@dataclass(frozen=True)
class RegionImagesConfig(Section):
    """Which images are used, and at which size.

    Attributes:
        short_side: Length that the short side of an image is resized to, in pixels.
        max_size: Length that the long side may not exceed, in pixels.
        max_train_images: Largest number of training images; a seeded choice where there are more.
            0: no limit.
        square: Pads every image to a square of ``max_size``, right and below, with the mean of the
            normalisation; set for networks that run at one size only.
    """

    short_side: Count = 1024
    max_size: Count = 1024
    max_train_images: CountOrZero = 20_000
    square: bool = field(default=False, metadata=LATER)

    def conflicts(self) -> Iterator[Conflict]:
        """Yield a short side that is longer than the long side may be."""
        if self.short_side > self.max_size:
            yield Conflict("short_side", f"a number of at most images.max_size ({self.max_size})")


@dataclass(frozen=True)
class BoxesConfig(Section):
    """Which boxes are pooled from the maps.

    Attributes:
        grid: Cells on each side of a pooled box, for the box regression; classifiers see the mean
            of the cells.
        samples: RoIAlign's samples on each side of a cell.
        jitters: Number of displaced copies of each object box.
        shift: Largest displacement of a copy's centre, as a share of the box's sides.
        scale: Largest absolute logarithm of a copy's side over the box's.
        background_iou: A background box overlaps no annotated object by more than this.
        max_regression_boxes: Largest number of displaced boxes in the training split that the
            regression reads; a seeded choice of images where there are more.
    """

    grid: Count = 3
    samples: Count = 2
    jitters: Count = 2
    shift: Below1 = 0.25
    scale: Annotated[float, Meta(ge=0, le=2)] = 0.4
    background_iou: Below1 = 0.2
    max_regression_boxes: Count = 40_000


@dataclass(frozen=True)
class RegionHeadsConfig(Section):
    """The three readers of pooled boxes.

    Attributes:
        k: Neighbours that vote; at most the number of training boxes.
        temperature: Of the votes (Wu et al. 2018, section 3.4).
        l2s: Penalties of the linear classifier; the best on held-out images is taken.
        box_l2s: Penalties of the box regression, relative to the mean squared feature; likewise.
        box_clip: Largest absolute value of a standardised feature that the box regression reads.
            Fresh ResNets have cells hundreds of deviations out, which throw single boxes away.
        held_out: Share of the training images that chooses the penalties.
        max_iterations: Largest number of L-BFGS iterations of a fit.
    """

    k: Count = 20
    temperature: Positive = 0.07
    l2s: Annotated[tuple[Positive, ...], Meta(min_length=1)] = (1e-4, 1e-3, 1e-2, 0.1, 1.0)
    box_l2s: Annotated[tuple[Positive, ...], Meta(min_length=1)] = (
        *(1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0),
    )
    box_clip: Positive = 5.0
    held_out: Inside01 = 0.2
    max_iterations: Count = 200


@dataclass(frozen=True)
class RegionProbeConfig(Recipe):
    """A region probe, except for its backbone, data and seed."""

    protocol: Name = "region-probe/v1"
    images: RegionImagesConfig = field(default_factory=RegionImagesConfig)
    boxes: BoxesConfig = field(default_factory=BoxesConfig)
    heads: RegionHeadsConfig = field(default_factory=RegionHeadsConfig)
    extraction: ExtractionConfig = field(
        default_factory=lambda: ExtractionConfig(batch_size=8, precision="bf16")
    )


def region_probe() -> RegionProbeConfig:
    """Return the probe at ViTDet's test size (Li et al. 2022, section 4: 1024 pixels).

    No paper: class of the annotated boxes by k-NN and by a linear classifier, and the way back
    from displaced boxes by ridge regression, all on frozen maps. Cost: one forward pass over
    20,000 training images and the validation images.
    """
    return RegionProbeConfig()


def region_probe_mini() -> RegionProbeConfig:
    """Return the probe at the mini recipe's test size, for the embedded mini data."""
    return RegionProbeConfig(
        protocol="region-probe-mini/v1",
        images=RegionImagesConfig(short_side=128, max_size=128),
        boxes=BoxesConfig(jitters=4),
        extraction=ExtractionConfig(batch_size=16),
    )


REGION_RECIPES: Mapping[str, Callable[[], RegionProbeConfig]] = {
    "region-probe": region_probe,
    "region-probe-mini": region_probe_mini,
}
