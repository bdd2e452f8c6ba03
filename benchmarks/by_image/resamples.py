"""Metrics of one run under the same thousand choices of test images as any other run's."""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from backbones.base.arrays import ArrayFormat
from benchmarks.by_image.images import Floats, ImageResults, Weights, identity_of

RESAMPLES_FILE = "resamples.npz"
NUM_RESAMPLES = 1_000
# Raise the number when the choices of images or the meaning of the columns change.
_FORMAT = ArrayFormat("backbench-resamples-1", "resamples")
_SEED = 20_261_121
# Choices of images in memory at a time: 64 MB.
_CELLS_AT_ONCE = 2**24


@dataclass(frozen=True)
class Resamples:
    """Metrics of one run.

    Attributes:
        images: Identity of the set of images.
        num_images: In it.
        plain: By metric, the value on the images themselves.
        values: By metric (R,), the value under each choice; NaN where it says nothing.
    """

    images: str
    num_images: int
    plain: Mapping[str, float]
    values: Mapping[str, npt.NDArray[np.float32]]


def compute_resamples(results: ImageResults) -> Resamples:
    """Return the metrics of a run under every choice of images.

    Args:
        results: Image by image.
    """
    count = len(results.image_ids)
    plain = results.metrics(np.ones((1, count), dtype=np.int32))
    parts = [results.metrics(weights) for weights in choices(count)]
    return Resamples(
        images=identity_of(results.image_ids),
        num_images=count,
        plain={name: float(value[0]) for name, value in plain.items()},
        values={
            name: np.concatenate([part[name] for part in parts]).astype(np.float32)
            for name in plain
        },
    )


def choices(num_images: int, count: int = NUM_RESAMPLES) -> Iterator[Weights]:
    """Yield how often each image is drawn, in parts (R, I); the same for all runs, for ever.

    Args:
        num_images: To draw from, and to draw.
        count: Of choices in all.
    """
    size = max(1, _CELLS_AT_ONCE // max(num_images, 1))
    for start in range(0, count, size):
        stop = min(start + size, count)
        yield np.stack([_choice(num_images, number) for number in range(start, stop)])


def _choice(num_images: int, number: int) -> Weights:
    # Raw bits, because those alone are promised to be the same in every version of numpy.
    raw = np.random.PCG64([_SEED, number]).random_raw(num_images)
    drawn = ((raw >> np.uint64(32)) * np.uint64(num_images)) >> np.uint64(32)
    return np.bincount(drawn.astype(np.int64), minlength=num_images).astype(np.int32)


def write_resamples(path: Path, resamples: Resamples) -> None:
    """Write an ``.npz``, atomically; equal content gives equal bytes.

    Raises:
        PreflightError: The file cannot be written.
    """
    names = list(resamples.plain)
    arrays = {
        "images": np.array(resamples.images),
        "num_images": np.array(resamples.num_images),
        "names": np.array(names, dtype=np.str_),
        "plain": np.array([resamples.plain[name] for name in names]),
        "values": np.array([resamples.values[name] for name in names], dtype=np.float32),
    }
    _FORMAT.write(path, arrays, compressed=False)


def read_resamples(path: Path) -> Resamples:
    """Read what ``write_resamples`` wrote.

    Raises:
        UserError: The file is absent, damaged, or something else.
    """
    return _FORMAT.read(path, _parse)


def parse_resamples(content: bytes) -> Resamples:
    """Return the resamples in the bytes of a file from elsewhere.

    Raises:
        ValueError: They are damaged or something else; says why.
    """
    return _FORMAT.parse(io.BytesIO(content), _parse)


def _parse(file: Mapping[str, npt.NDArray[np.float64]]) -> Resamples:
    names = [str(name) for name in file["names"]]
    if file["values"].shape != (len(names), NUM_RESAMPLES) or file["num_images"].shape != ():
        raise ValueError("its columns are not those of resamples")
    if len(set(names)) < len(names) or not np.isfinite(file["plain"]).all():
        raise ValueError("its names repeat or a value is NaN or infinity")
    return Resamples(
        images=str(file["images"]),
        num_images=int(file["num_images"]),
        plain=dict(zip(names, file["plain"].tolist(), strict=True)),
        values=dict(zip(names, file["values"].astype(np.float32), strict=True)),
    )


def errors_of(values: Floats) -> Floats:
    """Return standard errors, NaN for what too few choices say anything about.

    Args:
        values: (..., R).
    """
    known = np.isfinite(values)
    count = known.sum(axis=-1)
    mean = np.where(known, values, 0).sum(axis=-1) / np.maximum(count, 1)
    squares = np.where(known, values - mean[..., None], 0) ** 2
    error = np.sqrt(squares.sum(axis=-1) / np.maximum(count - 1, 1))
    found: Floats = np.where(count > values.shape[-1] / 2, error, np.nan)
    return found


def variances_of_differences(
    values: Floats, first: npt.NDArray[np.int64], second: npt.NDArray[np.int64]
) -> Floats:
    """Return the variance of each pair's difference over the choices; NaN where one has none.

    Args:
        values: (rows, R), NaN for what a choice says nothing about.
        first: (N,) rows.
        second: (N,) the rows that are subtracted.
    """
    rows, places = np.unique(np.concatenate([first, second]), return_inverse=True)
    chosen = values[rows]
    known = np.isfinite(chosen)
    alive = known.mean(axis=1) > 0.5
    shared = known[alive].all(axis=0)
    if shared.mean() <= 0.5:
        return np.full(len(first), np.nan)
    covariance = np.full((len(rows), len(rows)), np.nan)
    covariance[np.ix_(alive, alive)] = np.cov(chosen[alive][:, shared])
    a, b = places[: len(first)], places[len(first) :]
    own = np.diagonal(covariance)
    found: Floats = np.maximum(own[a] + own[b] - 2 * covariance[a, b], 0.0)
    return found
