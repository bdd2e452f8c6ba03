"""Variants of any detection recipe: another length, frozen, cascade, less data."""

from dataclasses import replace
from typing import Literal

from detection.config import DetectionConfig

# Images of COCO train2017 that hold an object; detectron2 drops the 1,021 others.
COCO_TRAIN_IMAGES = 117_266
# Steps between two evaluations during training: detectron2 ``configs/common/train.py``, which the
# configs of projects/ViTDet and the LazyConfigs of R50-FPN take over.
DETECTRON2_EVAL_PERIOD = 5_000


def for_epochs(config: DetectionConfig, epochs: float, protocol: str) -> DetectionConfig:
    """Return the variant of another length, under a protocol name of its own."""
    return replace(config, protocol=protocol, schedule=replace(config.schedule, epochs=epochs))


def frozen(config: DetectionConfig) -> DetectionConfig:
    """Return the variant that trains neck and heads alone.

    As in Battle of the Backbones (Goldblum et al. 2023): tells features apart that fine-tuning
    would level. Costs a backbone's backward pass less.
    """
    return replace(
        config,
        protocol=f"{config.protocol}+frozen",
        model=replace(config.model, freeze="all", drop_path=(0.0,)),
    )


def cascade(config: DetectionConfig) -> DetectionConfig:
    """Return the Cascade R-CNN variant (Cai and Vasconcelos 2018), three box heads.

    ViTDet's README has MAE ViT-B at 54.0 / 46.7 so, for 15 % more time.
    """
    return replace(
        config,
        protocol=f"{config.protocol}+cascade",
        model=replace(config.model, detector="cascade-mask-rcnn"),
    )


def fraction(config: DetectionConfig, percent: int) -> DetectionConfig:
    """Return the variant on ``percent`` % of the training images, for as many epochs."""
    share = percent / 100
    # As many steps between two evaluations as before, not as many epochs.
    every = config.evaluation.every_epochs / share
    return replace(
        config,
        protocol=f"{config.protocol}+{percent}pct",
        data=replace(config.data, train_fraction=share),
        evaluation=replace(config.evaluation, every_epochs=every),
    )


def as_pretrained(
    config: DetectionConfig, protocol: str, features: Literal["normed-last", "normed-last4"]
) -> DetectionConfig:
    """Return the frozen variant on features as they were pretrained, only neck and heads trained.

    Global attention in every block and the final norm, as the dense evaluations of DINOv2 (Oquab et
    al. 2024, section 7.4), DINOv3 and Perception Encoder read frozen networks. ViTDet's windows and
    fresh relative positions, which ``frozen`` keeps, are nothing that was pretrained.

    Args:
        config: The recipe that neck and heads are trained by.
        protocol: Id of the variant.
        features: "normed-last" or "normed-last4", see ``ModelConfig``.
    """
    variant = frozen(config)
    model = replace(variant.model, window_size=0, relative_positions=False, features=features)
    return replace(variant, protocol=protocol, model=model)
