"""Recipes of the k-NN classification."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from benchmarks.labelled.config import MINI_DATA, CentralViewConfig, ExtractionConfig, refuse


@dataclass(frozen=True)
class VoteConfig:
    """Weighted k-NN; the defaults are facebookresearch/dino ``eval_knn.py``'s.

    Attributes:
        features: Kind of features that the headline is taken with, see ``imagenet.features``.
        k: Neighbours that the headline is taken with.
        ks: Numbers of neighbours that are tried.
        temperature: Of the votes.
    """

    features: str = "pooled"
    k: int = 20
    ks: tuple[int, ...] = (10, 20, 100, 200)
    temperature: float = 0.07


@dataclass(frozen=True)
class KnnConfig:
    """A k-NN classification of the test images by the training images."""

    protocol: str = "knn/v1"
    data: CentralViewConfig = field(default_factory=CentralViewConfig)
    extraction: ExtractionConfig = field(default_factory=ExtractionConfig)
    vote: VoteConfig = field(default_factory=VoteConfig)

    def resolved(self) -> "KnnConfig":
        """Return the config itself.

        Raises:
            UserError: A value is impossible.
        """
        problems = [*self.data.problems(), *self.extraction.problems()]
        if not self.vote.ks or min(self.vote.ks) < 1:
            problems.append("vote.ks must hold positive numbers")
        if self.vote.k not in self.vote.ks:
            problems.append(f"vote.k = {self.vote.k} must be one of vote.ks")
        if self.vote.temperature <= 0:
            problems.append("vote.temperature must be positive")
        refuse(problems)
        return self


def knn() -> KnnConfig:
    """k-NN as facebookresearch/dino and microsoft/esvit ``eval_knn.py`` report it.

    DINO ViT-S/16 reaches 74.5 on ImageNet (its README), EsViT Swin-T/W7 75.7. The cost is that of
    one forward pass over both splits.
    """
    return KnnConfig()


def knn_mini() -> KnnConfig:
    """k-NN in seconds, on views of 64 pixels, for the embedded mini data."""
    return KnnConfig(protocol="knn-mini/v1", data=MINI_DATA)


KNN_RECIPES: Mapping[str, Callable[[], KnnConfig]] = {"knn": knn, "knn-mini": knn_mini}
