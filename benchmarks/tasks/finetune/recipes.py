"""Recipes of fine-tuning."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from backbones.training.config import OptimConfig, ScheduleConfig
from benchmarks.labelled.config import MINI_DATA
from benchmarks.labelled.tuning.config import FinetuneConfig, TuneConfig
from pretrain.recipes.supervised import SupervisedConfig


def finetune_vit_b16() -> FinetuneConfig:
    """Return MAE's fine-tuning of ViT-B at 224 pixels, which LoMaR shares.

    Source: He et al. 2022, table 9, with the rate and layer decay that its released weights are
    tuned with (facebookresearch/mae FINETUNE.md); Chen et al. 2022 (LoMaR), README of
    junchen14/LoMaR. To reproduce: top1 83.6 (MAE, 1600 epochs), 84.1 (LoMaR). Cost: 7 h 11 min on
    32 V100.
    """
    return FinetuneConfig()


def finetune_vit_l16() -> FinetuneConfig:
    """Return MAE's fine-tuning of ViT-L.

    Source: facebookresearch/mae FINETUNE.md. To reproduce: top1 85.9. Cost: 8 h 52 min on 32 V100.
    """
    config = finetune_vit_b16()
    return replace(
        config,
        protocol="finetune-vit-l16/v1",
        tune=replace(config.tune, layer_decay=0.75),
        model=replace(config.model, drop_path=0.2),
        optim=replace(config.optim, base_lr=1e-3),
        schedule=replace(config.schedule, epochs=50),
    )


def finetune_vit_h14() -> FinetuneConfig:
    """Return MAE's fine-tuning of ViT-H.

    Source: facebookresearch/mae FINETUNE.md. To reproduce: top1 86.9. Cost: 13 h 9 min on 64 V100.
    """
    config = finetune_vit_l16()
    return replace(
        config, protocol="finetune-vit-h14/v1", model=replace(config.model, drop_path=0.3)
    )


def at_size(config: FinetuneConfig, img_size: int) -> FinetuneConfig:
    """Return a recipe for larger images, the central view without a margin.

    facebookresearch/mae ``util/datasets.py``: no margin above 224 pixels. Position tables are
    interpolated to the new grid before training; LoMaR's relative ones fit any grid.
    """
    return replace(
        config,
        protocol=config.protocol.replace("/", f"-{img_size}/"),
        data=replace(config.data, img_size=img_size, resize_to=img_size),
    )


def finetune_vit_b16_384() -> FinetuneConfig:
    """Return the fine-tuning of ViT-B at 384 pixels.

    Source: Chen et al. 2022 (LoMaR), README of junchen14/LoMaR. To reproduce: top1 85.4 (LoMaR).
    Cost: not published.
    """
    return at_size(finetune_vit_b16(), 384)


def finetune_vit_b16_448() -> FinetuneConfig:
    """Return the fine-tuning of ViT-B at 448 pixels.

    Source: as ``finetune_vit_b16_384``; no number published. Cost: not published.
    """
    return at_size(finetune_vit_b16(), 448)


def finetune_vit_h14_448() -> FinetuneConfig:
    """Return the fine-tuning of ViT-H at 448 pixels.

    Source: He et al. 2022, table 3. To reproduce: top1 87.8 (MAE, README). Cost: not published.
    """
    return at_size(finetune_vit_h14(), 448)


def finetune_swin_b() -> FinetuneConfig:
    """Return SimMIM's fine-tuning of Swin-B, pretrained for 800 epochs.

    Source: Xie et al. 2022, section 4.1; microsoft/SimMIM
    ``configs/swin_base__800ep/simmim_finetune__swin_base__img224_window7__800ep.yaml``. To
    reproduce: top1 84.0. One difference: the least learning rate falls with the layers too. Cost:
    not published.
    """
    config = finetune_vit_b16()
    return replace(
        config,
        protocol="finetune-swin-b/v1",
        tune=replace(config.tune, pooling="pooled", head_std=0.02, layer_decay=0.8),
        optim=replace(
            config.optim,
            base_lr=1.25e-3,
            reference_batch_size=512,
            warmup_base_lr=2.5e-7,
            min_lr=2.5e-7,
            scale_min_lr=True,
            clip="global",
            clip_norm=5.0,
        ),
        schedule=replace(
            config.schedule, batch_size=2048, warmup_epochs=20, cosine_from_start=True
        ),
    )


def finetune_simmim_vit_b16() -> FinetuneConfig:
    """Return SimMIM's fine-tuning of ViT-B.

    Source: Xie et al. 2022, section 4.1; microsoft/SimMIM
    ``configs/vit_base__800ep/simmim_finetune__vit_base__img224__800ep.yaml``. To reproduce: top1
    83.8. Cost: not published.
    """
    config = finetune_swin_b()
    tune = replace(config.tune, pooling="mean", head_std=2e-5, layer_decay=0.65)
    return replace(config, protocol="finetune-simmim-vit-b16/v1", tune=tune)


def with_labels(config: FinetuneConfig, share: float) -> FinetuneConfig:
    """Return a recipe for a share of the labels.

    The number of epochs grows with the root of what is left out, a choice of ours: few images are
    seen more often, and the whole costs less.
    """
    longer = round(config.schedule.epochs / share**0.5)
    return replace(
        config,
        protocol=config.protocol.replace("/", f"-{round(100 * share)}percent/"),
        tune=replace(config.tune, labels=share),
        schedule=replace(config.schedule, epochs=longer),
    )


def finetune_1percent() -> FinetuneConfig:
    """Return MAE's fine-tuning on 1 % of the labels.

    Not a published recipe: batches are of 256 images, since there are few. The labels are those
    that the task lowshot uses. Cost: a tenth of that on all labels.
    """
    config = with_labels(finetune_vit_b16(), 0.01)
    return replace(config, schedule=replace(config.schedule, batch_size=256))


def finetune_10percent() -> FinetuneConfig:
    """Return MAE's fine-tuning on 10 % of the labels.

    Not a published recipe. The labels are those that the task lowshot uses. Cost: a third of that
    on all labels.
    """
    return with_labels(finetune_vit_b16(), 0.1)


def finetune_mini() -> FinetuneConfig:
    """Return fine-tuning for the mini data: any nano backbone, half a minute on two CPU cores.

    No published score. The same for all families, so that their rows stand in one table.
    Augmentation is weak and images are not mixed, the epochs being few; steps are small, so that
    there are enough of them. Swin and ResNet end above their linear probes. ViTs end below: a fresh
    one for want of epochs (ten bring it up to its probe), a trained one with ten epochs too.
    """
    return FinetuneConfig(
        protocol="finetune-mini/v2",
        data=MINI_DATA,
        tune=TuneConfig(pooling="pooled", head_std=0.02, layer_decay=0.8, crop_scale=(0.7, 1.0)),
        model=SupervisedConfig(rand_magnitude=0, erase=0.0, mixup=0.0, cutmix=0.0, drop_path=0.0),
        optim=OptimConfig(base_lr=1.2e-2, min_lr=1e-6, betas=(0.9, 0.999)),
        schedule=ScheduleConfig(
            epochs=4,
            batch_size=25,
            batch_size_per_device=25,
            warmup_epochs=0.5,
            precision="fp32",
            checkpoint_epochs=0,
            state_images=5_000,
        ),
    )


def finetune_mini_10percent() -> FinetuneConfig:
    """Return the same on 10 % of the labels; there are too few mini images for 1 %."""
    return with_labels(finetune_mini(), 0.1)


FINETUNE_RECIPES: Mapping[str, Callable[[], FinetuneConfig]] = {
    "finetune-vit-b16": finetune_vit_b16,
    "finetune-vit-l16": finetune_vit_l16,
    "finetune-vit-h14": finetune_vit_h14,
    "finetune-vit-b16-384": finetune_vit_b16_384,
    "finetune-vit-b16-448": finetune_vit_b16_448,
    "finetune-vit-h14-448": finetune_vit_h14_448,
    "finetune-swin-b": finetune_swin_b,
    "finetune-simmim-vit-b16": finetune_simmim_vit_b16,
    "finetune-1percent": finetune_1percent,
    "finetune-10percent": finetune_10percent,
    "finetune-mini": finetune_mini,
    "finetune-mini-10percent": finetune_mini_10percent,
}


def recipe_for(layout: str, num_layers: int) -> str:
    """Return the name of the recipe for a backbone on real data.

    Args:
        layout: Of the backbone.
        num_layers: Likewise; the bounds are those of ViT-B and ViT-L.
    """
    if layout != "plain":
        return "finetune-swin-b"
    sizes = ("finetune-vit-b16", "finetune-vit-l16", "finetune-vit-h14")
    return sizes[(num_layers > 12) + (num_layers > 24)]
