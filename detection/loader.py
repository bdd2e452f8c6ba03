"""Batches of images, the same ones whatever the number of processes and of loader workers.

The position of a sample in the training stream decides its image and its augmentation, from the
seed alone; so a stream can be entered at any step, and any sharing among processes is equal.
"""

import os
import pickle
import signal
import threading
from collections.abc import Iterator, Sequence
from itertools import count
from random import Random
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from backbones.errors import UserError
from detection.config import DataConfig, DetectionConfig, EvaluationConfig
from detection.mapper import map_test, map_train
from detection.schedule import micro_batches

Sample = dict[str, Any]
Batch = list[Sample]

# Batches that a worker prepares ahead.
_PREFETCH = 2
# A cluster sends these to all processes of a job, but only the main one knows what to do.
_NOT_FOR_WORKERS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


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
        images: Training images (``detection.dataset.load_training_images``).
        config: Its sections ``data`` and ``schedule`` are used.
        seed: Of the run.
        start_step: First step to yield.
        rank: Of this process.
        world_size: Number of processes.
        num_workers: Loader processes; 0 loads in this one.

    Raises:
        UserError: The global batch cannot be shared out, or an image cannot be used.
    """
    per_step = micro_batches(config.schedule, world_size)
    positions = _train_positions(
        config.schedule.batch_size,
        config.schedule.batch_size_per_device,
        start_step=start_step,
        share=(rank, world_size, per_step),
    )
    dataset = _TrainImages(images, config.data, seed)
    return _load(dataset, positions, num_workers)


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
    return _load(_TestImages(images, config), batches, num_workers)


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


class _TrainImages(Dataset[Sample]):
    """Position in the training stream to mapped sample."""

    def __init__(self, images: Sequence[Sample], config: DataConfig, seed: int) -> None:
        self._images = _Packed(images)
        self._config = config
        self._seed = seed
        self._order: tuple[int, list[int]] = (-1, [])

    def __getitem__(self, position: int) -> Sample:
        epoch, place = divmod(position, len(self._images))
        if self._order[0] != epoch:
            self._order = (epoch, epoch_order(len(self._images), self._seed, epoch))
        index = self._order[1][place]
        random = sample_random(self._seed, epoch, index)
        return map_train(self._images[index], self._config, random)


class _TestImages(Dataset[Sample]):
    """Index to mapped test image."""

    def __init__(self, images: Sequence[Sample], config: EvaluationConfig) -> None:
        self._images = _Packed(images)
        self._config = config

    def __getitem__(self, index: int) -> Sample:
        return map_test(self._images[index], self._config)


class _Told(Dataset[Batch | UserError]):
    """Batches of another data set, with a user's mistake as a value.

    An exception that leaves a worker process is wrapped in its stack trace by torch.
    """

    def __init__(self, dataset: Dataset[Sample]) -> None:
        self._dataset = dataset

    def __getitem__(self, positions: list[int]) -> Batch | UserError:
        try:
            return [self._dataset[position] for position in positions]
        except UserError as error:
            return error


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


def _load(
    dataset: Dataset[Sample], batches: Iterator[list[int]], num_workers: int
) -> Iterator[Batch]:
    """Yield the data set's items batch by batch, made by ``num_workers`` processes."""
    loader: DataLoader[Batch | UserError] = DataLoader(
        _Told(dataset),
        batch_size=None,
        sampler=batches,
        num_workers=num_workers,
        prefetch_factor=_PREFETCH if num_workers else None,
        collate_fn=_as_it_is,
        worker_init_fn=_start_worker if num_workers else None,
        # Its own generator: the default one belongs to the model.
        generator=torch.Generator().manual_seed(0),
        pin_memory=False,
    )
    # Workers inherit the blocked signals, so there is no moment at which Ctrl-C could hit them.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _NOT_FOR_WORKERS if num_workers else ())
    try:
        iterator = iter(loader)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    for batch in iterator:
        if isinstance(batch, UserError):
            raise batch
        yield batch


def _as_it_is(batch: Batch | UserError) -> Batch | UserError:
    return batch


def _start_worker(worker: int) -> None:
    """Keep a worker alive through signals to the whole job; let only its parent end it.

    The signals stay blocked; a thread waits for SIGTERM, which torch sends to end a worker.
    """
    del worker
    signal.pthread_sigmask(signal.SIG_BLOCK, _NOT_FOR_WORKERS)
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()


def _end_with_parent(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
