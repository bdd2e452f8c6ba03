"""COCO's numbers of a data set in which images occur more than once, or not at all.

Exactly what COCO's evaluation gives for the data set with those images really repeated, each copy
an image of its own beside the original; only the match is not done again
(pycocotools ``COCOeval.accumulate`` and ``summarize``).

Precision is read at detections that are right, since recall grows nowhere else. A right detection
that occurs w times in a row raises precision w times, so that its last copy rules; w wrong ones
only count. Hence weights do, where no other detection of the same image, class and score stands
between the copies; those few that have such company are taken copy by copy.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from detection.matches import AREAS, IOUS, RECALLS, KindMatches, Matches

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Weights = npt.NDArray[np.int32]

# COCO's twelve numbers, in its own order.
NAMES = (
    "AP", "AP50", "AP75", "APs", "APm", "APl",
    "AR1", "AR10", "AR100", "ARs", "ARm", "ARl",
)  # fmt: skip
_IOU_50, _IOU_75 = 0, 5
_FEW = (1, 10)
# Weights looked at together: 4 MB, so that they stay in a core's cache.
_CELLS_AT_ONCE = 2**20
_WHOLE = -1
# As pycocotools: keeps nothing / nothing a number.
_EPS = np.spacing(1)


def resample(matches: Matches, kind: str, weights: Weights, threads: int = 1) -> Floats:
    """Return COCO's numbers, class by class, under each choice of images.

    Args:
        matches: Of all images.
        kind: "box" or "mask".
        weights: (R, I) how often each image occurs.
        threads: Classes worked on at a time.

    Returns:
        (R, 12, C) percentages in the order of ``NAMES``, NaN where a class has no object.
    """
    found = np.full((len(weights), len(NAMES), len(matches.class_names)), np.nan)
    weights = np.ascontiguousarray(weights, dtype=np.int32)
    bounds = np.searchsorted(matches.classes, np.arange(len(matches.class_names) + 1))
    objects = [np.flatnonzero(matches.object_classes == c) for c in range(len(matches.class_names))]

    def one(number: int) -> None:
        if not len(objects[number]):
            return
        rows = slice(int(bounds[number]), int(bounds[number + 1]))
        ranked = _rank(matches, matches.kinds[kind], rows, int(weights.max(initial=0)))
        sizes = matches.object_sizes[objects[number]]
        at = matches.object_images[objects[number]]
        for part in _parts(len(weights), max(len(ranked.images), len(at))):
            found[part, :, number] = _class(ranked, weights[part], at, sizes)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(one, range(len(matches.class_names))))
    return 100 * found


def mean_of_classes(numbers: Floats) -> Floats:
    """Return the mean over classes that have objects, NaN where none has.

    Args:
        numbers: (..., C).
    """
    known = np.isfinite(numbers)
    total = np.where(known, numbers, 0.0).sum(axis=-1)
    count = known.sum(axis=-1)
    mean: Floats = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return mean


@dataclass(frozen=True)
class _Ranked:
    """Detections of a class in the order of their score.

    Attributes:
        images: (N,) positions of their images.
        copies: (N,) which occurrence of its image each stands for; ``_WHOLE`` for all.
        places: (N,) place in the image and class.
        right: (N, 4, 10) bool.
        ignored: (N, 4, 10) bool.
    """

    images: npt.NDArray[np.int32]
    copies: Ints
    places: Ints
    right: npt.NDArray[np.bool_]
    ignored: npt.NDArray[np.bool_]

    def weigh(self, weights: Weights, rows: Ints | slice = slice(None)) -> Weights:
        """Return how often each of ``rows`` occurs, (R, rows)."""
        found = np.take(weights, self.images[rows], axis=1)
        copies = self.copies[rows]
        parted = np.flatnonzero(copies != _WHOLE)
        if len(parted):
            found[:, parted] = found[:, parted] > copies[parted]
        return found


def _rank(matches: Matches, kind: KindMatches, rows: slice, most: int) -> _Ranked:
    """Return the detections of a class; ``most`` is how often an image occurs at most."""
    images, scores = matches.images[rows], matches.scores[rows]
    order = np.argsort(-scores, kind="stable")
    images, scores = images[order], scores[order]
    ever_right = np.asarray(kind.right[rows][order].any(axis=(1, 2)))
    parted = _in_company(images, scores, ever_right)
    repeats = np.where(parted, max(most, 1), 1)
    index = np.repeat(np.arange(len(order)), repeats)
    copies = np.arange(len(index)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    copies = np.where(parted[index], copies, _WHOLE)
    # Equal scores: by image, then copy of the image, then as they were.
    again = np.lexsort((index, copies, images[index], -scores[index]))
    index, copies = index[again], copies[again]
    return _Ranked(
        images=images[index],
        copies=copies,
        places=matches.places[rows][order][index],
        right=kind.right[rows][order][index],
        ignored=kind.ignored[rows][order][index],
    )


def _in_company(
    images: npt.NDArray[np.int32], scores: npt.NDArray[np.float32], right: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Return which rows share image and score with others, one of them right."""
    if not len(images):
        return np.zeros(0, dtype=bool)
    same = (images[1:] == images[:-1]) & (scores[1:] == scores[:-1])
    group = np.concatenate([[0], np.cumsum(~same)])
    any_right = np.bincount(group, weights=right) > 0
    found: npt.NDArray[np.bool_] = (np.bincount(group)[group] > 1) & any_right[group]
    return found


