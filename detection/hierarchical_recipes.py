"""Detection recipes of hierarchical networks: Swin's and detectron2's for ResNets."""

from dataclasses import replace

from detection.config import (
    DetectionConfig,
    DetectionDataConfig,
    DetectionOptimConfig,
    DetectionScheduleConfig,
    EvaluationConfig,
    ModelConfig,
)
from detection.variants import COCO_TRAIN_IMAGES, DETECTRON2_EVAL_PERIOD


def swin_1x() -> DetectionConfig:
    """Return Swin's Mask R-CNN recipe, 12 epochs multi-scale.

    Source: Liu et al. 2021, "Swin Transformer", section 4.2, and Swin-Transformer-Object-Detection.
    To reproduce (README): Swin-T supervised 43.7 APbox / 39.8 APmask, MoBY 43.6 / 39.6. Upstream
    runs fp16; this runs bf16. Cost: not published.
    """
    return DetectionConfig(
        protocol="swin-mmdet/v1+1x",
        data=DetectionDataConfig(
            augmentation="multiscale-crop", square=False, short_sides=tuple(range(480, 801, 32))
        ),
        model=ModelConfig(
            drop_path=(0.1,),
            neck_norm="",
            head_norm="",
            rpn_convs=1,
            box_convs=0,
            box_fcs=(1024, 1024),
        ),
        optim=DetectionOptimConfig(
            reference_batch_size=16, weight_decay=0.05, decay_rule="names", layer_decay=(1.0,)
        ),
        schedule=DetectionScheduleConfig(
            epochs=12.0,
            batch_size=16,
            batch_size_per_device=2,
            drops=(8 / 12, 11 / 12),
            warmup_images=500 * 16,
        ),
        # Every epoch, as mmdetection does unless told otherwise (Swin-Transformer-Object-Detection
        # configs/_base_/datasets/coco_instance.py).
        evaluation=EvaluationConfig(short_side=800, max_size=1333, every_epochs=1.0),
    )


def swin_3x() -> DetectionConfig:
    """Return ``swin_1x`` for 36 epochs with drop path .2.

    To reproduce (same sources): Swin-T supervised 46.0 APbox / 41.6 APmask, MoBY 46.0 / 41.7,
    Swin-S 48.5 / 43.3; EsViT's authors name this recipe for their Swin-T. Cost: not published.
    """
    config = swin_1x()
    return replace(
        config,
        protocol="swin-mmdet/v1+3x",
        model=replace(config.model, drop_path=(0.2,)),
        schedule=replace(config.schedule, epochs=36.0, drops=(27 / 36, 33 / 36)),
    )


def r50_fpn_1x() -> DetectionConfig:
    """Return detectron2's R50-FPN baseline, 90,000 steps of 16 images.

    Source: detectron2 MODEL_ZOO, ``mask_rcnn_R_50_FPN_1x``: 38.6 APbox / 35.2 APmask with
    its own caffe-style weights. Stem and first stage frozen, BatchNorm frozen. Cost: about 52
    V100-hours.
    """
    swin = swin_1x()
    return replace(
        swin,
        protocol="detectron2-fpn/v1+1x",
        data=replace(swin.data, augmentation="multiscale", short_sides=tuple(range(640, 801, 32))),
        model=replace(swin.model, drop_path=(0.0,), freeze="first-1", freeze_batchnorm=True),
        optim=DetectionOptimConfig(
            optimizer="sgd",
            base_lr=0.02,
            reference_batch_size=16,
            lr_scaling="linear",
            weight_decay=1e-4,
            layer_decay=(1.0,),
        ),
        schedule=replace(
            swin.schedule,
            epochs=90_000 * 16 / COCO_TRAIN_IMAGES,
            drops=(60 / 90, 80 / 90),
            warmup_images=1_000 * 16,
            precision="fp32",
        ),
        evaluation=replace(
            swin.evaluation, every_epochs=DETECTRON2_EVAL_PERIOD * 16 / COCO_TRAIN_IMAGES
        ),
    )


def r50_fpn_3x() -> DetectionConfig:
    """Return ``r50_fpn_1x`` for 270,000 steps: 41.0 APbox / 37.2 APmask (MODEL_ZOO)."""
    config = r50_fpn_1x()
    return replace(
        config,
        protocol="detectron2-fpn/v1+3x",
        schedule=replace(
            config.schedule,
            epochs=270_000 * 16 / COCO_TRAIN_IMAGES,
            drops=(210 / 270, 250 / 270),
        ),
    )
