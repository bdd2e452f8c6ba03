"""What a pretraining run is made of: frozen sections of plain values.

A component takes its own section. Sizes are pixels, rates are shares of 1. Learning rates are those
of ``optim.reference_batch_size`` images a step; ``OptimConfig.scaled`` gives a run's own.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import isnan
from typing import Any

from backbones.base.errors import UserError
from backbones.training.config import (
    CLIPS,
    DECAYS,
    OPTIMIZERS,
    PRECISIONS,
    SPARED,
    OptimConfig,
    RuntimeConfig,
    ScheduleConfig,
)


@dataclass(frozen=True)
class MethodConfig:
    """Base of each method's own section: objective and views. Derived ones live in recipes/."""

    def problems(self) -> list[str]:
        """Return one sentence per impossible value, without its full stop."""
        return []

    def problems_beside(self, schedule: "ScheduleConfig") -> list[str]:
        """Return likewise what is impossible beside a schedule alone."""
        del schedule
        return []

    def for_one_epoch(self) -> "MethodConfig":
        """Return the section for a run of one epoch: what joins in later is there at once."""
        return self


@dataclass(frozen=True)
class PretrainDataConfig:
    """Which images are used, and the crop that every method begins with. Defaults are MAE's.

    Attributes:
        img_size: Side of the (global) crop, and what tables of positions are made for.
        crop_scale: Range of the crop's area as a share of the image's.
        crop_ratio: Range of its width to height.
        flip: Probability of a horizontal flip.
        max_corrupt: So many different images may be unreadable before the run stops.
        fraction: Share of the images that is used, chosen by the run's seed.
        num_classes: Of the images; 0 is filled in from the data where they have classes.
    """

    img_size: int = 224
    crop_scale: tuple[float, float] = (0.2, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    max_corrupt: int = 100
    fraction: float = 1.0
    num_classes: int = 0


@dataclass(frozen=True)
class PretrainConfig:
    """All of a pretraining run but its images and seed.

    Attributes:
        protocol: Family, version and variant, for instance "mae/v1+800ep".
        method: Name of the file in ``pretrain/methods``.
        backbone: Name of the backbone that the recipe is made for; any other that fits will do.
        model: The method's own section.
        data: Images and the first crop.
        optim: The optimizer.
        schedule: Length, batches and precision.
        runtime: How the work is done.
    """

    protocol: str
    method: str
    backbone: str
    model: MethodConfig
    data: PretrainDataConfig = field(default_factory=PretrainDataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)

    def resolved(self) -> "PretrainConfig":
        """Check every value.

        Raises:
            UserError: A value is impossible, alone or beside another; names it.
        """
        problems = [
            *_choices(self),
            *_ranges(self),
            *_lengths(self),
            *self.model.problems(),
            *self.model.problems_beside(self.schedule),
        ]
        for problem in problems:
            raise UserError(f"{problem}; change it with --set.")
        return self


def as_plain(config: PretrainConfig) -> dict[str, Any]:
    """Return a config as plain values for JSON."""
    return asdict(config)


def from_plain(values: Mapping[str, Any], model_type: type[MethodConfig]) -> PretrainConfig:
    """Return the config that ``as_plain`` gave, also after a way through JSON.

    Args:
        values: By field name, sections as mappings.
        model_type: Type of the method's own section.

    Raises:
        TypeError: The fields are not those of this code.
    """
    sections = {
        "model": model_type,
        "data": PretrainDataConfig,
        "optim": OptimConfig,
        "schedule": ScheduleConfig,
        "runtime": RuntimeConfig,
    }
    restored = {name: kind(**_tupled(values[name])) for name, kind in sections.items()}
    return PretrainConfig(**{**values, **restored})


def _tupled(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a section's values as they were before JSON, which knows no tuples."""
    return {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}


def _choices(config: PretrainConfig) -> list[str]:
    allowed = [
        ("optim.optimizer", config.optim.optimizer, OPTIMIZERS),
        ("optim.spared", config.optim.spared, SPARED),
        ("optim.clip", config.optim.clip, CLIPS),
        ("schedule.decay", config.schedule.decay, DECAYS),
        ("schedule.precision", config.schedule.precision, PRECISIONS),
    ]
    return [
        f"{name} is {value!r}, it can be one of {', '.join(map(repr, choices))}"
        for name, value, choices in allowed
        if value not in choices
    ]


def _ranges(config: PretrainConfig) -> list[str]:
    data, optim = config.data, config.optim
    wrong = [
        ("data.img_size must be at least 1", data.img_size < 1),
        ("data.crop_scale must rise within (0, 1]", not _rising(data.crop_scale, 1.0)),
        ("data.crop_ratio must rise from above 0", not _rising(data.crop_ratio)),
        ("data.flip must lie in [0, 1]", not 0 <= data.flip <= 1),
        ("data.max_corrupt must be at least 0", data.max_corrupt < 0),
        ("data.fraction must lie in (0, 1]", not 0 < data.fraction <= 1),
        ("data.num_classes must be at least 0", data.num_classes < 0),
        ("optim.base_lr must be above 0", not optim.base_lr > 0),
        ("optim.reference_batch_size must be at least 1", optim.reference_batch_size < 1),
        ("optim.warmup_base_lr must be at least 0", not optim.warmup_base_lr >= 0),
        ("optim.min_lr must be at least 0", not optim.min_lr >= 0),
        ("optim.betas must lie in [0, 1)", not all(0 <= beta < 1 for beta in optim.betas)),
        ("optim.eps must be at least 0", not optim.eps >= 0),
        ("optim.weight_decay must be at least 0", not optim.weight_decay >= 0),
        ("optim.weight_decay_end must be a number", isnan(optim.weight_decay_end)),
        ("optim.clip_norm must be above 0", optim.clip != "none" and not optim.clip_norm > 0),
    ]
    return [text for text, is_wrong in wrong if is_wrong]


def _lengths(config: PretrainConfig) -> list[str]:
    schedule, runtime = config.schedule, config.runtime
    wrong = [
        ("schedule.epochs must be above 0", not schedule.epochs > 0),
        ("schedule.batch_size must be at least 1", schedule.batch_size < 1),
        ("schedule.batch_size_per_device must be at least 1", schedule.batch_size_per_device < 1),
        (
            f"schedule.batch_size {schedule.batch_size} must be a multiple of "
            f"schedule.batch_size_per_device {schedule.batch_size_per_device}",
            bool(schedule.batch_size % max(1, schedule.batch_size_per_device)),
        ),
        (
            "schedule.warmup_epochs must lie in [0, schedule.epochs]",
            not 0 <= schedule.warmup_epochs <= schedule.epochs,
        ),
        (
            "schedule.decay 'step' needs schedule.drop_epochs",
            schedule.decay == "step" and not schedule.drop_epochs,
        ),
        (
            f"schedule.drop_epochs has no effect with schedule.decay {schedule.decay!r}: it must "
            "be [], or the decay 'step'",
            schedule.decay != "step" and bool(schedule.drop_epochs),
        ),
        ("schedule.state_images must be at least 1", schedule.state_images < 1),
        ("schedule.checkpoint_epochs must be at least 0", schedule.checkpoint_epochs < 0),
        ("runtime.read_every must be at least 1", runtime.read_every < 1),
        ("runtime.picture_every must be at least 0", runtime.picture_every < 0),
    ]
    return [text for text, is_wrong in wrong if is_wrong]


def _rising(values: tuple[float, float], largest: float = float("inf")) -> bool:
    return 0 < values[0] <= values[1] <= largest
