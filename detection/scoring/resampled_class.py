"""COCO's numbers of one class under many choices of images at once.

What does not depend on the choice is prepared once. Tables hold choices as columns, so that taking
an image's row or adding rows up goes through memory in order; sums over the many detections that
are never right are products with sparse matrices of ones.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from detection.scoring.matches import AREAS, IOUS, RECALLS

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Weights = npt.NDArray[np.int32]

# COCO's twelve numbers, in its own order.
NAMES = (
    "AP", "AP50", "AP75", "APs", "APm", "APl",
    "AR1", "AR10", "AR100", "ARs", "ARm", "ARl",
)  # fmt: skip
WHOLE = -1
_IOU_50, _IOU_75 = 0, 5
_FEW = (1, 10, 100)
# As pycocotools: keeps nothing / nothing a number.
_EPS = np.spacing(1)


@dataclass(frozen=True)
class Ranked:
    """Detections of a class in the order of their score.

    Attributes:
        images: (N,) positions of their images.
        copies: (N,) which occurrence of its image each stands for; ``WHOLE`` for all.
        places: (N,) place in the image and class.
        right: (N, 4, 10) bool.
        ignored: (N, 4, 10) bool.
    """

    images: Weights
    copies: Ints
    places: Ints
    right: Bools
    ignored: Bools


class ResampledClass:
    """One class, ready for any choice of its images."""

    def __init__(self, ranked: Ranked, images: Weights, sizes: Bools) -> None:
        """Prepare.

        Args:
            ranked: Its detections.
            images: (M,) positions of the images of its objects.
            sizes: (M, 4) areas of its objects.
        """
        self._used = np.unique(np.concatenate([ranked.images, images]))
        rows = np.searchsorted(self._used, ranked.images).astype(np.int32)
        parted = np.flatnonzero(ranked.copies != WHOLE)
        self._images, self._copies = ranked.images[parted], ranked.copies[parted, None]
        rows[parted] = len(self._used) + np.arange(len(parted))
        width = len(self._used) + len(parted)
        at = np.searchsorted(self._used, images).astype(np.int32)
        self._objects = _sums([at[sizes[:, area]] for area in range(len(AREAS))], width)
        self._found = _sums(_found(ranked, rows), width)
        self._areas = [
            _Area(ranked.right[:, area], ranked.ignored[:, area], rows, width)
            for area in range(len(AREAS))
        ]

    def numbers(self, table: Weights) -> Floats:
        """Return the numbers, (R, 12), as shares, NaN without objects.

        Args:
            table: (I, R) how often each image occurs.
        """
        table = np.concatenate([table[self._used], table[self._images] > self._copies])
        objects = self._objects @ table
        found = self._found @ table
        areas = [area.precision(table, own) for area, own in zip(self._areas, objects, strict=True)]
        everything = areas[0]
        columns = [
            everything.mean(axis=0),
            everything[_IOU_50],
            everything[_IOU_75],
            *(area.mean(axis=0) for area in areas[1:]),
            *(_recall(own, objects[0]) for own in found[: len(_FEW)]),
            *map(_recall, found[len(_FEW) :], objects[1:]),
        ]
        return np.stack(columns, axis=1)


class _Area:
    """Detections of one class as they count for objects of one area."""

    def __init__(self, right: Bools, ignored: Bools, rows: Weights, width: int) -> None:
        """Prepare.

        Args:
            right: (N, 10).
            ignored: (N, 10).
            rows: (N,) rows of tables.
            width: Rows of a table.
        """
        ever = np.flatnonzero(right.any(axis=1))
        sometimes = ignored.any(axis=1) & ~ignored.all(axis=1)
        # Those that count at every IoU are added up once for all.
        self._always = _between(ever, np.flatnonzero(~ignored.any(axis=1)), rows, width)
        self._ious = []
        for iou in range(len(IOUS)):
            hits = np.flatnonzero(right[:, iou])
            own = np.flatnonzero(sometimes & ~ignored[:, iou])
            more = _between(hits, own, rows, width) if len(own) and len(hits) else None
            self._ious.append((rows[hits], np.searchsorted(ever, hits), more))

    def precision(self, table: Weights, objects: Weights) -> Floats:
        """Return the mean over recalls, (10, R), NaN without objects.

        Args:
            table: (rows, R).
            objects: (R,) how many there are.
        """
        always = np.cumsum(self._always @ table, axis=0, dtype=np.int32)
        right = [
            np.cumsum(table.take(rows, axis=0), axis=0, dtype=np.int32) for rows, _, _ in self._ious
        ]
        reached = _reached(objects, max(int(own[-1].max()) if len(own) else 0 for own in right))
        found = np.zeros((len(IOUS), len(objects)))
        for iou, (_, places, more) in enumerate(self._ious):
            if not len(places):
                continue
            counted = always.take(places, axis=0)
            if more is not None:
                counted += np.cumsum(more @ table, axis=0, dtype=np.int32)
            found[iou] = _precision(right[iou], counted, reached)
        found[:, objects == 0] = np.nan
        return found


def _found(ranked: Ranked, rows: Weights) -> list[Weights]:
    """Return rows of right detections, as often as they are at any IoU: few an image, by area."""
    everywhere = ranked.right.sum(axis=2)
    few = [np.where(ranked.places < limit, everywhere[:, 0], 0) for limit in _FEW]
    return [np.repeat(rows, times) for times in (*few, *everywhere.T[1:])]


def _sums(rows: list[Weights], width: int) -> csr_array:
    """Return the matrix that adds up some rows of a table, (len(rows), width)."""
    ends = np.cumsum([0, *map(len, rows)])
    return _ones(np.concatenate(rows), ends, width)


def _between(ends: Ints, counted: Ints, rows: Weights, width: int) -> csr_array:
    """Return the matrix that adds up a table's rows from one end, excluded, to the next, included.

    Args:
        ends: (K,) places among detections, ascending.
        counted: Places of detections that count, ascending.
        rows: (N,) rows of the table.
        width: Rows of the table.
    """
    starts = np.concatenate([[0], np.searchsorted(counted, ends, side="right")])
    return _ones(rows[counted[: starts[-1]]], starts, width)


def _ones(columns: Weights, starts: Ints, width: int) -> csr_array:
    ones = np.ones(len(columns), dtype=np.int32)
    return csr_array((ones, columns, starts.astype(np.int32)), shape=(len(starts) - 1, width))


def _reached(objects: Weights, most: int) -> npt.NDArray[np.uint8]:
    """Return how many ``RECALLS`` 0, 1, ... right ones of (R,) objects reach, (most + 1, R)."""
    different, which = np.unique(objects, return_inverse=True)
    recall = np.arange(most + 1)[:, None] / np.maximum(different, 1)
    return np.searchsorted(RECALLS, recall, side="right").astype(np.uint8)[:, which]


def _precision(right: Weights, counted: Weights, reached: npt.NDArray[np.uint8]) -> Floats:
    """Return the mean over recalls of the best precision from there on, (R,).

    Args:
        right: (K, R) right detections so far, at each right one.
        counted: (K, R) all that count so far.
        reached: As ``_reached`` returns it.
    """
    best = right / (counted + _EPS)
    np.maximum.accumulate(best[::-1], axis=0, out=best[::-1])
    width = right.shape[1]
    steps = reached.ravel().take(right * np.int64(width) + np.arange(width))
    steps[1:] -= steps[:-1].copy()
    found: Floats = np.einsum("kr,kr->r", best, steps) / len(RECALLS)
    return found


def _recall(found: Weights, objects: Weights) -> Floats:
    """Return the mean over IoUs of the recall, (R,), NaN without objects."""
    unknown = np.full(len(objects), np.nan)
    recall: Floats = np.divide(found, objects * len(IOUS), out=unknown, where=objects > 0)
    return recall
