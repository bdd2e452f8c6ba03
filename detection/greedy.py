"""COCO's greedy match of detections with objects, for many images and classes at a time.

The rule is that of pycocotools ``COCOeval.evaluateImg``: detections choose in order of their
score; each takes the free object of highest IoU, ignored objects only where no other is left, and
of equal ones the last. Crowds never fill.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from detection.matches import AREAS, IOUS

Bools = npt.NDArray[np.bool_]
# A match at IoU 1 must survive rounding (pycocotools ``COCOeval.evaluateImg``).
_THRESHOLDS = np.minimum(IOUS, 1 - 1e-10)
# Groups matched at a time, so that their padded arrays stay small.
_CHUNK = 1_000


@dataclass(frozen=True)
class Group:
    """Detections and objects of one image and class, at least one of each.

    Attributes:
        rows: Of the detections, best first.
        ious: (D, G) IoU of each detection with each object.
        crowd: (G,) the object is a crowd.
        ignored: (4, G) at each area: the object does not count.
    """

    rows: slice
    ious: npt.NDArray[np.float64]
    crowd: Bools
    ignored: Bools


def match_groups(groups: Sequence[Group], num_rows: int) -> tuple[Bools, Bools]:
    """Match all groups.

    Args:
        groups: In any order.
        num_rows: Of detections, those of no group included.

    Returns:
        (N, 4, 10) whether each detection has an object, and whether that object is ignored.
    """
    matched = np.zeros((num_rows, len(AREAS), len(IOUS)), dtype=bool)
    ignored = np.zeros_like(matched)
    for chunk in _chunks(groups):
        _match(chunk, matched, ignored)
    return matched, ignored


def _chunks(groups: Sequence[Group]) -> Iterator[list[Group]]:
    """Yield groups of about as many objects together, since all are padded to the most."""
    order = sorted(groups, key=lambda group: (len(group.crowd), len(group.ious)))
    chunk: list[Group] = []
    for group in order:
        if chunk and (len(chunk) == _CHUNK or len(group.crowd) > 2 * len(chunk[0].crowd)):
            yield chunk
            chunk = []
        chunk.append(group)
    if chunk:
        yield chunk


def _match(groups: list[Group], matched: Bools, ignored: Bools) -> None:
    num_objects = max(len(group.crowd) for group in groups)
    num_turns = max(len(group.ious) for group in groups)
    ious = np.full((len(groups), num_turns, num_objects), -1.0)
    crowd = np.zeros((len(groups), num_objects), dtype=bool)
    skip = np.ones((len(groups), len(AREAS), num_objects), dtype=bool)
    for index, group in enumerate(groups):
        ious[index, : len(group.ious), : len(group.crowd)] = group.ious
        crowd[index, : len(group.crowd)] = group.crowd
        skip[index, :, : len(group.crowd)] = group.ignored
    starts = np.array([group.rows.start for group in groups])
    free = np.ones((len(groups), len(AREAS), len(IOUS), num_objects), dtype=bool)
    near = ious.max(axis=2) >= _THRESHOLDS[0]
    for turn in range(num_turns):
        at = np.flatnonzero(near[:, turn])
        if not len(at):
            continue
        own = ious[at, turn][:, None, None, :]
        possible = free[at] & (own >= _THRESHOLDS[:, None])
        found, chosen = _choose(possible, own, skip[at][:, :, None, :])
        rows = starts[at] + turn
        matched[rows] = found
        ignored[rows] = found & np.take_along_axis(skip[at], chosen, axis=2)
        taken = found & ~crowd[at[:, None, None], chosen]
        g, a, t = np.nonzero(taken)
        free[at[g], a, t, chosen[g, a, t]] = False


def _choose(
    possible: Bools, ious: npt.NDArray[np.float64], skip: Bools
) -> tuple[Bools, npt.NDArray[np.int64]]:
    """Return whether there is an object, (B, 4, 10), and which."""
    counting = possible & ~skip
    wanted = np.where(counting.any(axis=3, keepdims=True), counting, possible)
    worth = np.where(wanted, ious, -1.0)
    last = worth.shape[3] - 1
    chosen: npt.NDArray[np.int64] = last - worth[..., ::-1].argmax(axis=3)
    return np.asarray(wanted.any(axis=3)), chosen
