"""Recipes of the region probe."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from benchmarks.labelled.config import ExtractionConfig, refuse


@dataclass(frozen=True)
class RegionImagesConfig:
    """Which images are used, and at which size.

    Attributes:
        short_side: Length that the short side of an image is resized to, in pixels.
        max_size: Length that the long side may not exceed, in pixels.
        max_train_images: Largest number of training images; a seeded choice where there are more.
            0: no limit.
    """

    short_side: int = 1024
    max_size: int = 1024
    max_train_images: int = 20_000

    def problems(self) -> list[str]:
        """Return one sentence per impossible value, without its full stop."""
        found = []
        if not 0 < self.short_side <= self.max_size:
            found.append(
                f"images.short_side = {self.short_side} must be positive and at most "
                f"images.max_size = {self.max_size}"
            )
        if self.max_train_images < 0:
            found.append("images.max_train_images must not be negative")
        return found


@dataclass(frozen=True)
class BoxesConfig:
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

    grid: int = 3
    samples: int = 2
    jitters: int = 2
    shift: float = 0.25
    scale: float = 0.4
    background_iou: float = 0.2
    max_regression_boxes: int = 40_000

    def problems(self) -> list[str]:
        """Return one sentence per impossible value, without its full stop."""
        found = []
        for name in ("grid", "samples", "jitters", "max_regression_boxes"):
            if getattr(self, name) < 1:
                found.append(f"boxes.{name} must be positive")
        if not 0 <= self.shift < 1:
            found.append("boxes.shift must lie in [0, 1)")
        if not 0 <= self.scale <= 2:
            found.append("boxes.scale must lie in [0, 2]")
        if not 0 <= self.background_iou < 1:
            found.append("boxes.background_iou must lie in [0, 1)")
        return found


@dataclass(frozen=True)
class RegionHeadsConfig:
    """The three readers of pooled boxes.

    Attributes:
        k: Neighbours that vote; at most the number of training boxes.
        temperature: Of the votes (Wu et al. 2018, section 3.4).
        l2s: Penalties of the linear classifier and, relative to the mean squared feature, of the
            box regression; the best on held-out images is taken.
        held_out: Share of the training images that chooses the penalties.
        max_iterations: Largest number of L-BFGS iterations of a fit.
    """

    k: int = 20
    temperature: float = 0.07
    l2s: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 0.1, 1.0)
    held_out: float = 0.2
    max_iterations: int = 200

    def problems(self) -> list[str]:
        """Return one sentence per impossible value, without its full stop."""
        found = []
        if self.k < 1 or self.max_iterations < 1:
            found.append("heads.k and heads.max_iterations must be positive")
        if self.temperature <= 0:
            found.append("heads.temperature must be positive")
        if not self.l2s or min(self.l2s) <= 0:
            found.append("heads.l2s must be positive")
        if not 0 < self.held_out < 1:
            found.append("heads.held_out must lie in (0, 1)")
        return found


@dataclass(frozen=True)
class RegionProbeConfig:
    """All of a region probe but its backbone, data and seed."""

    protocol: str = "region-probe/v1"
    images: RegionImagesConfig = field(default_factory=RegionImagesConfig)
    boxes: BoxesConfig = field(default_factory=BoxesConfig)
    heads: RegionHeadsConfig = field(default_factory=RegionHeadsConfig)
    extraction: ExtractionConfig = field(
        default_factory=lambda: ExtractionConfig(batch_size=8, precision="bf16")
    )

    def resolved(self) -> "RegionProbeConfig":
        """Return the config itself.

        Raises:
            UserError: A value is impossible.
        """
        refuse(
            [
                *self.images.problems(),
                *self.boxes.problems(),
                *self.heads.problems(),
                *self.extraction.problems(),
            ]
        )
        return self


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
