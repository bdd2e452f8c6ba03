"""What a pretraining run is made of: frozen sections of plain values.

A component takes its own section. Sizes are pixels, rates are shares of 1. Learning rates are those
of ``optim.reference_batch_size`` images a step; ``OptimConfig.scaled`` gives a run's own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated

from backbones.base.sections import Conflict, Recipe, Section, refuse_conflicts
from backbones.base.values import (
    Count,
    CountOrZero,
    Name,
    PositiveRange,
    Probability,
    Rule,
    Share,
    ShareRange,
)
from backbones.spec import BackboneSpec
from backbones.training.config import OptimConfig, RuntimeConfig, ScheduleConfig
from backbones.training.held import HAS_STATISTICS, Held


@dataclass(frozen=True)
class MethodConfig(Section):
    """Base of each method's own section: objective and views. Derived ones live in recipes/."""

    def conflicts_with(self, schedule: ScheduleConfig) -> Iterator[Conflict]:
        """Yield values that do not go with a schedule; names start at the recipe."""
        del schedule
        yield from ()

    def conflicts_on(self, img_size: int, strides: Sequence[int]) -> Iterator[Conflict]:
        """Yield values that do not go with a backbone; names start at the recipe.

        Args:
            img_size: Side of the images in pixels.
            strides: Of the backbone's maps, finest first; one for a plain backbone.
        """
        del img_size, strides
        yield from ()

    def couples(self) -> str:
        """Return why a loss depends on which images are held at once, as a clause; else nothing."""
        return ""

    def compares(self, batch_size: int) -> int:
        """Return how many images all processes hold together, to compare them; 0 if they do not.

        Args:
            batch_size: Images a step over all processes.
        """
        del batch_size
        return 0

    def mixes(self) -> bool:
        """Return whether images are mixed with others of their micro-batch."""
        return False

    def for_one_epoch(self) -> "MethodConfig":
        """Return the section for a run of one epoch, with every part of the objective in use."""
        return self


_NumClasses = Annotated[CountOrZero, Rule("other than 1", lambda number: number != 1)]


@dataclass(frozen=True)
class PretrainDataConfig(Section):
    """Which images are used, and the crop that every method begins with. Defaults are MAE's.

    Attributes:
        img_size: Side of the (global) crop, and what tables of positions are made for.
        crop_scale: Range of the crop's area as a share of the image's.
        crop_ratio: Range of the crop's width divided by its height.
        flip: Probability of a horizontal flip.
        max_corrupt: Largest number of unreadable images; one more stops the run.
        fraction: Share of the images that is used, chosen by the run's seed.
        num_classes: Number of classes of the images; 0 takes it from the data, if they have any.
    """

    img_size: Count = 224
    crop_scale: ShareRange = (0.2, 1.0)
    crop_ratio: PositiveRange = (3 / 4, 4 / 3)
    flip: Probability = 0.5
    max_corrupt: CountOrZero = 100
    fraction: Share = 1.0
    num_classes: _NumClasses = 0


@dataclass(frozen=True)
class PretrainConfig(Recipe):
    """A pretraining run, except for its images and seed.

    Attributes:
        protocol: Family, version and variant, for instance "mae/v1+800ep".
        method: Name of the file in ``pretrain/methods``; chosen with the recipe, never typed.
        backbone: Name of the backbone that the recipe is made for; any other that fits will do.
        model: The method's own section.
        data: Images and the first crop.
        optim: The optimizer.
        schedule: Length, batches and precision.
        runtime: How the work is done.
    """

    protocol: Name
    method: Name = field(metadata={"chosen": True})
    backbone: Name
    model: MethodConfig
    data: PretrainDataConfig = field(default_factory=PretrainDataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)

    def conflicts(self) -> Iterator[Conflict]:
        """Yield values of the method that do not go with the schedule, and a rate that rises."""
        yield from self.model.conflicts_with(self.schedule)
        optim, batch_size = self.optim, self.schedule.batch_size
        peak = optim.base_lr if optim.scale_min_lr else optim.scaled(batch_size)
        if self.schedule.decay == "cosine" and optim.min_lr > peak:
            words = f"a number of at most the learning rate after warm-up ({peak:g})"
            yield Conflict("optim.min_lr", words)

    def held(self, spec: BackboneSpec) -> Held:
        """Return how many images a device may hold at once without changing the results.

        Args:
            spec: The network.
        """
        fixed = self.model.couples() or (spec.name + HAS_STATISTICS if spec.batch_norm else "")
        return Held(
            self.schedule.batch_size_per_device,
            fixed,
            whole=self.model.mixes(),
            compared=self.model.compares(self.schedule.batch_size),
        )

    def refuse_on(self, strides: Sequence[int]) -> None:
        """Refuse values that do not go with a backbone, before anything is built.

        Args:
            strides: Of the backbone's maps, finest first.

        Raises:
            UserError: Names all of them.
        """
        refuse_conflicts(self, self.model.conflicts_on(self.data.img_size, strides))


def undivided_image(img_size: int, side: int) -> Iterator[Conflict]:
    """Yield the size of images that do not divide into squares.

    Args:
        img_size: Side of the images in pixels.
        side: Of the squares in pixels.
    """
    if img_size % side:
        yield Conflict("data.img_size", f"a multiple of {side}, the backbone's patch size")
