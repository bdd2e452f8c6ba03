"""RotNet (Gidaris et al. 2018, "Unsupervised Representation Learning by Predicting …")."""

from collections.abc import Callable
from dataclasses import dataclass

from backbones.base.values import Probability
from backbones.training.config import OptimConfig
from pretrain.config import MethodConfig, PretrainConfig, PretrainDataConfig
from pretrain.masked_config import NANO_SCHEDULE


@dataclass(frozen=True)
class RotationConfig(MethodConfig):
    """What the method adds to a recipe.

    Attributes:
        drop_path: Stochastic depth of the last block, 0 to 1.
    """

    drop_path: Probability = 0.0


def rotation_nano() -> PretrainConfig:
    """Return rotation prediction for the mini data: ViT nano, minutes on two CPU cores."""
    return PretrainConfig(
        protocol="rotation/v1+nano",
        method="rotation",
        backbone="vit-nano",
        model=RotationConfig(),
        data=PretrainDataConfig(img_size=64),
        optim=OptimConfig(base_lr=1e-3),
        schedule=NANO_SCHEDULE,
    )


RECIPES: dict[str, Callable[[], PretrainConfig]] = {"rotation-nano": rotation_nano}
