"""What can be made of any detection recipe: shorter, frozen, cascaded, with fewer images."""

from dataclasses import replace

from detection.config import DetectionConfig


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
