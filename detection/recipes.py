"""Named detection recipes: functions that return a ``DetectionConfig``.

Each says where it comes from, the score to reproduce and what it costs. A100-hours are
the README's seconds an image times images seen (detectron2 ``projects/ViTDet``). Recipes derive
from each other with ``replace``; ``detection.variants`` makes variants of any.
"""

import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from backbones.spec import BackboneSpec
from detection.config import (
    DetectionConfig,
    DetectionDataConfig,
    DetectionOptimConfig,
    DetectionScheduleConfig,
    EvaluationConfig,
    ModelConfig,
)
from detection.hierarchical_recipes import r50_fpn_1x, r50_fpn_3x, swin_1x, swin_3x
from detection.variants import (
    COCO_TRAIN_IMAGES,
    DETECTRON2_EVAL_PERIOD,
    as_pretrained,
    cascade,
    for_epochs,
    fraction,
    frozen,
)


def vitdet_100ep() -> DetectionConfig:
    """Return ViTDet: simple feature pyramid, LSJ 1024, 100 epochs; ``ViT-B`` and ``ViT-L``.

    Source: Li et al. 2022, "Exploring Plain Vision Transformer Backbones for Object Detection",
    tables 5 and 6, and detectron2 ``projects/ViTDet``. To reproduce (README): MAE ViT-B
    51.6 APbox / 45.9 APmask, ViT-L 55.5 / 49.2; five seeds of ViT-B scatter by .10 APbox. Cost:
    about 1,030 A100-hours for ViT-B, 1,980 for ViT-L. Upstream runs fp16; this runs bf16.
    """
    every = DETECTRON2_EVAL_PERIOD * 64 / COCO_TRAIN_IMAGES
    return DetectionConfig(
        protocol="vitdet/v1+100ep", evaluation=EvaluationConfig(every_epochs=every)
    )


def vitdet_50ep() -> DetectionConfig:
    """Return ``vitdet_100ep`` halved; no published score, about 515 A100-hours for ViT-B."""
    return for_epochs(vitdet_100ep(), 50.0, "vitdet/v1+50ep")


def vitdet_25ep() -> DetectionConfig:
    """Return ``vitdet_100ep`` quartered: ranks checkpoints for about 260 A100-hours (ViT-B).

    Published with a ConvMAE-B backbone alone: 53.9 / 47.6 (Official-ConvMAE-Det README).
    """
    return for_epochs(vitdet_100ep(), 25.0, "vitdet/v1+25ep")


def vitdet_12ep() -> DetectionConfig:
    """Return ``vitdet_100ep`` for 12 epochs: a first ranking for about 125 A100-hours (ViT-B).

    No published score.
    """
    return for_epochs(vitdet_100ep(), 12.0, "vitdet/v1+12ep")


def vitdet_h_75ep() -> DetectionConfig:
    """Return ViTDet for ViT-H: 75 epochs, weight decay on norms too.

    Source: detectron2 ``projects/ViTDet/configs/COCO/mask_rcnn_vitdet_h_75ep.py``. To reproduce
    (README): MAE ViT-H 56.7 APbox / 50.2 APmask. Cost: about 2,700 A100-hours.
    """
    config = for_epochs(vitdet_100ep(), 75.0, "vitdet/v1+75ep")
    return replace(config, optim=replace(config.optim, decay_rule="everything"))


def vitdet_frozen_12ep() -> DetectionConfig:
    """Return ``vitdet_12ep`` on a frozen plain network as pretrained: last block, final norm.

    Global attention in every block, as DINOv2's and DINOv3's dense evaluations read it. No score of
    this detector is published.
    """
    return as_pretrained(vitdet_12ep(), "vitdet-frozen/v1+12ep+last", "normed-last")


def vitdet_frozen_25ep() -> DetectionConfig:
    """Return ``vitdet_frozen_12ep`` for 25 epochs."""
    return as_pretrained(vitdet_25ep(), "vitdet-frozen/v1+25ep+last", "normed-last")


def vitdet_frozen_12ep_last4() -> DetectionConfig:
    """Return ``vitdet_frozen_12ep`` on the last four blocks side by side, final norm on each."""
    return as_pretrained(vitdet_12ep(), "vitdet-frozen/v1+12ep+last4", "normed-last4")


def vitdet_frozen_25ep_last4() -> DetectionConfig:
    """Return ``vitdet_frozen_12ep_last4`` for 25 epochs."""
    return as_pretrained(vitdet_25ep(), "vitdet-frozen/v1+25ep+last4", "normed-last4")


def mini_frozen_normed() -> DetectionConfig:
    """Return ``mini`` on a frozen plain network as pretrained: last block, final norm."""
    return as_pretrained(mini(), "mini-frozen/v1+last", "normed-last")


