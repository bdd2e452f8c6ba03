"""Ranks that cannot be excluded, and brackets of entries that cannot be told apart."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Standing:
    """Of a row among those of its table.

    Attributes:
        rank: Best and worst that cannot be excluded.
        brackets: Positions of those it stands in.
    """

    rank: tuple[int, int]
    brackets: tuple[int, ...]


def standings(
    better: npt.NDArray[np.bool_], rows: Sequence[int]
) -> tuple[dict[int, Standing], tuple[tuple[int, int], ...]]:
    """Return the standing of rows by position, and the brackets: first and last position.

    A row's best rank comes after all rows that are surely better, its worst before all that are
    surely worse; the verdicts hold together, so the intervals do too (Mogstad et al. 2024,
    "Inference for ranks with applications to mobility across neighbourhoods").

    Args:
        better: (N, N) whether a row is surely better than another; rows stand best first.
        rows: Their N positions in the table, ascending.
    """
    brackets = _brackets(better | better.T)
    found = {}
    for index, position in enumerate(rows):
        rank = (1 + int(better[:, index].sum()), len(rows) - int(better[index].sum()))
        inside = tuple(n for n, (a, b) in enumerate(brackets) if a <= index <= b)
        found[position] = Standing(rank, inside)
    return found, tuple((rows[first], rows[last]) for first, last in brackets)


def _brackets(apart: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the longest runs of rows of which no two are surely apart."""
    found: list[tuple[int, int]] = []
    start = 0
    for end in range(len(apart)):
        clash = np.flatnonzero(apart[start : end + 1, end])
        if len(clash):
            start += int(clash[-1]) + 1
        if end > start and (end + 1 == len(apart) or apart[start : end + 2, end + 1].any()):
            found.append((start, end))
    return found
