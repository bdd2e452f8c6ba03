"""How sets are divided that torchvision gives out whole."""

from collections.abc import Sequence
from pathlib import Path, PurePath

import numpy as np

from backbones.base.errors import PreflightError

Split = tuple[list[int], list[int]]

# Fei-Fei et al. 2004; Radford et al. 2021, appendix A, train on as many images of each class.
_TRAINED = 30
_LISTS = ("Training_01.txt", "Testing_01.txt")


def thirty_of_each_class(folder: Path, names: Sequence[str], labels: Sequence[int]) -> Split:
    """Return the places of thirty training images of each class, and of all others.

    Papers draw at random and publish no list; this draw is the same for everybody and every seed.

    Args:
        folder: Of the set.
        names: Of the images, inside the folder.
        labels: Their classes.

    Raises:
        PreflightError: A class has no image left to test on.
    """
    train: list[int] = []
    for number in sorted(set(labels)):
        places = np.flatnonzero(np.asarray(labels) == number)
        if len(places) <= _TRAINED:
            raise PreflightError(
                f"{(folder / names[places[0]]).parent} has {len(places)} images; {_TRAINED} of "
                "each class are trained on and the others tested, so some are missing."
            )
        draws = np.random.default_rng([0, number])
        train += draws.permutation(places)[:_TRAINED].tolist()
    train.sort()
    return train, sorted(set(range(len(labels))) - set(train))


def first_partition(folder: Path, names: Sequence[str], labels: Sequence[int]) -> Split:
    """Return the places of the images that the first official partition trains and tests on.

    Args:
        folder: Of the set; holds the lists, a line ``/a/abbey/sun_….jpg`` an image.
        names: Of the images, inside the folder.
        labels: Their classes, which the lists do not repeat.

    Raises:
        PreflightError: A list is missing, or names an image that is.
    """
    del labels
    places = {PurePath(name): place for place, name in enumerate(names)}
    train, test = (
        [_place(folder / name, places, line) for line in _lines(folder / name)] for name in _LISTS
    )
    return train, test


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise PreflightError(
            f"{path} cannot be read; the set's lists {' and '.join(_LISTS)} (Partitions.zip of its "
            "page) belong there."
        ) from error


def _place(path: Path, places: dict[PurePath, int], line: str) -> int:
    place = places.get(PurePath(line.lstrip("/")))
    if place is None:
        raise PreflightError(f"{path} names {line}, which {path.parent} does not hold.")
    return place
