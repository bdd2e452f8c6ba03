"""Batches of views, the same ones whatever the number of processes and of loader workers.

The position of a sample in the training stream decides its image and its augmentation, from the
seed alone; so a stream can be entered at any step, and any sharing among processes is equal. Epochs
follow each other without a gap: a batch may hold the end of one and the start of the next, and no
image is left over.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

import torch
from PIL import Image
from torch import Tensor

from backbones.errors import PreflightError
from backbones.images import decode
from backbones.sharing import micro_batches
from backbones.training_state import random_seed
from backbones.workers import make_in_workers
from pretrain.config import ScheduleConfig
from pretrain.data.images import ImageSet
from pretrain.method import Batch, Views


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


def share_out(schedule: ScheduleConfig, rank: int, world_size: int) -> Share:
    """Return a process's share of the global batch.

    Raises:
        UserError: The batch cannot be shared out evenly.
    """
    micro_batches(schedule.batch_size, schedule.batch_size_per_device, world_size)
    return Share(schedule.batch_size, schedule.batch_size_per_device, rank, world_size)


@dataclass(frozen=True)
class Loaded:
    """A micro-batch from the loader.

    Attributes:
        batch: Views by name, "index", and "label" where the images have classes; on the CPU.
        unreadable: By index, where each image lies that could not be read, and why.
    """

    batch: Batch
    unreadable: Mapping[int, str] = field(default_factory=dict)

    def pin_memory(self) -> "Loaded":
        """Return the same in memory that a GPU can copy from; torch's loader asks for it."""
        return replace(self, batch={k: v.pin_memory() for k, v in self.batch.items()})


class Samples:
    """Makes the micro-batch at given positions of the training stream. Picklable."""

    def __init__(self, images: ImageSet, views: Views, seed: int, max_corrupt: int) -> None:
        """Set up.

        Args:
            images: To draw from.
            views: Of each image.
            seed: Of the run.
            max_corrupt: So many different images may be unreadable.
        """
        self._images = images
        self._views = views
        self._seed = seed
        self._max_corrupt = max_corrupt
        self._order: tuple[int, Tensor] = (-1, torch.empty(0))
        self._unreadable: dict[int, str] = {}

    def __call__(self, positions: Sequence[int]) -> Loaded:
        """Return the batch of these positions.

        An unreadable image is replaced by the next readable one of the set.

        Raises:
            PreflightError: More images than ``max_corrupt`` are unreadable.
        """
        unreadable: dict[int, str] = {}
        samples = [self._sample(position, unreadable) for position in positions]
        names = samples[0].keys()
        return Loaded({n: torch.stack([s[n] for s in samples]) for n in names}, unreadable)

    def _sample(self, position: int, unreadable: dict[int, str]) -> Batch:
        epoch, place = divmod(position, len(self._images))
        if self._order[0] != epoch:
            self._order = (epoch, epoch_order(len(self._images), self._seed, epoch))
        drawn = int(self._order[1][place])
        index, image = self._read(drawn, unreadable)
        sample = self._views(image, sample_generator(self._seed, epoch, drawn))
        sample["index"] = torch.tensor(index)
        if self._images.classes:
            sample["label"] = torch.tensor(self._images.label(index))
        return sample

    def _read(self, index: int, unreadable: dict[int, str]) -> tuple[int, Image.Image]:
        """Return the image at ``index``, or the next readable one, with its index."""
        for _ in range(len(self._images)):
            if index not in self._unreadable:
                try:
                    return index, decode(self._images.read(index))
                except (OSError, ValueError) as error:
                    self._unreadable[index] = f"{self._images.name_of(index)} ({error})"
            unreadable[index] = self._unreadable[index]
            refuse_too_many(self._unreadable, self._max_corrupt)
            index = (index + 1) % len(self._images)
        raise PreflightError(f"Not one image of {self._images.name} can be read.")


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
