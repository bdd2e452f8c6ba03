"""Recipes of classification with few labels."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated

from msgspec import Meta

from backbones.base.sections import Recipe, Section
from backbones.base.values import Count, Name, Positive
from benchmarks.labelled.config import MINI_DATA, CentralViewConfig, ExtractionConfig, FeatureKind

# Shares of the labels, as published since SimCLR (Chen et al. 2020, section 6), by metric.
SHARES: Mapping[str, float] = {"lowshot1": 0.01, "lowshot10": 0.1}


@dataclass(frozen=True)
class RegressionConfig(Section):
    """Multinomial logistic regression on standardised features, to convergence.

    Attributes:
        features: Kind of features that are classified.
        l2s: Penalties on half the squared weights, beside the mean cross-entropy; the best is
            found by cross-validation on the labelled images.
        folds: Largest number of folds of the cross-validation; each class has images in each.
        l2_alone: The penalty where some class has a single labelled image, so that nothing can be
            cross-validated.
        max_iterations: Largest number of iterations of L-BFGS.
    """

    features: FeatureKind = "pooled"
    l2s: Annotated[tuple[Positive, ...], Meta(min_length=1)] = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0)
    folds: Annotated[int, Meta(ge=2)] = 3
    l2_alone: Positive = 0.1
    max_iterations: Count = 300


@dataclass(frozen=True)
class LowshotConfig(Recipe):
    """Classification of the test images from 1 % and from 10 % of the labels."""

    protocol: Name = "lowshot-logistic/v1"
    data: CentralViewConfig = field(default_factory=CentralViewConfig)
    extraction: ExtractionConfig = field(default_factory=ExtractionConfig)
    regression: RegressionConfig = field(default_factory=RegressionConfig)


def lowshot() -> LowshotConfig:
    """Logistic regression on 1 % and 10 % of the labels, as MSN and DINOv2 report it in spirit.

    Assran et al. 2022 (MSN, section 4.1) fix the penalty by hand; here the labelled images choose
    it, so that no backbone is favoured. Labelled are the images that ``1percent.txt`` and
    ``10percent.txt`` beside ``train`` list (google-research/simclr ``imagenet_subsets``), else a
    share of each class drawn by the seed.
    """
    return LowshotConfig()


def lowshot_mini() -> LowshotConfig:
    """The same on views of 64 pixels, for the embedded mini data."""
    return LowshotConfig(protocol="lowshot-logistic-mini/v1", data=MINI_DATA)


LOWSHOT_RECIPES: Mapping[str, Callable[[], LowshotConfig]] = {
    "lowshot": lowshot,
    "lowshot-mini": lowshot_mini,
}
