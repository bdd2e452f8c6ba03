"""What a backbone is shown of an image: pixels, the same ones for the same image and seed."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as TF

from backbones.base.images import decode
from backbones.base.reading import reading
from backbones.training.stream import sample_generator
from benchmarks.labelled.config import CentralViewConfig
from pretrain.config import PretrainDataConfig as CropConfig
from pretrain.data.images import ImageSet
from pretrain.parts.views.crop import draw_crop


class View(Protocol):
    """Makes a view of an image. Picklable: it goes to loader processes."""

    @property
    def img_size(self) -> int:
        """Side of the view, in pixels."""

    def __call__(self, image: Image.Image, index: int) -> Tensor:
        """Return uint8 (3, img_size, img_size).

        Args:
            image: RGB, upright, any size.
            index: Of the image in its set; what is random depends on it and a seed alone.
        """

    def identity(self) -> dict[str, Any]:
        """Return all that decides what the view looks like, as plain JSON values."""


@dataclass(frozen=True)
class CentralView:
    """The short side resized, the centre cut out.

    Sizes and offsets are torchvision's ``Resize`` and ``CenterCrop``, which the official
    evaluations use.

    Attributes:
        img_size: Side, in pixels.
        resize_to: Short side before the crop, in pixels.
        interpolation: "bicubic" or "bilinear".
    """

    img_size: int
    resize_to: int
    interpolation: str

    @classmethod
    def of(cls, data: CentralViewConfig) -> "CentralView":
        """Return the view that a recipe asks for."""
        return cls(data.img_size, data.resize_to, data.interpolation)

    def __call__(self, image: Image.Image, index: int) -> Tensor:
        """Return uint8 (3, img_size, img_size)."""
        del index
        mode = InterpolationMode(self.interpolation)
        resized = TF.resize(image, [self.resize_to], interpolation=mode)
        cut = TF.center_crop(resized, [self.img_size, self.img_size])
        return torch.from_numpy(np.array(cut)).permute(2, 0, 1).contiguous()

    def identity(self) -> dict[str, Any]:
        """Return all that decides what the view looks like."""
        return {"view": "central", **asdict(self)}


@dataclass(frozen=True)
class RandomView:
    """A random resized crop, mirrored or not, by torchvision's rule.

    Attributes:
        img_size: Side, in pixels.
        crop_scale: Range of the area as a share of the image's.
        flip: Probability of a horizontal flip.
        interpolation: "bicubic" or "bilinear".
        seed: Of the draws.
        number: Which view of each image this is.
    """

    img_size: int
    crop_scale: tuple[float, float]
    flip: float
    interpolation: str
    seed: int
    number: int

    def __call__(self, image: Image.Image, index: int) -> Tensor:
        """Return uint8 (3, img_size, img_size)."""
        data = CropConfig(img_size=self.img_size, crop_scale=self.crop_scale, flip=self.flip)
        resample = Image.Resampling[self.interpolation.upper()]
        generator = sample_generator(self.seed, self.number, index)
        return draw_crop(image, data, "crop", generator, resample)

    def identity(self) -> dict[str, Any]:
        """Return all that decides what the view looks like."""
        return {"view": "random", **asdict(self)}


@dataclass(frozen=True)
class ViewBatch:
    """A batch of views from the loader.

    Attributes:
        pixels: (B, 3, S, S) uint8; zero where an image could not be read.
        unreadable: By place in the batch, where each image lies that could not be read, and why.
    """

    pixels: Tensor
    unreadable: Mapping[int, str] = field(default_factory=dict)

    def pin_memory(self) -> "ViewBatch":
        """Return the same in memory that a GPU can copy from; torch's loader asks for it."""
        return replace(self, pixels=self.pixels.pin_memory())


class Show:
    """Makes the batch of views of given images. Picklable."""

    def __init__(self, images: ImageSet, view: View) -> None:
        """Take images and what to show of them."""
        self._images = images
        self._view = view

    def __call__(self, indices: Sequence[int]) -> ViewBatch:
        """Return the views of the images at ``indices``."""
        size = self._view.img_size
        pixels = torch.zeros(len(indices), 3, size, size, dtype=torch.uint8)
        unreadable: dict[int, str] = {}
        for place, index in enumerate(indices):
            try:
                with reading(self._images.name_of(index)):
                    image = decode(self._images.read(index))
            except (OSError, ValueError) as error:
                unreadable[place] = f"{self._images.name_of(index)} ({error})"
                continue
            pixels[place] = self._view(image, index)
        return ViewBatch(pixels, unreadable)
