"""Recipes of partial fine-tuning."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated

from msgspec import Meta

from backbones.base.values import DISTINCT
from benchmarks.labelled.tuning.config import ALL_BLOCKS, Blocks, FinetuneConfig
from benchmarks.tasks.finetune.recipes import finetune_mini, finetune_vit_l16


@dataclass(frozen=True)
class PartialConfig(FinetuneConfig):
    """Fine-tunings that differ in the number of trained blocks.

    Attributes:
        blocks: Numbers of trained last blocks, as in ``tune.blocks``; those that a backbone does
            not have are left out.
    """

    blocks: Annotated[tuple[Blocks, ...], Meta(min_length=1), DISTINCT] = field(
        default=(0.0, 0.5, 1.0, 2.0, 4.0, 6.0, 12.0, 18.0, -1.0)
    )

    def of(self, blocks: float) -> FinetuneConfig:
        """Return the fine-tuning with so many trained blocks."""
        names = ("data", "model", "optim", "schedule", "runtime")
        shared = {name: getattr(self, name) for name in names}
        tune = replace(self.tune, blocks=blocks)
        return FinetuneConfig(protocol=self.protocol, tune=tune, **shared)

    def numbers(self, num_layers: int) -> list[float]:
        """Return the numbers of trained blocks that a backbone has, all of them last."""
        fitting = sorted(n for n in self.blocks if 0 <= n < num_layers)
        whole = [ALL_BLOCKS] if max(self.blocks) >= num_layers or ALL_BLOCKS in self.blocks else []
        return fitting + whole


def partial() -> PartialConfig:
    """Return the partial fine-tuning of ViT-L.

    Source: He et al. 2022, figure 9 and section 4.3. To reproduce (read from the text): top1 73.5
    with no block, 79.1 with half of one, 81.0 with one. The recipe of each point is not published;
    here all have that of the whole fine-tuning. Cost: up to nine fine-tunings.
    """
    return _from(finetune_vit_l16(), "partial/v1")


def partial_mini() -> PartialConfig:
    """Return the same for the mini data and nano backbones: five points, minutes."""
    config = _from(finetune_mini(), "partial-mini/v2")
    return replace(config, blocks=(0.0, 0.5, 1.0, 2.0, -1.0))


def _from(config: FinetuneConfig, protocol: str) -> PartialConfig:
    names = ("data", "tune", "model", "optim", "schedule", "runtime")
    return PartialConfig(protocol=protocol, **{name: getattr(config, name) for name in names})


PARTIAL_RECIPES: Mapping[str, Callable[[], PartialConfig]] = {
    "partial": partial,
    "partial-mini": partial_mini,
}
