"""A trained classifier before the test images."""

import time
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from backbones.base.cores import loader_workers
from backbones.base.distributed import gather, rank, world_size
from backbones.base.errors import PreflightError, StoppedError
from backbones.base.monitor import Monitor, Progress
from backbones.base.workers import make_in_workers
from backbones.timing.alone import Rehearsal
from backbones.training.pixels import Pixels
from backbones.training.stream import refuse_too_many
from benchmarks.labelled.features.views import CentralView, Show
from benchmarks.labelled.scores import ClassifierOutput, judge
from benchmarks.labelled.sets.folders import labels_of
from benchmarks.labelled.tuning.config import FinetuneConfig
from benchmarks.labelled.tuning.objective import FinetuneObjective
from pretrain.data.images import ImageSet

# Without gradients, several times a training batch fits.
_BATCH_SIZE = 64


@dataclass(frozen=True)
class Tested:
    """What a classifier says of a split.

    Attributes:
        verdict: On the readable images.
        indices: Their numbers in the split, ascending.
        labels: (N,) int64 classes.
        unreadable: Where each of the others lies, and why it could not be read.
        images_per_second: Of this process; 0 where it had none.
    """

    verdict: ClassifierOutput
    indices: npt.NDArray[np.int64]
    labels: Tensor
    unreadable: tuple[str, ...]
    images_per_second: float


def classify_all(
    objective: FinetuneObjective,
    pixels: Pixels,
    images: ImageSet,
    config: FinetuneConfig,
    monitor: Monitor,
) -> Tested:
    """Classify the central views of all images, shared out over all processes.

    Args:
        objective: Trained.
        pixels: Normalises, on the objective's device.
        images: Labelled.
        config: The view, the precision and how many images may be unreadable.
        monitor: To report to.

    Raises:
        PreflightError: Too many images cannot be read, or none can.
        StoppedError: The monitor asked to stop.
    """
    labels = torch.from_numpy(labels_of(images))
    starts = range(rank() * _BATCH_SIZE, len(images), _BATCH_SIZE * world_size())
    keys = [range(start, min(start + _BATCH_SIZE, len(images))) for start in starts]
    predicted = torch.zeros(len(images), dtype=torch.int64)
    place = torch.full((len(images),), -1)
    unreadable: dict[int, str] = {}
    begin = time.perf_counter()
    shown = make_in_workers(Show(images, CentralView.of(config.data)), keys, loader_workers())
    for number, (key, batch) in enumerate(zip(keys, shown, strict=True)):
        if monitor.should_stop():
            raise StoppedError
        verdict = _judge(objective, pixels, batch.pixels, labels[key.start : key.stop], config)
        predicted[key.start : key.stop] = verdict.predicted
        place[key.start : key.stop] = verdict.rank
        unreadable |= {key.start + at: text for at, text in batch.unreadable.items()}
        monitor.progress(Progress("test", number + 1, len(keys)))
    rate = sum(map(len, keys)) / max(time.perf_counter() - begin, 1e-9)
    # What a process has not looked at is 0 there, and -1 in places.
    parts = gather((predicted, place, unreadable))
    predicted = sum((part[0] for part in parts), torch.zeros_like(predicted))
    place = torch.stack([part[1] for part in parts]).amax(dim=0)
    unreadable = {index: text for part in parts for index, text in part[2].items()}
    refuse_too_many(unreadable, config.data.max_corrupt)
    good = np.setdiff1d(np.arange(len(images)), list(unreadable))
    if not len(good):
        raise PreflightError(f"Not one of the test images of {images.name} can be read.")
    kept = torch.from_numpy(good)
    texts = tuple(unreadable[index] for index in sorted(unreadable))
    return Tested(ClassifierOutput(predicted[kept], place[kept]), good, labels[kept], texts, rate)


def rehearse_test(
    objective: FinetuneObjective, pixels: Pixels, images: ImageSet, config: FinetuneConfig
) -> Rehearsal:
    """Return the work on this process's first test images, which lie in memory.

    Args:
        objective: As in ``classify_all``.
        pixels: As in ``classify_all``.
        images: As in ``classify_all``.
        config: As in ``classify_all``.
    """
    start = min(rank() * _BATCH_SIZE, len(images))
    key = range(start, min(start + _BATCH_SIZE, len(images)))
    shown = Show(images, CentralView.of(config.data))(key).pixels if key else None
    labels = torch.from_numpy(labels_of(images))[key.start : key.stop]

    def work() -> None:
        if shown is not None:
            _judge(objective, pixels, shown, labels, config)

    return Rehearsal(work, len(key))


@torch.no_grad()
def _judge(
    objective: FinetuneObjective,
    pixels: Pixels,
    shown: Tensor,
    labels: Tensor,
    config: FinetuneConfig,
) -> ClassifierOutput:
    """Return the verdict on a batch of views, (B, 3, H, W), with (B,) labels."""
    objective.eval()
    images = pixels.ready({"pixels": shown})["pixels"]
    low = config.schedule.precision == "bf16"
    with torch.autocast(images.device.type, torch.bfloat16) if low else nullcontext():
        logits = objective.predict(images)
    return judge(logits.float(), labels.to(logits.device))