def _parts(count: int, width: int) -> Iterator[slice]:
    size = max(1, _CELLS_AT_ONCE // max(width, 1))
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def _class(
    ranked: _Ranked, weights: Weights, at: npt.NDArray[np.int32], sizes: npt.NDArray[np.bool_]
) -> Floats:
    """Return the numbers of a class, (R, 12), as shares.

    Args:
        ranked: Its detections.
        weights: (R, I).
        at: (M,) images of its objects.
        sizes: (M, 4) their areas.
    """
    counts = weights[:, at].astype(np.int64) @ sizes.astype(np.int64)
    areas = [_area(ranked, weights, area, counts[:, area]) for area in range(len(AREAS))]
    everything = areas[0]
    few = [_recall(ranked, weights, counts[:, 0], limit) for limit in _FEW]
    columns = [
        everything.precision.mean(axis=1),
        everything.precision[:, _IOU_50],
        everything.precision[:, _IOU_75],
        *(area.precision.mean(axis=1) for area in areas[1:]),
        *few,
        *(area.recall for area in areas),
    ]
    found: Floats = np.stack(columns, axis=1)
    return found


@dataclass(frozen=True)
class _Area:
    """Numbers of one class and area.

    Attributes:
        precision: (R, 10) mean over recalls, NaN without objects.
        recall: (R,) mean over IoUs, NaN without objects.
    """

    precision: Floats
    recall: Floats


def _area(ranked: _Ranked, weights: Weights, area: int, objects: Ints) -> _Area:
    right, ignored = ranked.right[:, area], ranked.ignored[:, area]
    never, always = ~right.any(axis=1), ignored.all(axis=1)
    wrong = np.flatnonzero(never & ~ignored.any(axis=1))
    others = np.flatnonzero(~(never & always) & ~(never & ~ignored.any(axis=1)))
    before = np.zeros((len(weights), len(wrong) + 1), dtype=np.int32)
    np.cumsum(ranked.weigh(weights, wrong), axis=1, out=before[:, 1:])
    before = before[:, np.searchsorted(wrong, others)]
    own = ranked.weigh(weights, others)
    reached = _reached(objects, int(own.sum(axis=1).max(initial=0)))
    precision = np.empty((len(weights), len(IOUS)))
    for iou in range(len(IOUS)):
        hits = np.flatnonzero(right[others, iou])
        counted = np.cumsum(own * ~ignored[others, iou], axis=1, dtype=np.int32)
        precision[:, iou] = _precision(
            np.cumsum(own[:, hits], axis=1), counted[:, hits] + before[:, hits], reached
        )
    precision[objects == 0] = np.nan
    return _Area(precision, _recalled(own, right[others], objects))


def _reached(objects: Ints, most: int) -> Ints:
    """Return how many of ``RECALLS`` are reached with 0, 1, ... right detections, (R, most + 1)."""
    recall = np.arange(most + 1) / np.maximum(objects, 1)[:, None]
    found: Ints = np.searchsorted(RECALLS, recall, side="right")
    return found


def _precision(right: Ints, counted: Ints, reached: Ints) -> Floats:
    """Return the mean over recalls of the best precision from there on.

    Args:
        right: (R, K) right detections so far, at each right one.
        counted: (R, K) all that count so far.
        reached: As ``_reached`` returns it.
    """
    if not right.shape[1]:
        return np.zeros(len(right))
    precision = right / (counted + _EPS)
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    starts = reached.shape[1] * np.arange(len(reached))[:, None]
    steps = np.diff(reached.ravel().take(starts + right), axis=1, prepend=0)
    found: Floats = np.einsum("rk,rk->r", best, steps) / len(RECALLS)
    return found


def _recall(ranked: _Ranked, weights: Weights, objects: Ints, limit: int) -> Floats:
    """Return the recall of the first ``limit`` detections of each image, (R,)."""
    rows = np.flatnonzero(ranked.right[:, 0].any(axis=1) & (ranked.places < limit))
    return _recalled(ranked.weigh(weights, rows), ranked.right[rows, 0], objects)


def _recalled(own: Weights, right: npt.NDArray[np.bool_], objects: Ints) -> Floats:
    """Return the mean over IoUs of the recall, (R,), NaN without objects."""
    total = own.astype(np.float64) @ right.mean(axis=1)
    unknown = np.full(len(own), np.nan)
    found: Floats = np.divide(total, objects, out=unknown, where=objects > 0)
    return found
