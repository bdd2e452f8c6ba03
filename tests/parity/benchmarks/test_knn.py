"""k-NN against the official algorithm written out as loops over float64 numbers."""

import math

import numpy as np
import pytest
import torch

from benchmarks.labelled import knn
from benchmarks.labelled.knn import Bank, classify, top
from benchmarks.labelled.scores import judge, score


def bank(features, labels):
    return Bank(lambda start, end: features[start:end], labels)


def by_hand(train, train_labels, test, k, temperature, num_classes):
    """Return the classes of each test image, most votes first.

    Sorting is by (votes, lower class), neighbours by (similarity, lower index).
    """
    ranked = []
    for query in test:
        cosines = []
        for index, row in enumerate(train):
            dot = sum(float(a) * float(b) for a, b in zip(query, row, strict=True))
            lengths = math.sqrt(sum(float(a) ** 2 for a in query)) * math.sqrt(
                sum(float(b) ** 2 for b in row)
            )
            cosines.append((-dot / lengths, index))
        votes = [0.0] * num_classes
        for negative, index in sorted(cosines)[:k]:
            votes[int(train_labels[index])] += math.exp(-negative / temperature)
        ranked.append(sorted(range(num_classes), key=lambda c: (-votes[c], c)))
    return ranked


def drawn(count, width, num_classes, seed):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(count, width, generator=generator)
    return features, torch.randint(num_classes, (count,), generator=generator)


@pytest.fixture(params=[2, 16])
def small_pieces(request, monkeypatch):
    """Make every product fall into several pieces in both directions, rows into grids or not."""
    monkeypatch.setattr(knn, "TRAIN_ROWS", 17)
    monkeypatch.setattr(knn, "TEST_ROWS", 5)
    monkeypatch.setattr(knn, "GRID_ROWS", request.param)


def agree(train, labels, test, truth, ks, num_classes):
    found = classify(bank(train, labels), bank(test, truth), ks, 0.07, torch.device("cpu"))
    for k in ks:
        expected = by_hand(train, labels, test, k, 0.07, num_classes)
        assert found[k].predicted.tolist() == [classes[0] for classes in expected]
        places = [classes.index(int(own)) for classes, own in zip(expected, truth, strict=True)]
        assert found[k].rank.tolist() == places


@pytest.mark.parametrize("num_test", [1, 23])
def test_votes_are_those_of_the_loop(small_pieces, num_test):
    train, labels = drawn(83, 8, 7, seed=0)
    test, truth = drawn(num_test, 8, 7, seed=1)
    agree(train, labels, test, truth, (1, 3, 10, 20, 83), 7)


@pytest.mark.parametrize("seed", range(4))
def test_ties_are_those_of_the_loop(small_pieces, seed):
    # Rows of length 1 and of few values: their products are exact, and most of them are equal.
    generator = torch.Generator().manual_seed(seed)
    corners = torch.randint(0, 2, (90, 4), generator=generator) - 0.5
    labels = torch.randint(5, (90,), generator=generator)
    test, truth = corners[:20].clone(), labels[:20]
    agree(corners, labels, test, truth, (1, 2, 5, 20, 40), 5)


def test_the_largest_of_equals_are_the_first():
    values = torch.tensor([[1.0, 3.0, 3.0, 2.0, 3.0, 2.0]])
    for k, places in ((1, [1]), (2, [1, 2]), (4, [1, 2, 4, 3]), (6, [1, 2, 4, 3, 5, 0])):
        found, at = top(values, k)
        assert at.tolist() == [places]
        assert torch.equal(found, values[:, places])


@pytest.mark.parametrize("num_values", [2, 9, 1000])
@pytest.mark.parametrize("count", [63, 64, 700])
def test_long_rows_give_what_sorting_them_gives(num_values, count):
    generator = torch.Generator().manual_seed(count)
    values = torch.randint(num_values, (30, count), generator=generator).float()
    for k in (1, 7, 20):
        found, places = top(values, k)
        ordered, order = values.sort(dim=1, descending=True, stable=True)
        assert torch.equal(found, ordered[:, :k])
        assert torch.equal(places, order[:, :k])


def test_scores_are_shares_of_images_and_of_classes():
    verdict = judge(
        torch.tensor([[3.0, 2, 1, 0, 0], [3, 2, 1, 0, 0], [1, 1, 0, 0, 0], [0, 0, 0, 0, 9]]),
        torch.tensor([0, 4, 1, 4]),
    )
    assert verdict.predicted.tolist() == [0, 0, 0, 4]
    assert verdict.rank.tolist() == [0, 4, 1, 0], "of equal scores the lower class comes first"
    scores = score(verdict, torch.tensor([0, 4, 1, 4]), 5)
    assert scores.top1 == 50.0
    assert scores.top5 == 100.0
    assert scores.per_class == {0: 100.0, 1: 0.0, 4: 50.0}
    assert np.isclose(scores.mean_class, 50.0)
    assert score(verdict, torch.tensor([0, 4, 1, 4]), 4 + 1).top5 is not None
