"""Batches of images, the same ones whatever the number of processes and of loader workers.

The position of a sample in the training stream decides its image and its augmentation, from the
seed alone; so a stream can be entered at any step, and any sharing among processes is equal.
"""

import pickle
from collections.abc import Iterator, Sequence
from itertools import count
from random import Random
from typing import Any

import numpy as np

from backbones.base.micro_batches import micro_batches
from backbones.base.workers import make_in_workers
from detection.config import DetectionConfig, DetectionDataConfig, EvaluationConfig
from detection.data.mapper import map_test, map_train

Sample = dict[str, Any]
Batch = list[Sample]


def train_batches(  # noqa: PLR0913 - where in which stream, for whom: nothing to group
    images: Sequence[Sample],
    config: DetectionConfig,
    *,
    seed: int,
    start_step: int = 0,
    rank: int = 0,
    world_size: int = 1,
    num_workers: int = 0,
) -> Iterator[Batch]:
    """Yield this process's micro-batches, step after step, without end.

    Micro-batch k (from 0) that a process gets within a step is number ``k * world_size + rank`` of
    the step's global batch. Epochs follow each other without a gap: a batch may hold the end of
    one and the start of the next.

    Args:
        images: Training images (``detection.data.dataset.load_training_images``).
        config: Its sections ``data`` and ``schedule`` are used.
        seed: Of the run.
        start_step: First step to yield.
        rank: Of this process.
        world_size: Number of processes.
        num_workers: Loader processes; 0 loads in this one.

    Raises:
        UserError: The global batch cannot be shared out, or an image cannot be used.
    """
    schedule = config.schedule
    per_step = micro_batches(schedule.batch_size, schedule.batch_size_per_device, world_size)
    positions = _train_positions(
        schedule.batch_size,
        schedule.batch_size_per_device,
        start_step=start_step,
        share=(rank, world_size, per_step),
    )
    return make_in_workers(_TrainImages(images, config.data, seed), positions, num_workers)


def evaluation_batches(
    images: Sequence[Sample],
    config: EvaluationConfig,
    *,
    rank: int = 0,
    world_size: int = 1,
    num_workers: int = 0,
) -> Iterator[Batch]:
    """Yield this process's share of the images at test size, each once and in order.

    Args:
        images: Dataset dicts; process r gets every ``world_size``-th from the r-th on.
        config: Resolved; says size and batch.
        rank: Of this process.
        world_size: Number of processes.
        num_workers: Loader processes; 0 loads in this one.

    Raises:
        PreflightError: An image cannot be used.
    """
    mine = range(rank, len(images), world_size)
    size = config.batch_size_per_device
    batches = (list(mine[start : start + size]) for start in range(0, len(mine), size))
    return make_in_workers(_TestImages(images, config), batches, num_workers)


def epoch_order(num_images: int, seed: int, epoch: int) -> list[int]:
    """Return the order of images in an epoch, a function of seed and epoch alone."""
    order = list(range(num_images))
    Random(f"order {seed} {epoch}").shuffle(order)
    return order


def sample_random(seed: int, epoch: int, index: int) -> Random:
    """Return the generator of one image's augmentation in one epoch."""
    return Random(f"augmentation {seed} {epoch} {index}")


class _Packed:
    """A list of dicts in one buffer.

    Python objects forked into workers are copied page by page as their reference counts change;
    bytes in one array stay shared (the trick is detectron2's).
    """

    def __init__(self, items: Sequence[Sample]) -> None:
        parts = [pickle.dumps(item, protocol=pickle.HIGHEST_PROTOCOL) for item in items]
        self._ends = np.cumsum([0, *map(len, parts)])
        self._bytes = np.frombuffer(b"".join(parts), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> Sample:
        part = self._bytes[self._ends[index] : self._ends[index + 1]]
        sample: Sample = pickle.loads(part.data)
        return sample


class _TrainImages:
    """Positions in the training stream to mapped samples."""

    def __init__(self, images: Sequence[Sample], config: DetectionDataConfig, seed: int) -> None:
        self._images = _Packed(images)
        self._config = config
        self._seed = seed
        self._order: tuple[int, list[int]] = (-1, [])

    def __call__(self, positions: Sequence[int]) -> Batch:
        return [self._map(position) for position in positions]

    def _map(self, position: int) -> Sample:
        epoch, place = divmod(position, len(self._images))
        if self._order[0] != epoch:
            self._order = (epoch, epoch_order(len(self._images), self._seed, epoch))
        index = self._order[1][place]
        random = sample_random(self._seed, epoch, index)
        return map_train(self._images[index], self._config, random)


class _TestImages:
    """Indices to mapped test images."""

    def __init__(self, images: Sequence[Sample], config: EvaluationConfig) -> None:
        self._images = _Packed(images)
        self._config = config

    def __call__(self, indices: Sequence[int]) -> Batch:
        return [map_test(self._images[index], self._config) for index in indices]


def _train_positions(
    batch_size: int,
    micro_size: int,
    *,
    start_step: int,
    share: tuple[int, int, int],
) -> Iterator[list[int]]:
    """Yield the stream positions of each micro-batch of one process."""
    rank, world_size, per_step = share
    for step in count(start_step):
        for micro in range(per_step):
            start = step * batch_size + (micro * world_size + rank) * micro_size
            yield list(range(start, start + micro_size))
