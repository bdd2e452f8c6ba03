"""What a fine-tuning is made of."""

from dataclasses import dataclass, field

from backbones.training.config import OptimConfig, RuntimeConfig, ScheduleConfig
from backbones.training.schedules import num_steps
from benchmarks.labelled.config import CentralViewConfig, refuse
from benchmarks.task import Facts, Workload
from pretrain.config import PretrainConfig
from pretrain.config import PretrainDataConfig as CropConfig
from pretrain.recipes.supervised import SupervisedConfig

POOLINGS = ("pooled", "mean")
ALL_BLOCKS = -1.0


@dataclass(frozen=True)
class TuneConfig:
    """What is trained, from which vectors, at which rates. Defaults are MAE's.

    Attributes:
        pooling: "pooled" classifies what the backbone pools; "mean" the mean of its last map
            behind a fresh LayerNorm, in place of the backbone's final norm.
        head_std: Of the truncated normal that the head's weights are drawn from.
        layer_decay: Factor of the learning rate from each layer to the one below.
        blocks: So many last blocks are trained, and all behind them; 0.5 for the MLP of the last
            one, 0 for the head alone, -1 for everything.
        labels: Share of the training labels in use.
        crop_scale: Range of a training crop's area as a share of the image's.
        flip: Probability of a horizontal flip in training.
        ema_momentum: Weights are averaged with this momentum, and the average is tested; 0 for
            none.
    """

    pooling: str = "mean"
    head_std: float = 2e-5
    layer_decay: float = 0.65
    blocks: float = ALL_BLOCKS
    labels: float = 1.0
    crop_scale: tuple[float, float] = (0.08, 1.0)
    flip: float = 0.5
    ema_momentum: float = 0.0

    def problems(self) -> list[str]:
        """Return one sentence per impossible value, without its full stop."""
        low, high = self.crop_scale
        wrong = [
            (f"tune.pooling must be one of {', '.join(POOLINGS)}", self.pooling not in POOLINGS),
            ("tune.head_std must be positive", self.head_std <= 0),
            ("tune.layer_decay must lie in (0, 1]", not 0 < self.layer_decay <= 1),
            ("tune.labels must lie in (0, 1]", not 0 < self.labels <= 1),
            ("tune.crop_scale must rise within (0, 1]", not 0 < low <= high <= 1),
            ("tune.flip must lie in [0, 1]", not 0 <= self.flip <= 1),
            ("tune.ema_momentum must lie in [0, 1)", not 0 <= self.ema_momentum < 1),
        ]
        found = [text for text, is_wrong in wrong if is_wrong]
        return found + blocks_problems("tune.blocks", self.blocks)


@dataclass(frozen=True)
class FinetuneConfig:
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

    protocol: str = "finetune-vit-b16/v1"
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

    def resolved(self) -> "FinetuneConfig":
        """Return the config itself.

        Raises:
            UserError: A value is impossible.
        """
        refuse([*self.data.problems(), *self.tune.problems()])
        self.training().resolved()
        return self

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


def blocks_problems(name: str, blocks: float) -> list[str]:
    """Return a sentence where a number of trained blocks is impossible, without its full stop."""
    if blocks == ALL_BLOCKS or (blocks >= 0 and blocks in (0.5, int(blocks))):
        return []
    return [f"{name} must be a whole number, 0.5 for the MLP of the last block, or -1 for all"]


def finetune_workload(
    config: FinetuneConfig, facts: Facts, limit_images: int | None, times: int = 1
) -> Workload:
    """Return what a recipe comes to on a data set.

    Args:
        config: The recipe.
        facts: Of the data.
        limit_images: Of each split, None for all.
        times: So many trainings.
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
        batch_size_per_device=schedule.batch_size_per_device,
    )
