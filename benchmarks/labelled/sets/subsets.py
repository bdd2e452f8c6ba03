"""Training images whose labels may be used, where a list beside them says which."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from backbones.base.errors import PreflightError

Places = npt.NDArray[np.int64]


def list_of(root: Path, share: float) -> Path:
    """Return where the list for a share of the labels would lie, in the images' folder."""
    return root / f"{100 * share:g}percent.txt"


def read_list(path: Path, names: Sequence[str], complete: bool = True) -> Places:
    """Return the places of the images that a list names, ascending.

    Args:
        path: The list, a file name a line.
        names: Of the images that there are.
        complete: All training images are among them, so that the list may name no other.

    Raises:
        PreflightError: It names images that do not exist.
    """
    lines = path.read_text("utf-8").splitlines()
    stems = {PurePosixPath(line.strip()).stem for line in lines} - {""}
    place_of = {PurePosixPath(name).stem: place for place, name in enumerate(names)}
    missing = sorted(stems - set(place_of))
    if not stems or (missing and complete):
        raise PreflightError(
            f"{path} lists {len(stems)} images, of which {len(missing)} are not in train"
            + (f" ({missing[0]})." if missing else ".")
        )
    return np.array(sorted(place_of[stem] for stem in stems & set(place_of)), dtype=np.int64)


def take_per_class(labels: Places, share: float, seed: int) -> Places:
    """Return the places of a share of each class, at least one image of each, ascending.

    Args:
        labels: (N,) classes.
        share: Between 0 and 1.
        seed: Decides which; every class draws for itself.
    """
    taken = []
    for number in np.unique(labels):
        places = np.flatnonzero(labels == number)
        draws = np.random.default_rng([seed, int(number)])
        count = max(1, round(share * len(places)))
        taken.append(draws.permutation(places)[:count])
    return np.sort(np.concatenate(taken))


def hold_out(labels: Places, share: float, seed: int) -> tuple[Places, tuple[int, ...]]:
    """Return the places of a share of each class, and the classes too small to give any.

    A class of one image keeps it, because nothing would be left of it to train on.

    Args:
        labels: (N,) classes.
        share: Between 0 and 1.
        seed: Decides which; every class draws for itself.
    """
    held = take_per_class(labels, share, seed)
    numbers, counts = np.unique(labels, return_counts=True)
    gone, lost = np.unique(labels[held], return_counts=True)
    emptied = gone[counts[np.searchsorted(numbers, gone)] <= lost]
    kept = held[~np.isin(labels[held], emptied)]
    return kept, tuple(int(number) for number in emptied)


def others(count: int, taken: Places) -> Places:
    """Return the places from 0 to ``count`` - 1 that are not taken, ascending."""
    left = np.ones(count, dtype=bool)
    left[taken] = False
    return np.flatnonzero(left)
