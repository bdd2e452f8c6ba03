"""Recipes of classification with few labels."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from benchmarks.labelled.config import MINI_DATA, CentralViewConfig, ExtractionConfig, refuse

# Shares of the labels, as published since SimCLR (Chen et al. 2020, section 6), by metric.
SHARES: Mapping[str, float] = {"lowshot1": 0.01, "lowshot10": 0.1}


@dataclass(frozen=True)
class RegressionConfig:
    """Multinomial logistic regression on standardised features, to convergence.

    Attributes:
        features: Kind of features, see ``imagenet.features``.
        l2s: Penalties on half the squared weights, beside the mean cross-entropy; the best is
            found by cross-validation on the labelled images.
        folds: Of the cross-validation, at most; a class has images in each.
        l2_alone: The penalty where some class has a single labelled image, so that nothing can be
            cross-validated.
        max_iterations: Of L-BFGS.
    """

    features: str = "pooled"
    l2s: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0)
    folds: int = 3
    l2_alone: float = 0.1
    max_iterations: int = 300


@dataclass(frozen=True)
class LowshotConfig:
    """Classification of the test images from 1 % and from 10 % of the labels."""

    protocol: str = "lowshot-logistic/v1"
    data: CentralViewConfig = field(default_factory=CentralViewConfig)
    extraction: ExtractionConfig = field(default_factory=ExtractionConfig)
    regression: RegressionConfig = field(default_factory=RegressionConfig)

    def resolved(self) -> "LowshotConfig":
        """Return the config itself.

        Raises:
            UserError: A value is impossible.
        """
        own = self.regression
        problems = [*self.data.problems(), *self.extraction.problems()]
        if not own.l2s or min(*own.l2s, own.l2_alone) <= 0:
            problems.append("regression.l2s and regression.l2_alone must be positive")
        if own.folds < 2:
            problems.append("regression.folds must be at least 2")
        if own.max_iterations < 1:
            problems.append("regression.max_iterations must be positive")
        refuse(problems)
        return self


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