def pe_g_75ep() -> DetectionConfig:
    """Return Perception Encoder's rule for its G network: windows of 32, tiled positions.

    Source: Bolya et al. 2025 and facebookresearch/perception_models, apps/detection
    (``mask_rcnn_PEcore_G_coco75ep.py``; only its output folder is called 36ep): blocks 12, 24, 36
    and 49 global, rate 5e-5, layer decay .9, drop path .5, weight decay on norms too, 75 epochs.
    Rotary positions stay, decomposed ones are not added. The windows have the size of the
    pretraining grid, so that the table of absolute positions is repeated over the image. There, the
    patch projection was resized from 14 to 16 pixels by code that is not public; here, patches of
    14 stay and the map is resampled, a fact in which ``verify`` finds the detectors different.
    """
    config = vitdet_h_75ep()
    return replace(
        config,
        protocol="vitdet-pe/v1+75ep",
        model=replace(
            config.model,
            drop_path=(0.5,),
            window_size=32,
            relative_positions=False,
            global_blocks=(12, 24, 36, 49),
            tiled_positions=True,
        ),
        optim=replace(config.optim, base_lr=5e-5, layer_decay=(0.9,)),
    )


def vitdet_swin_50ep() -> DetectionConfig:
    """Return ViTDet's comparison recipe for Swin-B and L: cascade, FPN with LN, 50 epochs.

    Source: detectron2 ``projects/ViTDet/configs/COCO/cascade_mask_rcnn_swin_b_in21k_50ep.py``. To
    reproduce (README, IN-21k supervised): Swin-B 53.9 / 46.2, Swin-L 55.0 / 47.2. Cost: about 640
    and 830 A100-hours.
    """
    config = cascade(for_epochs(vitdet_100ep(), 50.0, "vitdet-swin/v1+50ep"))
    return replace(
        config,
        protocol="vitdet-swin/v1+50ep",
        model=replace(config.model, drop_path=(0.4,)),
        optim=replace(
            config.optim, base_lr=4e-5, weight_decay=0.05, decay_rule="names", layer_decay=(1.0,)
        ),
    )


def benchmarking_vit_100ep() -> DetectionConfig:
    """Return the optimization of "Benchmarking Detection Transfer", with ViTDet's pyramid.

    Source: Li et al. 2021, section 4: lr 8e-5, no layer decay, cosine to 0, a quarter epoch of
    warm-up, drop path .1 for ViT-B. Its neck (FPN over four taps) and its SyncBN are replaced by
    ViTDet's neck and LN, which is why the protocol bears another name and the paper's score
    (MAE ViT-B 50.3 / 44.9 at 100 epochs) is near, but no reference. Cost: as ``vitdet_100ep``.
    """
    config = vitdet_100ep()
    return replace(
        config,
        protocol="benchmarking-vit-sfp/v1+100ep",
        model=replace(config.model, drop_path=(0.1,)),
        optim=replace(config.optim, base_lr=8e-5, layer_decay=(1.0,), decay_rule="names"),
        schedule=replace(
            config.schedule, decay="cosine", warmup_images=round(0.25 * COCO_TRAIN_IMAGES)
        ),
    )


def benchmarking_vit_25ep() -> DetectionConfig:
    """Return ``benchmarking_vit_100ep`` for 25 epochs (paper, own neck: 48.1 / 43.2)."""
    return for_epochs(benchmarking_vit_100ep(), 25.0, "benchmarking-vit-sfp/v1+25ep")


def mini() -> DetectionConfig:
    """Return the recipe for two CPU cores and small data: minutes, not days.

    No paper: narrow neck and heads, pyramid levels 3 to 5, few proposals, since those and not the
    backbone cost the time on a CPU; steps of four images, since many small steps teach fresh
    weights more than few large ones. Made for the embedded mini data, where a fresh nano backbone
    has to reach AP50box above 40 in under three minutes; scores mean nothing elsewhere.
    """
    return DetectionConfig(
        protocol="mini/v1",
        data=DetectionDataConfig(img_size=128, scale_range=(0.8, 1.25)),
        model=ModelConfig(
            drop_path=(0.0,),
            window_size=0,
            channels=32,
            rpn_levels=(3, 4, 5),
            roi_levels=(3, 4),
            anchor_scale=4.0,
            rpn_convs=1,
            rpn_samples=64,
            rpn_candidates=(200, 100),
            proposals=(100, 50),
            roi_samples=48,
            sampling_ratio=2,
            box_convs=0,
            box_fcs=(128,),
            mask_convs=2,
        ),
        optim=DetectionOptimConfig(
            base_lr=2.5e-3,
            reference_batch_size=4,
            weight_decay=0.05,
            decay_rule="weights",
            # From 1.0 (APbox, 1.5 epochs, one seed): SimMIM Swin 10.7 to 17.4, fresh 12.7 to 13.5.
            layer_decay=(0.6,),
            clip_norm=1.0,
        ),
        schedule=DetectionScheduleConfig(
            epochs=4.5,
            batch_size=4,
            batch_size_per_device=4,
            decay="cosine",
            warmup_images=120,
            precision="fp32",
            checkpoint_images=1_000,
        ),
        evaluation=EvaluationConfig(batch_size_per_device=8),
    )


