"""Sections of the recipes that look at single regions of test images."""

from dataclasses import dataclass, field

from backbones.base.sections import Recipe, Section
from backbones.base.values import Count, CountOrZero, Name
from benchmarks.labelled.config import CentralViewConfig, ExtractionConfig
from benchmarks.task import Facts, Workload


@dataclass(frozen=True)
class LookConfig(Section):
    """What is measured, and shown.

    Attributes:
        num_pairs: Correspondence: number of most certain pairs of an image; only these count.
        num_images: Test images that are looked at, evenly spread; 0 for all.
        num_pictures: Number of these images that are drawn.
    """

    num_pairs: Count = 10
    num_images: CountOrZero = 0
    num_pictures: CountOrZero = 6


@dataclass(frozen=True)
class RegionConfig(Recipe):
    """A look at single regions of test images in the central view."""

    protocol: Name = "correspondence-esvit/v1"
    data: CentralViewConfig = field(default_factory=CentralViewConfig)
    extraction: ExtractionConfig = field(default_factory=ExtractionConfig)
    look: LookConfig = field(default_factory=LookConfig)


def look_workload(
    config: RegionConfig, facts: Facts, limit_images: int | None, views: int
) -> Workload:
    """Return what a recipe comes to, in forward passes.

    Args:
        config: The recipe.
        facts: Of the data.
        limit_images: Of each split, None for all.
        views: Of each image.
    """
    count = min(facts.num_test, limit_images or facts.num_test)
    count = min(count, config.look.num_images or count)
    size = config.extraction.batch_size
    steps = views * -(-count // size)
    return Workload(
        protocol=config.protocol,
        precision=config.extraction.precision,
        batch_size=size,
        num_steps=steps,
        num_images=steps * size,
    )
