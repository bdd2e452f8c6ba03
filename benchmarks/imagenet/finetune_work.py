"""What fine-tunings come to, before torch is there."""

from benchmarks.imagenet.finetune_config import FinetuneConfig
from benchmarks.task import Facts, Workload
from pretrain.schedules import num_steps


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
