"""Weighted k-NN on cosine similarity (Wu et al. 2018, section 3.4), the same to the last tie.

The algorithm is that of facebookresearch/dino ``eval_knn.py``, with two differences: any number of
test images will do, and ties have a rule. Of equally similar training images the one that comes
first counts as nearer; of equally voted classes the one with the lower number wins.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.labelled.scores import ClassifierOutput, judge

# Similarities in memory at once: these training rows times these test rows, 256 MiB.
TRAIN_ROWS = 65_536
TEST_ROWS = 1_024
# Of the grid that a long row of similarities is laid out in.
GRID_ROWS = 16

Rows = Callable[[int, int], Tensor]


@dataclass(frozen=True)
class Bank:
    """Features with classes, read in pieces.

    Attributes:
        rows: Called with the first row and the one behind the last: (n, D) float32, any length.
        labels: (N,) int64 classes.
    """

    rows: Rows
    labels: Tensor

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.labels)


def classify(
    train: Bank, test: Bank, ks: Sequence[int], temperature: float, device: torch.device
) -> dict[int, ClassifierOutput]:
    """Let the nearest training images vote on every test image.

    A neighbour with cosine similarity s has exp(s / temperature) votes for its class.

    Args:
        train: Who votes.
        test: On what.
        ks: Numbers of neighbours, each at most the number of training images.
        temperature: Of the votes.
        device: Where the products are computed.

    Returns:
        The verdict by number of neighbours.
    """
    similar, labels = nearest(train, test, max(ks), device)
    num_classes = int(torch.cat([train.labels, test.labels]).max()) + 1
    parts = [
        _vote(
            similar[at],
            labels[at],
            test.labels[at].to(device),
            sorted(ks),
            temperature,
            num_classes,
        )
        for at in _slices(len(test), TEST_ROWS)
    ]
    return {
        k: ClassifierOutput(
            torch.cat([part[k].predicted for part in parts]),
            torch.cat([part[k].rank for part in parts]),
        )
        for k in ks
    }


def nearest(train: Bank, test: Bank, k: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return similarity and class of the ``k`` nearest training images, nearest first.

    Args:
        train: To search; read once, in order.
        test: To search for.
        k: At most ``len(train)``.
        device: Where the products are computed.

    Returns:
        Two (len(test), k) on ``device``: float32 cosines, int64 classes.
    """
    wanted = [_unit(test.rows(at.start, at.stop), device) for at in _slices(len(test), TEST_ROWS)]
    best: list[tuple[Tensor, Tensor]] = []
    for at in _slices(len(train), TRAIN_ROWS):
        rows = _unit(train.rows(at.start, at.stop), device).T
        labels = train.labels[at].to(device)
        for number, queries in enumerate(wanted):
            values, places = top(queries @ rows, min(k, rows.shape[1]))
            found = (values, labels[places])
            if at.start == 0:
                best.append(found)
            else:
                best[number] = _merge(best[number], found, k)
    return torch.cat([values for values, _ in best]), torch.cat([labels for _, labels in best])


def top(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the ``k`` largest of each row and their places; of equals, those that come first.

    Long rows are first reduced to the largest value of each column of a grid: the k largest values
    lie in the k columns with the largest of those, so that most of a row is read once and no more.

    Args:
        values: (N, M), without NaN.
        k: At most M.

    Returns:
        Two (N, k), largest first, equals in order of place.
    """
    columns = values.shape[1] // GRID_ROWS
    if columns <= 2 * k:
        return _top(values, k)
    grid = values[:, : GRID_ROWS * columns].view(len(values), GRID_ROWS, columns)
    peaks, order = grid.amax(dim=1).topk(k + 1, dim=1)
    chosen = order[:, None, :k].sort(dim=2).values.expand(-1, GRID_ROWS, -1)
    starts = torch.arange(0, GRID_ROWS * columns, columns, device=values.device)
    rest = torch.arange(GRID_ROWS * columns, values.shape[1], device=values.device)
    candidates = torch.cat([grid.gather(2, chosen).flatten(1), values[:, rest]], dim=1)
    places = (chosen + starts[:, None]).flatten(1)
    places = torch.cat([places, rest.expand(len(values), -1)], dim=1)
    found, at = _top(candidates, k)
    places = places.gather(1, at)
    _redo(values, peaks[:, k] >= found[:, k - 1], found, places)
    return found, places


def _top(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return what ``top`` does, (N, min(k, M)) each, by looking at every one of (N, M) values."""
    count = values.shape[1]
    found, places = values.topk(min(k + 1, count), dim=1)
    # Which of several equals topk returns is not defined, so their order is made here.
    places, _ = places[:, :k].sort(dim=1)
    ordered, order = values.gather(1, places).sort(dim=1, descending=True, stable=True)
    places = places.gather(1, order)
    if k < count:
        _redo(values, found[:, k - 1] == found[:, k], ordered, places)
    return ordered, places


def _redo(values: Tensor, torn: Tensor, found: Tensor, places: Tensor) -> None:
    """Sort whole the ``torn`` (N,) rows, whose (N, k) may leave out an equal of the last value."""
    k = found.shape[1]
    for row in torch.nonzero(torn).flatten().tolist():
        whole, at = values[row].sort(descending=True, stable=True)
        found[row], places[row] = whole[:k], at[:k]


def _merge(
    first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor], k: int
) -> tuple[Tensor, Tensor]:
    """Return the ``k`` best of two sorted lists, (N, k) at most; of equals, those of the first."""
    values = torch.cat([first[0], second[0]], dim=1)
    values, order = values.sort(dim=1, descending=True, stable=True)
    labels = torch.cat([first[1], second[1]], dim=1).gather(1, order)
    return values[:, :k], labels[:, :k]


def _vote(
    similar: Tensor,
    labels: Tensor,
    truth: Tensor,
    ks: Sequence[int],
    temperature: float,
    num_classes: int,
) -> dict[int, ClassifierOutput]:
    """Return the verdict of the first k of (N, K) neighbours on (N,) truth for each ascending k."""
    # The votes span six orders of magnitude and are added up to 200 at a time.
    weights = (similar.double() / temperature).exp()
    votes = weights.new_zeros(len(similar), num_classes)
    verdicts = {}
    done = 0
    for k in ks:
        votes.scatter_add_(1, labels[:, done:k], weights[:, done:k])
        verdicts[k] = judge(votes, truth)
        done = k
    return verdicts


def _unit(rows: Tensor, device: torch.device) -> Tensor:
    """Return (N, D) rows on the device, each scaled to length 1, (N, D)."""
    return F.normalize(rows.to(device), dim=1)


def _slices(count: int, size: int) -> Iterator[slice]:
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))
