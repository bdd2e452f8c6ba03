"""What the configs of masked image methods have in common."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from backbones.base.sections import Conflict
from backbones.base.values import Count, Inside01
from backbones.training.config import ScheduleConfig
from pretrain.config import MethodConfig, undivided_image

Distance = Literal["l2", "l1"]
Pairing = Literal["per_image", "batch_shared"]
Sampling = Literal["random", "block", "grid"]
Target = Literal["norm_pixels", "pixels", "pca"]


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

    mask_ratio: Inside01 = 0.75
    sampling: Sampling = "random"
    target: Target = "norm_pixels"
    num_components: Count = 96
    augmentation: Literal["crop", "crop_color", "fixed_crop", "none"] = "crop"

    def conflicts_on(self, img_size: int, strides: Sequence[int]) -> Iterator[Conflict]:
        """Yield images that do not divide into patches, and a share that masks all or none."""
        yield from undivided_image(img_size, strides[0])
        length = self.window_patches(img_size // strides[0])
        if length and not 0 < self.visible_patches(length) < length:
            words = f"a share that leaves some of {length} patches visible and masks some"
            yield Conflict("model.mask_ratio", words)

    def window_patches(self, side: int) -> int:
        """Return the number of patches that are masked together; 0 where no window fits.

        Args:
            side: Of the image in patches.
        """
        return side**2

    def visible_patches(self, length: int) -> int:
        """Return how many of ``length`` patches stay visible."""
        return num_visible(length, self.mask_ratio)


def num_visible(length: int, mask_ratio: float) -> int:
    """Return how many of ``length`` patches MAE keeps: ``int(length * (1 - ratio))``."""
    return int(length * (1 - mask_ratio))


def num_masked(length: int, mask_ratio: float) -> int:
    """Return how many of ``length`` patches LoMaR masks: ``int(length * ratio)``."""
    return int(length * mask_ratio)


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
