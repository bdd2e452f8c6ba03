"""Random geometry of training images: drawn first, then applied to pixels, points and masks.

A drawn plan is a tuple of steps, equal in effect to detectron2's transforms of the same
parameters. Drawing uses ``random.Random.random`` alone, whose stream Python guarantees.
"""

from dataclasses import dataclass
from random import Random

import numpy as np
import numpy.typing as npt
from PIL import Image

from detection.config import DetectionDataConfig

Points = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Flip:
    """A horizontal flip of an image that is ``width`` pixels wide."""

    width: int


@dataclass(frozen=True)
class Resize:
    """A resize of ``height`` x ``width`` to ``new_height`` x ``new_width`` pixels."""

    height: int
    width: int
    new_height: int
    new_width: int


@dataclass(frozen=True)
class Crop:
    """A cut of ``height`` x ``width`` pixels with the upper left corner ``left``, ``top``."""

    left: int
    top: int
    height: int
    width: int


Step = Flip | Resize | Crop
Plan = tuple[Step, ...]


def draw_plan(config: DetectionDataConfig, height: int, width: int, random: Random) -> Plan:
    """Draw how one training image is varied.

    Args:
        config: Kind and ranges.
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        random: Generator of this sample alone.
    """
    steps: list[Step] = []
    if random.random() < config.flip:
        steps.append(Flip(width))
    if config.augmentation == "lsj":
        steps += _draw_scale_jitter(config, height, width, random)
        return tuple(steps)
    if config.augmentation == "multiscale-crop" and random.random() < 0.5:
        # Swin-Transformer-Object-Detection's configs, after DETR.
        before = resize_short_side(
            height, width, _choice(config.crop_short_sides, random), config.max_size
        )
        crop = _draw_crop(before.new_height, before.new_width, config.crop_range, random)
        steps += [before, crop]
        height, width = crop.height, crop.width
    short_side = _choice(config.short_sides, random)
    return (*steps, resize_short_side(height, width, short_side, config.max_size))


def resize_short_side(height: int, width: int, short_side: int, max_size: int) -> Resize:
    """Return the resize that brings the short side to ``short_side``, the long one within bounds.

    Rounds as detectron2's ``ResizeShortestEdge``.

    Args:
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        short_side: Wanted length of the short side.
        max_size: Upper bound of the long side, which goes first.
    """
    scale = short_side / min(height, width)
    new_height, new_width = scale * height, scale * width
    if height < width:
        new_height = float(short_side)
    else:
        new_width = float(short_side)
    if max(new_height, new_width) > max_size:
        scale = max_size / max(new_height, new_width)
        new_height, new_width = new_height * scale, new_width * scale
    return Resize(height, width, max(1, int(new_height + 0.5)), max(1, int(new_width + 0.5)))


def apply_to_image(plan: Plan, image: Image.Image) -> Image.Image:
    """Return the varied image; pixels that a later crop throws away are never computed."""
    position = 0
    while position < len(plan):
        step = plan[position]
        following = plan[position + 1] if position + 1 < len(plan) else None
        if isinstance(step, Flip):
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        elif isinstance(step, Crop):
            image = image.crop(
                (step.left, step.top, step.left + step.width, step.top + step.height)
            )
        elif isinstance(following, Crop):
            image = _resized_part(image, step, following)
            position += 1
        else:
            image = image.resize((step.new_width, step.new_height), Image.Resampling.BILINEAR)
        position += 1
    return image


def apply_to_points(plan: Plan, points: Points) -> Points:
    """Return moved (N, 2) points x, y in pixels; points that a crop leaves outside are kept."""
    points = points.copy()
    for step in plan:
        if isinstance(step, Flip):
            points[:, 0] = step.width - points[:, 0]
        elif isinstance(step, Resize):
            points[:, 0] *= step.new_width / step.width
            points[:, 1] *= step.new_height / step.height
        else:
            points -= (step.left, step.top)
    return points


def source_pixels(plan: Plan, height: int, width: int) -> tuple[Indices, Indices]:
    """Return the source row of each row, and the source column of each column, of the result.

    This is the plan for label maps, whose resize takes the nearest pixel.

    Args:
        plan: Its steps.
        height: Of the image before the plan, in pixels.
        width: Of the image before the plan, in pixels.
    """
    rows, columns = np.arange(height), np.arange(width)
    for step in plan:
        if isinstance(step, Flip):
            columns = columns[::-1]
        elif isinstance(step, Resize):
            rows = rows[_nearest(step.height, step.new_height)]
            columns = columns[_nearest(step.width, step.new_width)]
        else:
            rows = rows[step.top : step.top + step.height]
            columns = columns[step.left : step.left + step.width]
    return rows, columns


def _draw_scale_jitter(
    config: DetectionDataConfig, height: int, width: int, random: Random
) -> list[Step]:
    """Draw large-scale jitter: fit the image into a scaled square, cut the square out of it.

    As detectron2's ``ResizeScale`` and ``FixedSizeCrop`` without padding, which the model does.
    """
    low, high = config.scale_range
    side = config.img_size * (low + (high - low) * random.random())
    scale = min(side / height, side / width)
    # numpy rounds halves to even, as upstream does; a sliver of an image keeps one pixel.
    new_height, new_width = (max(1, int(np.round(length * scale))) for length in (height, width))
    place = random.random()
    top, left = (
        int(np.round(place * max(0, length - config.img_size)))
        for length in (new_height, new_width)
    )
    steps: list[Step] = [Resize(height, width, new_height, new_width)]
    if max(new_height, new_width) > config.img_size:
        cut = (min(new_height, config.img_size), min(new_width, config.img_size))
        steps.append(Crop(left, top, *cut))
    return steps


def _draw_crop(height: int, width: int, sides: tuple[int, int], random: Random) -> Crop:
    """Draw a crop with sides in a range, within the image; as ``RandomCrop("absolute_range")``."""
    new_height, new_width = (
        _integer(min(length, sides[0]), min(length, sides[1]), random) for length in (height, width)
    )
    top, left = _integer(0, height - new_height, random), _integer(0, width - new_width, random)
    return Crop(left, top, new_height, new_width)


def _integer(low: int, high: int, random: Random) -> int:
    """Draw an integer, both ends included."""
    return low + int(random.random() * (high - low + 1))


def _choice(values: tuple[int, ...], random: Random) -> int:
    return values[_integer(0, len(values) - 1, random)]


def _resized_part(image: Image.Image, resize: Resize, crop: Crop) -> Image.Image:
    """Return ``crop`` of the resized image without making the rest of it."""
    x_scale, y_scale = image.width / resize.new_width, image.height / resize.new_height
    box = (
        crop.left * x_scale,
        crop.top * y_scale,
        min((crop.left + crop.width) * x_scale, image.width),
        min((crop.top + crop.height) * y_scale, image.height),
    )
    return image.resize((crop.width, crop.height), Image.Resampling.BILINEAR, box=box)


def _nearest(old: int, new: int) -> Indices:
    """Return the source index of each of ``new`` pixels.

    Pillow adds the step up pixel by pixel, so its rounding can only be had by the same sum.
    """
    step = old / new
    sums = np.cumsum(np.concatenate(([step * 0.5], np.full(new - 1, step))))
    return np.minimum(sums.astype(np.intp), old - 1)
