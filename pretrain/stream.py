"""Batches of views, the same ones whatever the number of processes and of loader workers.

The position of a sample in the training stream decides its image and its augmentation, from the
seed alone; so a stream can be entered at any step, and any sharing among processes is equal. Epochs
follow each other without a gap: a batch may hold the end of one and the start of the next, and no
image is left over.
"""

from collections.abc import Sequence
from functools import partial

import torch
from PIL import Image

from backbones.base.errors import PreflightError
from backbones.base.images import decode
from backbones.base.reading import reading
from backbones.training.objective import Batch
from backbones.training.stream import (
    EpochOrder,
    Loaded,
    epoch_order,
    refuse_too_many,
    sample_generator,
)
from pretrain.data.images import ImageSet
from pretrain.method import Views


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
        self._order = EpochOrder(len(images), partial(epoch_order, len(images), seed))
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
        batch = {name: torch.stack([sample[name] for sample in samples]) for name in names}
        return Loaded(batch, batch["index"].tolist(), unreadable)

    def _sample(self, position: int, unreadable: dict[int, str]) -> Batch:
        epoch, drawn = self._order.at(position)
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
                    with reading(self._images.name_of(index)):
                        return index, decode(self._images.read(index))
                except (OSError, ValueError) as error:
                    self._unreadable[index] = f"{self._images.name_of(index)} ({error})"
            unreadable[index] = self._unreadable[index]
            refuse_too_many(self._unreadable, self._max_corrupt)
            index = (index + 1) % len(self._images)
        raise PreflightError(f"Not one image of {self._images.name} can be read.")
