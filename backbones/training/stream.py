"""Batches of samples that depend on (seed, epoch, index), whatever the number of processes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

import torch
from torch import Tensor

from backbones.base.errors import PreflightError
from backbones.base.micro_batches import micro_batches
from backbones.base.workers import make_in_workers
from backbones.training.config import ScheduleSettings
from backbones.training.objective import Batch
from backbones.training.state import random_seed


@dataclass(frozen=True)
class Share:
    """A process's share of every step.

    Attributes:
        batch_size: Images a step over all processes.
        micro_size: Images a process holds at once.
        rank: Of this process.
        world_size: Number of processes.
    """

    batch_size: int
    micro_size: int
    rank: int = 0
    world_size: int = 1

    @property
    def micro_batches(self) -> int:
        """Micro-batches that this process adds up in a step."""
        return micro_batches(self.batch_size, self.micro_size, self.world_size)

    def about(self, couples_images: bool) -> str:
        """Return the share in words.

        Args:
            couples_images: Losses compare the images of a micro-batch with one another.
        """
        text = (
            f"{self.batch_size} images a step = {self.world_size} processes x "
            f"{self.micro_batches} micro-batches x {self.micro_size} images"
        )
        if couples_images and self.micro_batches > 1:
            together = self.micro_size * self.world_size
            text += f" (images are compared with {together} at once, not with {self.batch_size})"
        return text

    def number(self, micro: int) -> int:
        """Return the number in the global batch of this process's micro-batch ``micro``."""
        return micro * self.world_size + self.rank

    def positions(self, start_step: int) -> Iterator[list[int]]:
        """Yield the stream positions of each micro-batch of this process, without end."""
        for step in count(start_step):
            for micro in range(self.micro_batches):
                start = step * self.batch_size + self.number(micro) * self.micro_size
                yield list(range(start, start + self.micro_size))


def share_out(schedule: ScheduleSettings, rank: int, world_size: int) -> Share:
    """Return a process's share of the global batch.

    Raises:
        UserError: The batch cannot be shared out evenly.
    """
    size = schedule.micro_batch or schedule.batch_size_per_device
    micro_batches(schedule.batch_size, size, world_size)
    return Share(schedule.batch_size, size, rank, world_size)


@dataclass(frozen=True)
class Loaded:
    """A micro-batch from the loader.

    Attributes:
        batch: What ``Objective.forward`` takes, on the CPU, pixels as uint8.
        images: What an error message calls its images: indices or ids of the data set.
        unreadable: By index, where each image lies that could not be read, and why.
    """

    batch: Batch
    images: Sequence[int | str]
    unreadable: Mapping[int, str] = field(default_factory=dict)

    def pin_memory(self) -> "Loaded":
        """Return the same in memory that a GPU can copy from; torch's loader asks for it."""
        return replace(self, batch={k: v.pin_memory() for k, v in self.batch.items()})


def batches(
    samples: Callable[[Sequence[int]], Loaded],
    share: Share,
    start_step: int,
    num_workers: int,
    pin_memory: bool = False,
) -> Iterator[Loaded]:
    """Yield this process's micro-batches, step after step, without end.

    Args:
        samples: Makes the batch of given positions.
        share: This process's share of a step.
        start_step: First step to yield.
        num_workers: Loader processes; 0 loads in this one.
        pin_memory: For copies to a GPU that do not wait.

    Raises:
        PreflightError: More images than allowed are unreadable.
    """
    return make_in_workers(samples, share.positions(start_step), num_workers, pin_memory)


class EpochOrder:
    """Finds the image at a position of the training stream, epoch after epoch. Picklable."""

    def __init__(self, num_images: int, order_of: Callable[[int], Sequence[int] | Tensor]) -> None:
        """Set up.

        Args:
            num_images: Images in use.
            order_of: Returns the order of the images' indices in an epoch.
        """
        self._num_images = num_images
        self._order_of = order_of
        self._latest: tuple[int, Sequence[int] | Tensor] = (-1, ())

    def at(self, position: int) -> tuple[int, int]:
        """Return the epoch and the image's index at a position, both from 0."""
        epoch, place = divmod(position, self._num_images)
        if self._latest[0] != epoch:
            self._latest = (epoch, self._order_of(epoch))
        return epoch, int(self._latest[1][place])


def epoch_order(num_images: int, seed: int, epoch: int) -> Tensor:
    """Return the order of images in an epoch, a function of seed and epoch alone."""
    generator = torch.Generator().manual_seed(random_seed("order", seed, epoch))
    return torch.randperm(num_images, generator=generator)


def sample_generator(seed: int, epoch: int, index: int) -> torch.Generator:
    """Return the generator of all draws for one image in one epoch."""
    return torch.Generator().manual_seed(random_seed("views", seed, epoch, index))


def refuse_too_many(unreadable: Mapping[int, str], limit: int) -> None:
    """Stop where more than ``limit`` images cannot be read.

    Raises:
        PreflightError: Names the last of them.
    """
    if len(unreadable) > limit:
        last = list(unreadable.values())[-1]
        raise PreflightError(
            f"{len(unreadable)} images cannot be read, more than data.max_corrupt = {limit} allows;"
            f" the last is {last}. Mend or remove them, or raise the limit with --set."
        )
