"""What the configs of masked image methods have in common."""

from dataclasses import dataclass, replace

from backbones.training.config import ScheduleConfig
from pretrain.config import MethodConfig

SAMPLINGS = ("random", "block", "grid")
TARGETS = ("norm_pixels", "pixels", "pca")
DISTANCES = ("l2", "l1")
PAIRINGS = ("per_image", "batch_shared")
AUGMENTATIONS = ("crop", "crop_color", "fixed_crop", "none")


@dataclass(frozen=True)
class MaskedConfig(MethodConfig):
    """Masks, targets and augmentation. Defaults are MAE's.

    Attributes:
        mask_ratio: Share of the patches that is masked.
        sampling: "random", "block" (BEiT's rectangles) or "grid" (of every 2 x 2 patches one is
            kept); MAE, figure 6 and table 1f.
        target: "norm_pixels" (normalised within each patch), "pixels" or "pca"; MAE, table 1d.
        num_components: Principal components of "pca".
        augmentation: "crop" (random size, flip), "crop_color" (and colour jitter), "fixed_crop"
            (fixed size, flip) or "none" (central crop); MAE, table 1e.
    """

    mask_ratio: float = 0.75
    sampling: str = "random"
    target: str = "norm_pixels"
    num_components: int = 96
    augmentation: str = "crop"

    def problems(self) -> list[str]:
        """Return one sentence per impossible value."""
        found = [
            one_of("model.sampling", self.sampling, SAMPLINGS),
            one_of("model.target", self.target, TARGETS),
            one_of("model.augmentation", self.augmentation, AUGMENTATIONS),
            inside("model.mask_ratio", self.mask_ratio),
            at_least("model.num_components", self.num_components, 1),
        ]
        return [problem for problem in found if problem]


def one_of(name: str, value: str, choices: tuple[str, ...]) -> str:
    """Return what is wrong with a choice, or nothing."""
    if value in choices:
        return ""
    return f"{name} is {value!r}, it can be one of {', '.join(map(repr, choices))}"


def inside(name: str, value: float) -> str:
    """Return what is wrong with a share that must lie strictly between 0 and 1, or nothing."""
    return "" if 0 < value < 1 else f"{name} must lie between 0 and 1, not at {value:g}"


def at_least(name: str, value: int, least: int) -> str:
    """Return what is wrong with a count, or nothing."""
    return "" if value >= least else f"{name} must be at least {least}, not {value}"


# 1,500 pictures for minutes on two CPU cores: small batches, since steps are what counts. With 16
# instead of 64 pictures a step, MAE's loss ends at 0.59 instead of 0.62, and the cross-entropy of
# a supervised ViT (which had mixup then) at 0.9 instead of 1.7.
NANO_SCHEDULE = ScheduleConfig(
    epochs=40,
    batch_size=16,
    batch_size_per_device=16,
    warmup_epochs=2,
    precision="fp32",
    checkpoint_epochs=0,
    state_images=5_000,
)

# Where a batch is also what a picture is compared with, or what centres are estimated from.
NANO_COMPARING_SCHEDULE = replace(NANO_SCHEDULE, batch_size=64, batch_size_per_device=64)
