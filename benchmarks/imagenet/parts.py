"""Parts of a training split, the same ones for the same seed: held out, or few labels."""

import numpy as np
import numpy.typing as npt

Places = npt.NDArray[np.int64]


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


def others(count: int, taken: Places) -> Places:
    """Return the places from 0 to ``count`` - 1 that are not taken, ascending."""
    left = np.ones(count, dtype=bool)
    left[taken] = False
    return np.flatnonzero(left)
