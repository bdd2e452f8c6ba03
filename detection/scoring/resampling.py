"""COCO's numbers of a data set in which images occur more than once, or not at all.

Exactly what COCO's evaluation gives for the data set with those images really repeated, each copy
an image of its own beside the original; only the match is not done again
(pycocotools ``COCOeval.accumulate`` and ``summarize``).

Precision is read at detections that are right, since recall grows nowhere else. A right detection
that occurs w times in a row raises precision w times, so that its last copy rules; w wrong ones
only count. Hence weights do, where no other detection of the same image, class and score stands
between the copies; those few that have such company are taken copy by copy.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from detection.scoring.matches import DetectionMatches, KindMatches
from detection.scoring.resampled_class import NAMES, WHOLE, Floats, Ranked, ResampledClass, Weights

__all__ = ["NAMES", "resample"]

# Choices looked at together: few enough that 5,000 images stay in a core's cache, and no power of
# two, since rows so far apart displace each other there.
_CHOICES_AT_ONCE = 250


def resample(matches: DetectionMatches, kind: str, weights: Weights, threads: int = 1) -> Floats:
    """Return COCO's numbers, class by class, under each choice of images.

    Args:
        matches: Of all images.
        kind: "box" or "mask".
        weights: (R, I) how often each image occurs.
        threads: Classes worked on at a time.

    Returns:
        (R, 12, C) percentages in the order of ``NAMES``, NaN where a class has no object.
    """
    num_classes = len(matches.class_names)
    found = np.full((len(weights), len(NAMES), num_classes), np.nan)
    most = int(weights.max(initial=0))
    starts = range(0, len(weights), _CHOICES_AT_ONCE)
    parts = [slice(start, start + _CHOICES_AT_ONCE) for start in starts]
    tables = [np.ascontiguousarray(weights[part].T, dtype=np.int32) for part in parts]
    bounds = np.searchsorted(matches.classes, np.arange(num_classes + 1))

    def one(number: int) -> None:
        objects = np.flatnonzero(matches.object_classes == number)
        if not len(objects):
            return
        rows = slice(int(bounds[number]), int(bounds[number + 1]))
        own = ResampledClass(
            _rank(matches, matches.kinds[kind], rows, most),
            matches.object_images[objects],
            matches.object_sizes[objects],
        )
        for part, table in zip(parts, tables, strict=True):
            found[part, :, number] = own.numbers(table)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(one, range(num_classes)))
    return 100 * found


def _rank(matches: DetectionMatches, kind: KindMatches, rows: slice, most: int) -> Ranked:
    """Return the detections of a class; ``most`` is how often an image occurs at most."""
    images, scores = matches.images[rows], matches.scores[rows]
    order = np.argsort(-scores, kind="stable")
    images, scores = images[order], scores[order]
    ever_right = np.asarray(kind.right[rows][order].any(axis=(1, 2)))
    parted = _in_company(images, scores, ever_right)
    repeats = np.where(parted, max(most, 1), 1)
    index = np.repeat(np.arange(len(order)), repeats)
    copies = np.arange(len(index)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    copies = np.where(parted[index], copies, WHOLE)
    # Equal scores: by image, then copy of the image, then as they were.
    again = np.lexsort((index, copies, images[index], -scores[index]))
    index, copies = index[again], copies[again]
    return Ranked(
        images=images[index],
        copies=copies,
        places=matches.places[rows][order][index],
        right=kind.right[rows][order][index],
        ignored=kind.ignored[rows][order][index],
    )


def _in_company(
    images: npt.NDArray[np.int32],
    scores: npt.NDArray[np.floating[Any]],
    right: npt.NDArray[np.bool_],
) -> npt.NDArray[np.bool_]:
    """Return which of (N,) rows share image and score with others, one of them right, (N,)."""
    if not len(images):
        return np.zeros(0, dtype=bool)
    same = (images[1:] == images[:-1]) & (scores[1:] == scores[:-1])
    group = np.concatenate([[0], np.cumsum(~same)])
    any_right = np.bincount(group, weights=right) > 0
    found: npt.NDArray[np.bool_] = (np.bincount(group)[group] > 1) & any_right[group]
    return found
