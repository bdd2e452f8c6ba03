"""Recipes of the k-NN classification."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated

from msgspec import Meta

from backbones.base.sections import Conflict, Recipe, Section
from backbones.base.values import Count, Name, Positive
from benchmarks.labelled.config import MINI_DATA, CentralViewConfig, ExtractionConfig, FeatureKind


@dataclass(frozen=True)
class VoteConfig(Section):
    """Weighted k-NN; the defaults are facebookresearch/dino ``eval_knn.py``'s.

    Attributes:
        features: Kind of features that the headline is taken with.
        k: Number of neighbours that the headline is taken with.
        ks: Numbers of neighbours that are tried.
        temperature: Temperature of the votes: weights are exp(similarity / temperature).
    """

    features: FeatureKind = "pooled"
    k: Count = 20
    ks: Annotated[tuple[Count, ...], Meta(min_length=1)] = (10, 20, 100, 200)
    temperature: Positive = 0.07


@dataclass(frozen=True)
class KnnConfig(Recipe):
    """A k-NN classification of the test images by the training images."""

    protocol: Name = "knn/v1"
    data: CentralViewConfig = field(default_factory=CentralViewConfig)
    extraction: ExtractionConfig = field(default_factory=ExtractionConfig)
    vote: VoteConfig = field(default_factory=VoteConfig)

    def conflicts(self) -> Iterator[Conflict]:
        """Yield a headline that is not among the numbers of neighbours that are tried."""
        if self.vote.k not in self.vote.ks:
            yield Conflict("vote.k", f"one of vote.ks ({', '.join(map(str, self.vote.ks))})")


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
