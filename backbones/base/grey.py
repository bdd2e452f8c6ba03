"""Grey images of 16 and 32 bits to 8 bits, by the values of one image or of a whole set.

No header says how many of its bits a file uses, so its largest value does: up to 255 it holds 8
bits, up to 4,095 the 12 of thermal cameras and microscopes, up to 65,535 16 bits, else as many as
that value takes. Files with negative values (CT in Hounsfield units) are shifted so that their
lowest value becomes black.

In a set whose files use different numbers of bits, a dark image of a 12-bit camera would become as
bright as its neighbours. There the bits of the brightest images count for all, with two exceptions:
few images that need more (a marker, a faulty pixel) keep their own scale, and so do images that
fill fewer bits to the brim, because they come from another device.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

# Levels of grey that cameras and microscopes fill of a file's 16 or 32 bits.
_GREY_BITS = (8, 12, 16)
# Share of a set's images that may need more bits than the rest without deciding for it.
_FEW = 0.05
# An image fills its bits when it reaches this share of their range, and a set has another device
# when this share of the images with fewer bits does.
_FILLED = 0.75
_MOSTLY = 0.8


@dataclass(frozen=True)
class GreyScale:
    """How deep grey images of a set become 8 bits.

    Attributes:
        lowest: Value that becomes black; None for 0, or an image's own lowest where it is negative.
        bits: Fewest bits that an image is scaled by; 0 for as many as it uses.
    """

    lowest: int | None = None
    bits: int = 0


BY_IMAGE = GreyScale()


def to_8_bits(values: Ints, scale: GreyScale = BY_IMAGE) -> npt.NDArray[np.uint8]:
    """Return (H, W) grey values as (H, W) from 0 to 255."""
    lowest, _ = levels(values)
    black = min(0, lowest) if scale.lowest is None else scale.lowest
    above = (values - black).clip(min=0)
    largest = int(above.max(initial=0))
    bits = max(scale.bits, _shifted_bits(largest) if black < 0 else grey_bits(largest))
    return (above >> (bits - 8)).astype(np.uint8)


def levels(values: Ints) -> tuple[int, int]:
    """Return the lowest and the largest of (H, W) values, a value for "nothing here" left out.

    A lowest value that is negative and farther from the next one than that is from 0 (-32,768,
    -9,999, -1) marks pixels without a measurement.
    """
    if not values.size:
        return 0, 0
    lowest, largest = int(values.min()), int(values.max())
    if lowest < 0:
        following = int(values.min(initial=largest, where=values > lowest))
        if following > lowest / 2:
            lowest = following
    return lowest, largest


def grey_bits(largest: int) -> int:
    """Return how many bits a deep grey image without negative values uses.

    Args:
        largest: Value of the image.
    """
    known = [bits for bits in _GREY_BITS if largest < 1 << bits]
    return known[0] if known else largest.bit_length()


def _shifted_bits(largest: int) -> int:
    """Return the bits of values that were shifted, which fill no camera's range exactly."""
    return max(8, largest.bit_length())


def scale_of_set(found: Sequence[tuple[int, int]]) -> GreyScale:
    """Return how the deep grey images of a set become 8 bits.

    Args:
        found: The ``levels`` of each of its deep grey images. Where all use the same bits and none
            is negative, each image decides by itself, which gives the same for all.
    """
    lowest = min((low for low, _ in found), default=0)
    if lowest < 0:
        largest = np.array([high - lowest for _, high in found])
        return GreyScale(lowest, _shifted_bits(_of_most(largest)))
    bits = np.array([grey_bits(high) for _, high in found], dtype=np.int64)
    if len(set(bits.tolist())) < 2:
        return BY_IMAGE
    shared = _of_most(bits)
    fewer = [high / (1 << own) for (_, high), own in zip(found, bits, strict=True) if own < shared]
    if not fewer or np.mean(np.array(fewer) >= _FILLED) >= _MOSTLY:
        return BY_IMAGE
    return GreyScale(bits=shared)


def _of_most(numbers: Ints) -> int:
    """Return the smallest of (N,) numbers that all but a few do not exceed."""
    return int(np.quantile(numbers, 1 - _FEW, method="higher"))
