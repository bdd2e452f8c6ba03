"""Sections of the recipes that look at single regions of test images."""

from dataclasses import dataclass, field

from benchmarks.labelled.config import CentralViewConfig, ExtractionConfig, refuse
from benchmarks.task import Facts, Workload


@dataclass(frozen=True)
class LookConfig:
    """What is measured, and shown.

    Attributes:
        num_pairs: Correspondence: the surest pairs of an image, which alone count.
        num_images: Test images that are looked at, evenly spread; 0 for all.
        num_pictures: Of these images, so many are drawn.
    """

    num_pairs: int = 10
    num_images: int = 0
    num_pictures: int = 6


@dataclass(frozen=True)
class RegionConfig:
    """A look at single regions of test images in the central view."""

    protocol: str = "correspondence-esvit/v1"
    data: CentralViewConfig = field(default_factory=CentralViewConfig)
    extraction: ExtractionConfig = field(default_factory=ExtractionConfig)
    look: LookConfig = field(default_factory=LookConfig)

    def resolved(self) -> "RegionConfig":
        """Return the config itself.

        Raises:
            UserError: A value is impossible.
        """
        problems = [*self.data.problems(), *self.extraction.problems()]
        if self.look.num_pairs < 1:
            problems.append("look.num_pairs must be positive")
        if min(self.look.num_images, self.look.num_pictures) < 0:
            problems.append("look.num_images and look.num_pictures must not be negative")
        refuse(problems)
        return self


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
