"""A batch of test images before a detector, to be repeated for its time."""

from collections.abc import Sequence

from torch import nn

from backbones.base import distributed
from backbones.timing.alone import Rehearsal
from detection.config import EvaluationConfig
from detection.data.loader import Sample, evaluation_batches
from detection.scoring.evaluate import detect_batch


def rehearse_test(
    model: nn.Module, images: Sequence[Sample], config: EvaluationConfig
) -> Rehearsal:
    """Return the work on this process's first test images, which lie in memory.

    Args:
        model: As in ``detection.scoring.evaluate.evaluate``.
        images: Dataset dicts of all processes.
        config: Resolved.
    """
    share = distributed.world_size()
    few = images[: config.batch_size_per_device * share]
    batches = evaluation_batches(few, config, rank=distributed.rank(), world_size=share)
    batch = next(batches, [])
    return Rehearsal(lambda: detect_batch(model, batch), len(batch))
