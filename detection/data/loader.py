"""Batches of images, the same ones whatever the number of processes and of loader workers.

The position of a sample in the training stream decides its image and its augmentation, from the
seed alone; so a stream can be entered at any step, and any sharing among processes is equal.
"""

import pickle
from collections.abc import Iterator, Sequence
from functools import partial
from random import Random
from typing import Any

import numpy as np

from backbones.base.workers import make_in_workers
from backbones.training.stream import EpochOrder, Loaded
from detection.config import DetectionDataConfig, EvaluationConfig
from detection.data.mapper import map_test, map_train

Sample = dict[str, Any]
Batch = list[Sample]


class TrainSamples:
    """Makes the micro-batch at given positions of the training stream. Picklable."""

    def __init__(self, images: Sequence[Sample], config: DetectionDataConfig, seed: int) -> None:
        """Set up.

        Args:
            images: Training images (``detection.data.dataset.load_training_images``).
            config: Augmentation.
            seed: Of the run.
        """
        self._images = _Packed(images)
        self._config = config
        self._seed = seed
        self._order = EpochOrder(len(images), partial(epoch_order, len(images), seed))

    def __call__(self, positions: Sequence[int]) -> Loaded:
        """Return the batch of these positions, "samples" for ``DetectionObjective.forward``.

        Raises:
            PreflightError: An image cannot be used.
        """
        samples = [self._sample(position) for position in positions]
        batch: dict[str, Any] = {"samples": samples}
        return Loaded(batch, [sample["image_id"] for sample in samples])

    def _sample(self, position: int) -> Sample:
        epoch, index = self._order.at(position)
        random = sample_random(self._seed, epoch, index)
        return map_train(self._images[index], self._config, random)


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
    """Return the order of images in an epoch, a function of seed and epoch alone.

    It is another than that of ``backbones.training.stream``, and has to stay so, because all
    results so far depend on it.
    """
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


class _TestImages:
    """Indices to mapped test images."""

    def __init__(self, images: Sequence[Sample], config: EvaluationConfig) -> None:
        self._images = _Packed(images)
        self._config = config

    def __call__(self, indices: Sequence[int]) -> Batch:
        return [map_test(self._images[index], self._config) for index in indices]
