"""LoMaR, and its windows under other methods' targets.

Chen et al. 2022: "Efficient Self-supervised Vision Pretraining with Local Masked Reconstruction".
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from backbones.base.sections import Conflict
from backbones.base.values import Count, CountOrZero, Inside01
from backbones.training.config import OptimConfig, ScheduleConfig
from pretrain.config import PretrainConfig, PretrainDataConfig
from pretrain.masked_config import NANO_SCHEDULE, Distance, MaskedConfig, Pairing, num_masked


@dataclass(frozen=True)
class LoMaRConfig(MaskedConfig):
    """LoMaR's own section. Defaults are the paper's at 224.

    Attributes:
        mask_ratio: Share of a window's patches that is masked; 39 of 49 by default.
        window_size: Side of a window in patches; 0 makes the whole image one window, which turns
            local masking off.
        num_windows: Windows an image; 1 if ``window_size`` is 0.
        windows: "per_image" as the paper describes them, or "batch_shared" as the released code
            computes them (``parts.windows.pair_windows``).
        distance: "l2" as LoMaR and MAE, or "l1" as SimMIM.
    """

    mask_ratio: Inside01 = 0.8
    window_size: CountOrZero = 7
    num_windows: Count = 4
    windows: Pairing = "per_image"
    distance: Distance = "l2"

    def couples(self) -> str:
        """Return why the images that are held at once matter: they may share their windows."""
        if self.windows == "per_image":
            return ""
        return 'with model.windows "batch_shared", images that are held at once share their windows'

    def conflicts_on(self, img_size: int, strides: Sequence[int]) -> Iterator[Conflict]:
        """Yield what ``MaskedConfig`` does, and a window that is larger than the image."""
        yield from super().conflicts_on(img_size, strides)
        side = img_size // strides[0]
        if self.window_size > side:
            words = f"a side of at most {side} patches, that of the image, or 0"
            yield Conflict("model.window_size", words)

    def window_patches(self, side: int) -> int:
        """Return the number of patches of a window; 0 where none fits."""
        return (self.window_size or side) ** 2 if self.window_size <= side else 0

    def visible_patches(self, length: int) -> int:
        """Return how many of a window's patches stay visible."""
        return length - num_masked(length, self.mask_ratio)


def lomar_vit_b16(epochs: float = 400, img_size: int = 224) -> PretrainConfig:
    """Return LoMaR for ViT-B/16.

    Source: Chen et al. 2022, section 4; junchen14/LoMaR README (400 epochs, 20 of them warm-up).
    To reproduce, 1600 epochs at 224: fine-tuned top1 84.1, at 384 85.4 (abstract). Other sizes:
    the windows stay as they are, four an image; no score is published. Cost: not published; 17.5 G
    multiply-adds an image forward at every size, where MAE has 9.8 at 224 and 43 at 448.
    """
    variant = "" if img_size == 224 else f"+{img_size}px"
    return PretrainConfig(
        protocol=f"lomar/v1+{epochs:g}ep{variant}",
        method="lomar",
        backbone="lomar-vit-b16",
        model=LoMaRConfig(),
        data=PretrainDataConfig(img_size=img_size),
        schedule=ScheduleConfig(epochs=epochs, warmup_epochs=min(20, epochs)),
    )


def lomar_vit_b16_released(epochs: float = 1600) -> PretrainConfig:
    """Return ``lomar_vit_b16`` with windows shared by the batch, as the released weights had them.

    Source: junchen14/LoMaR models_lomar.py; 4 devices with 256 images each at a time, so that
    every image sees one window under four masks. To reproduce: fine-tuned top1 84.1 (README).
    """
    config = lomar_vit_b16(epochs)
    return replace(
        config,
        protocol=f"lomar-released/v1+{epochs:g}ep",
        model=LoMaRConfig(windows="batch_shared"),
        schedule=replace(config.schedule, batch_size_per_device=256),
    )


def masked_vit_b16(epochs: float = 800, *, local: bool = True) -> PretrainConfig:
    """Return masked tokens kept and raw pixels regressed by L1, as SimMIM, on a plain ViT-B/16.

    ``local`` does it in LoMaR's windows, else over the whole image with SimMIM's mask ratio of .6
    and BEiT's blocks: the pair that the claim of LoMaR's section 5, local reconstruction helps
    other generative methods too, is tested with. No published score. Cost: as ``lomar_vit_b16``
    and about the same for the whole image.
    """
    model = LoMaRConfig(target="pixels", distance="l1")
    if not local:
        model = replace(model, mask_ratio=0.6, window_size=0, num_windows=1, sampling="block")
    return PretrainConfig(
        protocol=f"masked-{'local' if local else 'global'}/v1+{epochs:g}ep",
        method="lomar",
        backbone="vit-b16",
        model=model,
        schedule=ScheduleConfig(epochs=epochs, warmup_epochs=min(40, epochs)),
    )


def lomar_nano() -> PretrainConfig:
    """Return LoMaR for the mini data: ViT nano, minutes on two CPU cores. No published score.

    Windows cover half the side of the grid, as 7 of 14 do; the backbone keeps its absolute
    positions, so that it is the same network as its random and MAE twins.
    """
    return PretrainConfig(
        protocol="lomar/v1+nano",
        method="lomar",
        backbone="vit-nano",
        model=LoMaRConfig(window_size=4),
        data=PretrainDataConfig(img_size=64),
        optim=OptimConfig(base_lr=1.6e-2),
        schedule=NANO_SCHEDULE,
    )


RECIPES: dict[str, Callable[[], PretrainConfig]] = {
    "lomar-nano": lomar_nano,
    "lomar-vit-b16-400ep": partial(lomar_vit_b16, 400),
    "lomar-vit-b16-1600ep": partial(lomar_vit_b16, 1600),
    "lomar-vit-b16-384px-400ep": partial(lomar_vit_b16, 400, 384),
    "lomar-vit-b16-448px-400ep": partial(lomar_vit_b16, 400, 448),
    "lomar-vit-b16-released-1600ep": lomar_vit_b16_released,
    "masked-local-vit-b16-800ep": masked_vit_b16,
    "masked-global-vit-b16-800ep": partial(masked_vit_b16, local=False),
}
