"""Random numbers that are the same on every machine and with every version of numpy.

numpy promises the bit stream of a bit generator, but not what its ``Generator`` methods make of
it; the few methods here use the raw bits alone.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


class Stream:
    """One stream of random numbers, fixed by a key of non-negative integers."""

    def __init__(self, *key: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(key))

    def fraction(self) -> float:
        """Return a number in [0, 1), with 53 random bits."""
        return (int(self._bits.random_raw()) >> 11) * 2.0**-53

    def between(self, low: float, high: float) -> float:
        """Return a number in [low, high)."""
        return low + (high - low) * self.fraction()

    def integer(self, low: int, high: int) -> int:
        """Return an integer from ``low`` to ``high``, both included."""
        return low + int(self._bits.random_raw()) % (high - low + 1)

    def pick(self, items: Sequence[T]) -> T:
        """Return one of ``items``, all equally likely."""
        return items[self.integer(0, len(items) - 1)]

    def chance(self, probability: float) -> bool:
        """Return True with the given probability."""
        return self.fraction() < probability

    def noise(self, shape: tuple[int, ...], low: int, high: int) -> NDArray[np.int32]:
        """Return an array of ``shape`` with integers from ``low`` to ``high``, both included."""
        size = int(np.prod(shape))
        raw = np.asarray(self._bits.random_raw((size + 7) // 8), dtype="<u8").view(np.uint8)
        return (low + raw[:size].astype(np.int32) * (high - low + 1) // 256).reshape(shape)
