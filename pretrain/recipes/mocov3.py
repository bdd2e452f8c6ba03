"""MoCo v3 (Chen, Xie, He 2021, "An Empirical Study of Training Self-Supervised ViTs").

Settings are the paper's (section 4 and its appendix) as facebookresearch/moco-v3
runs them (README.md, main_moco.py).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from backbones.base.sections import LATER, Conflict
from backbones.base.values import Count, CountOrZero, Layers, Positive, Probability
from backbones.training.config import OptimConfig, ScheduleConfig
from pretrain.config import MethodConfig, PretrainConfig, PretrainDataConfig, undivided_image
from pretrain.masked_config import NANO_COMPARING_SCHEDULE


@dataclass(frozen=True)
class MoCoV3Config(MethodConfig):
    """MoCo v3's own section. Defaults are those of ViT.

    Attributes:
        temperature: Divides the similarities of queries and keys.
        momentum: Momentum of the key network at the start; rises to 1 along a half cosine.
        hidden_dim: Width of the hidden layers of projector and predictor.
        output_dim: Width of queries and keys.
        projector_layers: Linear layers of the projector; the predictor has two.
        normalise_output: The predictor ends in a batch norm too; the projector always does.
        freeze_patches: A ViT's patch projection stays as it was drawn (section 4.2).
        compared: Images that are compared with each other, over all processes, which hold them at
            once; 0 for the whole batch.
    """

    temperature: Positive = 0.2
    momentum: Probability = 0.99
    hidden_dim: Count = 4096
    output_dim: Count = 256
    projector_layers: Layers = 3
    normalise_output: bool = True
    freeze_patches: bool = True
    compared: CountOrZero = field(default=0, metadata=LATER)

    def couples(self) -> str:
        """Return why the images that are held at once matter."""
        return "mocov3 compares the images that are held at once"

    def compares(self, batch_size: int) -> int:
        """Return how many images all processes hold together: a whole batch as published."""
        return self.compared or batch_size

    def conflicts_with(self, schedule: ScheduleConfig) -> Iterator[Conflict]:
        """Yield a number of compared images that does not divide the batch."""
        if self.compared and schedule.batch_size % self.compared:
            words = f"0 or a divisor of schedule.batch_size ({schedule.batch_size})"
            yield Conflict("model.compared", words)

    def conflicts_on(self, img_size: int, strides: Sequence[int]) -> Iterator[Conflict]:
        """Yield images that do not divide into a plain backbone's patches."""
        if len(strides) == 1:
            yield from undivided_image(img_size, strides[0])


def mocov3_vit_b16(epochs: float = 300) -> PretrainConfig:
    """Return MoCo v3 for ViT-B/16.

    Source: Chen et al. 2021, section 4; facebookresearch/moco-v3 README.md. To reproduce (there):
    300 epochs, linear top1 76.7, fine-tuned 83.2 (mmselfsup's rerun: 76.9 and 83.0). Cost: not
    published; two views through two networks, 35 G multiply-adds an image forward.
    """
    return PretrainConfig(
        protocol=f"mocov3/v1+{epochs:g}ep",
        method="mocov3",
        backbone="vit-b16",
        model=MoCoV3Config(),
        data=PretrainDataConfig(crop_scale=(0.08, 1.0)),
        optim=OptimConfig(base_lr=1.5e-4, betas=(0.9, 0.999), weight_decay=0.1, spared="nothing"),
        schedule=ScheduleConfig(epochs=epochs, warmup_epochs=min(40, epochs)),
    )


def mocov3_vit_s16(epochs: float = 300) -> PretrainConfig:
    """Return MoCo v3 for ViT-S/16 with 12 heads.

    Source: as ``mocov3_vit_b16``. To reproduce: 300 epochs, linear top1 73.2, fine-tuned 81.4
    (mmselfsup's rerun: linear 73.6). Cost: not published.
    """
    return replace(mocov3_vit_b16(epochs), backbone="vit-s16-h12")


# Learning rates of ResNet-50 by epochs, for 256 images a step (facebookresearch/moco-v3 README.md).
_R50_RATES = {100: 0.6, 300: 0.3, 1000: 0.3}


def mocov3_resnet50(epochs: int = 1000) -> PretrainConfig:
    """Return MoCo v3 for ResNet-50, by LARS.

    Source: Chen et al. 2021, table 1; facebookresearch/moco-v3 README.md and the defaults of
    main_moco.py. To reproduce, linear top1: 100 epochs 68.9, 300 epochs 72.8, 1000 epochs 74.6.
    Cost: not published.

    Args:
        epochs: 100, 300 or 1000, for which rates are published.
    """
    longest = epochs == 1000
    return replace(
        mocov3_vit_b16(epochs),
        backbone="resnet50",
        model=MoCoV3Config(
            temperature=1.0,
            momentum=0.996 if longest else 0.99,
            projector_layers=2,
            normalise_output=False,
        ),
        data=PretrainDataConfig(crop_scale=(0.2, 1.0)),
        optim=OptimConfig(
            optimizer="lars",
            base_lr=_R50_RATES[epochs],
            betas=(0.9, 0.0),
            weight_decay=1.5e-6 if longest else 1e-6,
        ),
        schedule=ScheduleConfig(epochs=epochs, warmup_epochs=10),
    )


def mocov3_nano(backbone: str = "vit-nano") -> PretrainConfig:
    """Return MoCo v3 for the mini data: a nano backbone, minutes on two CPU cores.

    No published score. The whole batch is held at once, since negatives are those of a micro-batch;
    the rate is higher and the warm-up shorter, the steps being few. Crops are not as small as on
    ImageNet, so that two views of one image show the same thing.
    """
    return PretrainConfig(
        protocol="mocov3/v1+nano",
        method="mocov3",
        backbone=backbone,
        model=MoCoV3Config(hidden_dim=256, output_dim=64),
        data=PretrainDataConfig(img_size=64, crop_scale=(0.2, 1.0)),
        optim=OptimConfig(base_lr=1.5e-3, betas=(0.9, 0.999), weight_decay=0.1, spared="nothing"),
        schedule=NANO_COMPARING_SCHEDULE,
    )


RECIPES: dict[str, Callable[[], PretrainConfig]] = {
    "mocov3-nano": mocov3_nano,
    "mocov3-resnet-nano": partial(mocov3_nano, "resnet-nano"),
    "mocov3-vit-s16-300ep": mocov3_vit_s16,
    "mocov3-vit-b16-300ep": mocov3_vit_b16,
    **{f"mocov3-resnet50-{n}ep": partial(mocov3_resnet50, n) for n in _R50_RATES},
}