def small() -> DetectionConfig:
    """Return the recipe for a set of one's own on one GPU or many CPU cores.

    No paper: ViTDet's detector at half its resolution and a quarter of its regions, with batches of
    8 images and gradients clipped. A set of fewer than 160 images is shown more often than 50 times
    (``detection.small_sets``).
    """
    vitdet = vitdet_100ep()
    return DetectionConfig(
        protocol="small/v1",
        data=DetectionDataConfig(img_size=512, scale_range=(0.5, 1.5)),
        model=replace(
            vitdet.model,
            drop_path=(0.0, 0.1, 0.1),
            rpn_candidates=(1000, 500),
            proposals=(500, 300),
            roi_samples=128,
            rpn_convs=1,
            box_convs=0,
        ),
        optim=replace(
            vitdet.optim,
            reference_batch_size=8,
            weight_decay=0.05,
            decay_rule="weights",
            layer_decay=(0.8,),
            clip_norm=1.0,
        ),
        schedule=replace(
            vitdet.schedule,
            epochs=50.0,
            batch_size=8,
            batch_size_per_device=2,
            decay="cosine",
            warmup_images=1_000,
            checkpoint_images=4_000,
        ),
        evaluation=EvaluationConfig(batch_size_per_device=4),
    )


def _variant(
    change: Callable[[DetectionConfig], DetectionConfig], recipe: Callable[[], DetectionConfig]
) -> Callable[[], DetectionConfig]:
    """Return a recipe that changes another one, with a docstring that names both."""

    def make() -> DetectionConfig:
        return change(recipe())

    about = inspect.getdoc(change.func if isinstance(change, partial) else change) or ""
    for name, value in (change.keywords if isinstance(change, partial) else {}).items():
        about = about.replace(f"``{name}``", str(value))
    make.__doc__ = f"{about}\n\nThe recipe that it changes: ``{recipe.__name__}``."
    return make


RECIPES: dict[str, Callable[[], DetectionConfig]] = {
    "mini": mini,
    "mini-frozen": _variant(frozen, mini),
    "mini-cascade": _variant(cascade, mini),
    "small": small,
    "vitdet-12ep": vitdet_12ep,
    "vitdet-25ep": vitdet_25ep,
    "vitdet-50ep": vitdet_50ep,
    "vitdet-100ep": vitdet_100ep,
    "vitdet-h-75ep": vitdet_h_75ep,
    "vitdet-swin-50ep": vitdet_swin_50ep,
    "vitdet-12ep-frozen": _variant(frozen, vitdet_12ep),
    "vitdet-25ep-frozen": _variant(frozen, vitdet_25ep),
    "vitdet-frozen-12ep": vitdet_frozen_12ep,
    "vitdet-frozen-25ep": vitdet_frozen_25ep,
    "vitdet-frozen-12ep-last4": vitdet_frozen_12ep_last4,
    "vitdet-frozen-25ep-last4": vitdet_frozen_25ep_last4,
    "mini-frozen-normed": mini_frozen_normed,
    "pe-g-75ep": pe_g_75ep,
    "vitdet-100ep-cascade": _variant(cascade, vitdet_100ep),
    "vitdet-100ep-1pct": _variant(partial(fraction, percent=1), vitdet_100ep),
    "vitdet-100ep-10pct": _variant(partial(fraction, percent=10), vitdet_100ep),
    "benchmarking-vit-25ep": benchmarking_vit_25ep,
    "benchmarking-vit-100ep": benchmarking_vit_100ep,
    "swin-1x": swin_1x,
    "swin-3x": swin_3x,
    "swin-1x-frozen": _variant(frozen, swin_1x),
    "swin-3x-cascade": _variant(cascade, swin_3x),
    "swin-3x-1pct": _variant(partial(fraction, percent=1), swin_3x),
    "swin-3x-10pct": _variant(partial(fraction, percent=10), swin_3x),
    "r50-fpn-1x": r50_fpn_1x,
    "r50-fpn-3x": r50_fpn_3x,
    "r50-fpn-1x-frozen": _variant(frozen, r50_fpn_1x),
    "r50-fpn-3x-1pct": _variant(partial(fraction, percent=1), r50_fpn_3x),
    "r50-fpn-3x-10pct": _variant(partial(fraction, percent=10), r50_fpn_3x),
}


def default_recipe(spec: BackboneSpec, mini: bool) -> str:
    """Return the name of the recipe a backbone gets when nobody names one.

    On real data it is the protocol that its family publishes under, at the length that ranks
    checkpoints: ViTDet at 25 epochs, Swin's and detectron2's 1x.

    Args:
        spec: Of the backbone.
        mini: Whether the data are the embedded mini data.
    """
    if mini:
        return "mini"
    if spec.layout == "plain":
        return "vitdet-25ep"
    return "r50-fpn-1x" if "resne" in spec.name else "swin-1x"
