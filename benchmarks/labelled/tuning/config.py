"""What a fine-tuning is made of."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from msgspec import Meta

from backbones.base.sections import Recipe, Section
from backbones.base.values import Below1, Name, Positive, Probability, Rule, Share, ShareRange
from backbones.training.config import OptimConfig, RuntimeConfig, ScheduleConfig
from backbones.training.schedules import num_steps
from benchmarks.labelled.config import CentralViewConfig
from benchmarks.task import Facts, Workload
from pretrain.config import PretrainConfig
from pretrain.config import PretrainDataConfig as CropConfig
from pretrain.recipes.supervised import SupervisedConfig

ALL_BLOCKS = -1.0
Blocks = Annotated[
    float,
    Meta(description="a whole number, 0.5 for the MLP of the last block, or -1 for all blocks"),
    Rule("", lambda blocks: blocks == ALL_BLOCKS or (blocks >= 0 and blocks in (0.5, int(blocks)))),
]


@dataclass(frozen=True)
class TuneConfig(Section):
    """What is trained, from which vectors, at which rates. Defaults are MAE's.

    Attributes:
        pooling: "pooled" classifies what the backbone pools; "mean" the mean of its last map
            behind a fresh LayerNorm, in place of the backbone's final norm.
        head_std: Standard deviation of the truncated normal that draws the head's weights.
        layer_decay: Factor of the learning rate from each layer to the one below.
        blocks: Number of last blocks that are trained, with all layers after them; 0.5 for the MLP
            of the last block, 0 for only the head, -1 for everything.
        labels: Share of the training labels in use.
        crop_scale: Range of a training crop's area as a share of the image's.
        flip: Probability of a horizontal flip in training.
        ema_momentum: Momentum of the average of the weights, which is tested; 0 tests the weights
            themselves.
    """

    pooling: Literal["pooled", "mean"] = "mean"
    head_std: Positive = 2e-5
    layer_decay: Share = 0.65
    blocks: Blocks = ALL_BLOCKS
    labels: Share = 1.0
    crop_scale: ShareRange = (0.08, 1.0)
    flip: Probability = 0.5
    ema_momentum: Below1 = 0.0


@dataclass(frozen=True)
class FinetuneConfig(Recipe):
    """Training of backbone and head on labelled images, tested in the central view.

    Attributes:
        protocol: Family, variant and version.
        data: The central view, and the size of training crops.
        tune: What is trained.
        model: Augmentation, loss and drop path.
        optim: The optimizer.
        schedule: Length, batches and precision.
        runtime: How the work is done.
    """

    protocol: Name = "finetune-vit-b16/v1"
    data: CentralViewConfig = field(default_factory=CentralViewConfig)
    tune: TuneConfig = field(default_factory=TuneConfig)
    model: SupervisedConfig = field(default_factory=SupervisedConfig)
    optim: OptimConfig = field(
        default_factory=lambda: OptimConfig(
            base_lr=5e-4, min_lr=1e-6, betas=(0.9, 0.999), weight_decay=0.05
        )
    )
    schedule: ScheduleConfig = field(
        default_factory=lambda: ScheduleConfig(
            epochs=100, batch_size=1024, warmup_epochs=5, checkpoint_epochs=0
        )
    )
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)

    def training(self) -> PretrainConfig:
        """Return the part that it shares with supervised training from the start."""
        return PretrainConfig(
            protocol=self.protocol,
            method="supervised",
            backbone="",
            model=self.model,
            data=CropConfig(
                img_size=self.data.img_size,
                crop_scale=self.tune.crop_scale,
                flip=self.tune.flip,
                max_corrupt=self.data.max_corrupt,
            ),
            optim=self.optim,
            schedule=self.schedule,
            runtime=self.runtime,
        )


def finetune_workload(
    config: FinetuneConfig, facts: Facts, limit_images: int | None, times: int = 1
) -> Workload:
    """Return what a recipe comes to on a data set.

    Args:
        config: The recipe.
        facts: Of the data.
        limit_images: Of each split, None for all.
        times: Number of trainings.
    """
    in_use = min(facts.num_train, limit_images or facts.num_train)
    in_use = max(1, round(in_use * config.tune.labels))
    schedule = config.schedule
    # Too few images for a batch are refused when the run starts, which also knows lists of labels.
    steps = times * num_steps(schedule, max(in_use, schedule.batch_size))
    return Workload(
        protocol=config.protocol,
        precision=schedule.precision,
        batch_size=schedule.batch_size,
        num_steps=steps,
        num_images=steps * schedule.batch_size,
    )
