"""Classes and images on which detectors differ, from their matches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.by_image.detected import Detected
from benchmarks.by_image.images import Floats, Weights
from benchmarks.by_image.resamples import choices, errors_of
from benchmarks.by_image.runs import NoImagesError, image_results
from benchmarks.leaderboard.rows import Row, Table
from benchmarks.leaderboard.statistics.chance import Spread, holm
from benchmarks.leaderboard.statistics.compare import Comparison, Pair
from benchmarks.leaderboard.statistics.results import Interval, Noise
from benchmarks.leaderboard.statistics.seeds import Runs, Stored, noise
from benchmarks.leaderboard.statistics.table import done_runs, floor_of, judged
from benchmarks.store.folders import Store
from benchmarks.store.record import RunRecord
from benchmarks.suites import image_file_of
from detection.scoring.matches import DetectionMatches
from detection.scoring.resampling import resample

# A fifth of what the other numbers get: standard errors are good to a twentieth, in a fifth of
# the time, which a class needs and its interval does not miss.
_NUM_RESAMPLES = 200
_AP = 0


@dataclass(frozen=True)
class ClassPair:
    """One class of two subjects; see ``compare.Pair``."""

    name: str
    pair: Pair


@dataclass(frozen=True)
class ImageDifference:
    """One image on which subjects differ.

    Attributes:
        image_id: As in the annotations.
        scores: Of each subject, mean over seeds: the image's own AP in percent, all classes
            ranked together.
    """

    image_id: int
    scores: tuple[float, ...]


def class_pairs(
    comparison: Comparison, whole: Table, store: Store, records: Mapping[str, RunRecord]
) -> list[ClassPair]:
    """Return the differences in APbox of each class, corrected among themselves.

    Args:
        comparison: Of a task whose runs keep their detections.
        whole: The table that the subjects stand in, whose rows say what seeds do.
        store: The folder of runs.
        records: By run id.

    Raises:
        NoImagesError: A run kept no matches.
    """
    sides = [_classes_of(done_runs(row, records), store) for row in comparison.table.rows]
    noises = _class_noise(whole, records, store)
    found: list[tuple[str, int, int]] = []
    values, images, seeds = [], [], []
    for place in comparison.headline:
        a, b = sides[place.first], sides[place.second]
        errors = errors_of((a.drawn - b.drawn).T)
        for name, value, error in zip(a.names, a.plain - b.plain, errors, strict=True):
            if not np.isnan(value):
                found.append((name, place.first, place.second))
                values.append(value)
                images.append(error**2)
                own = noises.get(name, Noise(None, None, 0)).floor
                seeds.append(np.nan if own is None else own**2 * (1 / a.num_runs + 1 / b.num_runs))
    freedom = min((own.degrees for own in noises.values() if own.floor is not None), default=0.0)
    spread = Spread(np.array(images), np.array(seeds), comparison.num_images or 0, freedom)
    corrected = holm(spread.p_values(np.array(values)))
    differences = judged(np.array(values), spread, True, corrected)
    return [
        ClassPair(name, Pair("APbox", first, second, difference))
        for (name, first, second), difference in zip(found, differences, strict=True)
    ]


@dataclass(frozen=True)
class ClassInterval:
    """APbox of one class of a row.

    Attributes:
        name: Name of the class.
        interval: The value, mean over seeds, and where it would lie with other images and seeds.
        num_objects: Objects of the class in the test images, crowds left out.
    """

    name: str
    interval: Interval
    num_objects: int


def class_intervals(
    row: Row, whole: Table, store: Store, records: Mapping[str, RunRecord]
) -> list[ClassInterval]:
    """Return APbox of each class that has objects, in order of the class index.

    Args:
        row: Of a task whose runs keep their detections.
        whole: The table that the row stands in, whose rows say what seeds do.
        store: The folder of runs.
        records: By run id.

    Raises:
        NoImagesError: A run kept no matches.
    """
    runs = done_runs(row, records)
    side = _classes_of(runs, store)
    matches = _matches(store, runs[0])
    counts = np.bincount(matches.object_classes, minlength=len(side.names)).tolist()
    noises = _class_noise(whole, records, store)
    images = errors_of(side.drawn.T)
    floors = [noises.get(name, Noise(None, None, 0)).floor for name in side.names]
    seeds = np.array([np.nan if own is None else own / side.num_runs**0.5 for own in floors])
    freedom = min((own.degrees for own in noises.values() if own.floor is not None), default=0.0)
    halves = Spread(images**2, seeds**2, len(matches.image_ids), freedom).half_widths()
    columns = (side.names, side.plain.tolist(), images.tolist(), seeds.tolist(), halves, counts)
    return [
        ClassInterval(name, _interval(value, half, image, seed), count)
        for name, value, image, seed, half, count in zip(*columns, strict=True)
        if count and value == value  # NaN: no object counts
    ]


def _interval(value: float, half: float, images: float, seeds: float) -> Interval:
    """Return an interval within 0 to 100 percent; ends and errors that are NaN are unknown."""
    low, high, images_error, seeds_error = (
        None if np.isnan(number) else float(number)
        for number in (max(0.0, value - half), min(100.0, value + half), images, seeds)
    )
    return Interval(value, low, high, images_error, seeds_error)


def images_apart(
    comparison: Comparison, store: Store, records: Mapping[str, RunRecord], count: int
) -> list[ImageDifference]:
    """Return the images on which subjects differ most, the largest difference first.

    Args:
        comparison: Of a task whose runs keep their detections.
        store: The folder of runs.
        records: By run id.
        count: At most so many.

    Raises:
        NoImagesError: A run kept no matches.
    """
    sides, found = [], []
    for row in comparison.table.rows:
        matches = [_matches(store, record) for record in done_runs(row, records)]
        found += [own.image_ids for own in matches]
        if any(not np.array_equal(own, found[0]) for own in found):
            raise NoImagesError("the runs were tested on different images")
        sides.append(np.mean([image_scores(own) for own in matches], axis=0))
    scores = np.stack(sides)
    spread = np.nan_to_num(scores.max(axis=0) - scores.min(axis=0))
    order = np.argsort(-spread, kind="stable")[:count]
    return [
        ImageDifference(int(found[0][i]), tuple(scores[:, i].tolist()))
        for i in order
        if spread[i] > 0
    ]


def image_scores(matches: DetectionMatches, kind: str = "box") -> Floats:
    """Return each image's own AP in percent: the mean over IoUs of the mean precision at its hits.

    All classes are ranked together. NaN without objects.

    Args:
        matches: Of the images.
        kind: "box" or "mask".
    """
    order = np.lexsort((-matches.scores, matches.images))
    images = matches.images[order]
    own = matches.kinds[kind]
    right, counted = own.right[order, 0], ~own.ignored[order, 0]
    starts = np.searchsorted(images, images)
    precision = _since(right, starts) / np.maximum(_since(counted, starts), 1)
    total = np.zeros((len(matches.image_ids), right.shape[1]))
    np.add.at(total, images, np.where(right, precision, 0.0))
    objects = np.bincount(
        matches.object_images[matches.object_sizes[:, 0]], minlength=len(matches.image_ids)
    )
    unknown = np.full(len(total), np.nan)
    shares: Floats = np.divide(total.mean(axis=1), objects, out=unknown, where=objects > 0)
    return 100 * shares


def _since(cells: npt.NDArray[np.bool_], starts: npt.NDArray[np.int64]) -> Floats:
    """Return running counts that begin anew at each image."""
    total = np.concatenate([np.zeros((1, cells.shape[1])), np.cumsum(cells, axis=0)])
    found: Floats = total[1:] - total[starts]
    return found


@dataclass(frozen=True)
class _Classes:
    """APbox of each class, mean over seeds.

    Attributes:
        names: Of the classes.
        plain: (C,) on the images themselves.
        drawn: (R, C) under each choice of images.
        num_runs: Seeds.
    """

    names: tuple[str, ...]
    plain: Floats
    drawn: Floats
    num_runs: int


def _classes_of(runs: Sequence[RunRecord], store: Store) -> _Classes:
    plain, drawn = [], []
    names: tuple[str, ...] = ()
    for record in runs:
        matches = _matches(store, record)
        names = matches.class_names
        count = len(matches.image_ids)
        plain.append(_by_class(matches, np.ones((1, count), dtype=np.int32))[0])
        parts = [_by_class(matches, weights) for weights in choices(count, _NUM_RESAMPLES)]
        drawn.append(np.concatenate(parts))
    return _Classes(names, np.mean(plain, axis=0), np.mean(drawn, axis=0), len(runs))


def _by_class(matches: DetectionMatches, weights: Weights) -> Floats:
    found: Floats = resample(matches, "box", weights)[:, _AP]
    return found


def _matches(store: Store, record: RunRecord) -> DetectionMatches:
    results = image_results(store, record, image_file_of(record.spec.task))
    assert isinstance(results, Detected)
    return results.matches


def _class_noise(table: Table, records: Mapping[str, RunRecord], store: Store) -> dict[str, Noise]:
    """Return by class what seeds do to it: the rows' seeds pooled with the protocol's floor.

    The headline is the mean over C classes. Taking what a seed does to them as independent, a
    class scatters sqrt(C) times as much; correlated classes would scatter less.
    """
    floor = floor_of(table)
    values: dict[str, list[Runs]] = {}
    for row in table.rows:
        runs = [store.full(record) for record in done_runs(row, records)]
        for name in runs[0].per_class if runs else ():
            own = [record.per_class.get(name, {}).get("APbox") for record in runs]
            known = np.array([value for value in own if value is not None], dtype=np.float64)
            values.setdefault(name, []).append(Runs(known, None))
    if floor is None:
        return {name: noise(rows) for name, rows in values.items()}
    stored = Stored(floor.headline * len(values) ** 0.5, floor.source, assumed=True)
    return {name: noise(rows, stored) for name, rows in values.items()}
