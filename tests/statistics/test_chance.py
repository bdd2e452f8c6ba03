"""Small formulas against independent loops and scipy's own."""

from itertools import pairwise

import numpy as np
import pytest
import scipy.stats

from benchmarks.by_image.resamples import choices, errors_of, variances_of_differences
from benchmarks.leaderboard.statistics.chance import Spread, holm
from benchmarks.leaderboard.statistics.correlation import _with_interval, kendall, spearman
from benchmarks.leaderboard.statistics.ranks import standings
from benchmarks.leaderboard.statistics.seeds import Runs, Stored, noise

CHOICES = [[1, 0, 0, 2, 1, 1, 2], [1, 0, 2, 0, 3, 0, 1], [0, 1, 0, 1, 2, 1, 2]]


def test_holm_is_the_step_down_rule() -> None:
    rng = np.random.default_rng(0)
    for count in (1, 2, 7):
        given = rng.random(count) ** 3
        expected, most = {}, 0.0
        for place, index in enumerate(sorted(range(count), key=lambda i: given[i])):
            most = max(most, min(1.0, (count - place) * given[index]))
            expected[index] = most
        np.testing.assert_allclose(holm(given), [expected[i] for i in range(count)])
    with_unknown = holm([0.01, np.nan, 0.04])
    np.testing.assert_allclose(with_unknown, [0.02, np.nan, 0.04])


def test_intervals_and_p_values_are_students() -> None:
    spread = Spread(np.array([0.3, np.nan, 0.2]), np.array([0.0, 0.5, 0.1]), 50, 4)
    totals = [0.3, 0.5, 0.2 + 0.1]
    degrees = [49, 4, 0.3**2 / (0.2**2 / 49 + 0.1**2 / 4)]
    p_values = spread.p_values(np.full(3, 1.2))
    for index, (total, freedom) in enumerate(zip(totals, degrees, strict=True)):
        half = scipy.stats.t.ppf(0.975, freedom) * total**0.5
        assert spread.half_widths()[index] == pytest.approx(half)
        p = 2 * scipy.stats.t.sf(1.2 / total**0.5, freedom)
        assert p_values[index] == pytest.approx(p)


def test_nothing_known_gives_no_p_value_and_no_chance_gives_certainty() -> None:
    nan = np.nan
    # Seeds unknown, nothing known, and no images where seeds do nothing.
    unknown = Spread(np.array([1.0, nan, nan]), np.array([nan, nan, 0.0]), 0, 0)
    assert np.isnan(unknown.p_values(np.ones(3))).all()
    assert np.isnan(unknown.half_widths()).all()
    certain = Spread(np.zeros(2), np.zeros(2), 10, 2)
    assert certain.p_values(np.array([0.0, 1.0])).tolist() == [1.0, 0.0]


def test_noise_is_pooled_over_rows() -> None:
    rows = [Runs(np.array(v), None) for v in ([1.0, 3.0], [5.0, 5.5, 6.0], [9.0])]
    found = noise(rows)
    squares = (1 + 1) + (0.25 + 0 + 0.25)
    assert found.freedom == 3
    assert found.floor == pytest.approx((squares / 3) ** 0.5)
    assert found.seeds_alone == found.floor
    assert noise(rows[2:]).floor is None


def test_a_stored_floor_counts_as_four_degrees_of_freedom() -> None:
    rows = [Runs(np.array(v), None) for v in ([1.0, 3.0], [5.0, 5.5, 6.0], [9.0])]
    stored = Stored(2.0, "somewhere", assumed=True)
    found = noise(rows, stored)
    assert found.freedom == 3
    assert found.floor == pytest.approx(((2.5 + 4 * 2.0**2) / 7) ** 0.5)
    assert found.degrees == pytest.approx(7**2 / 3)
    assert (found.stored, found.source, found.assumed) == (2.0, "somewhere", True)
    alone = noise(rows[2:], stored)
    assert alone.floor == 2.0
    assert alone.degrees == np.inf
    assert noise(rows).degrees == 3


def test_seeds_that_differ_by_images_alone_are_no_noise_of_seeds() -> None:
    """Networks that are as good everywhere differ on few images, and would not on many."""
    rng = np.random.default_rng(0)
    weights = rng.multinomial(400, np.full(400, 1 / 400), 300)
    shares = []
    for _ in range(40):
        values = rng.normal(0, 4, (4, 400))
        known = noise([Runs(values.mean(axis=1), values @ weights.T / 400)])
        assert known.floor is not None
        assert known.seeds_alone is not None
        shares.append((known.floor**2, known.seeds_alone**2))
    total, alone = np.mean(shares, axis=0)
    assert total == pytest.approx(16 / 400, rel=0.3)
    assert alone < 0.5 * total


def test_standings_from_sure_differences() -> None:
    better = np.zeros((5, 5), dtype=bool)
    # 0 > 2, 3, 4 and 1 > 4 for sure; rows at other positions of a table.
    better[0, 2:] = better[1, 4] = True
    found, brackets = standings(better, [3, 4, 5, 7, 9])
    assert [found[p].rank for p in (3, 4, 5, 7, 9)] == [(1, 2), (1, 4), (2, 5), (2, 5), (3, 5)]
    assert brackets == ((3, 4), (4, 7), (5, 9))
    assert found[4].brackets == (0, 1)


def test_brackets_against_a_search_of_all_runs() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        count = int(rng.integers(2, 8))
        better = np.triu(rng.random((count, count)) < 0.3, 1)
        tied = [
            (i, j)
            for i in range(count)
            for j in range(i + 1, count)
            if not better[i : j + 1, i : j + 1].any()
        ]
        longest = [
            (i, j)
            for i, j in tied
            if not any(a <= i and j <= b and (a, b) != (i, j) for a, b in tied)
        ]
        assert list(standings(better, range(count))[1]) == longest


def test_rank_correlations_are_scipys() -> None:
    rng = np.random.default_rng(2)
    for count in (4, 9):
        x = rng.integers(0, 6, count).astype(float)
        y = np.round(x + rng.normal(0, 2, count))
        ours = spearman(x[None], y[None])[0], kendall(x[None], y[None])[0]
        assert ours[0] == pytest.approx(scipy.stats.spearmanr(x, y).statistic)
        assert ours[1] == pytest.approx(scipy.stats.kendalltau(x, y).statistic)
    assert np.isnan(spearman(np.ones((1, 4)), np.arange(4.0)[None])[0])


def test_the_interval_of_a_correlation_says_what_other_entries_would_have_said() -> None:
    x = np.arange(12.0)
    sure = _with_interval(spearman, x, x + np.where(x % 2 == 0, 0.6, -0.6))
    assert sure.low is not None
    assert sure.low > 0.7
    vague = _with_interval(spearman, x, np.random.default_rng(0).random(12))
    assert vague.low is not None
    assert vague.high is not None
    assert vague.low < 0 < vague.high


def test_choices_are_the_same_for_ever() -> None:
    """Recorded resamples are paired by these numbers."""
    (weights,) = choices(7, 3)
    assert weights.sum(axis=1).tolist() == [7, 7, 7]
    assert weights.tolist() == CHOICES
    many = np.concatenate(list(choices(1_000, 200)))
    assert abs(many.mean(axis=0).std() - (1 / 200) ** 0.5) < 0.01
    assert many.var() == pytest.approx(1, abs=0.02)
    assert all((a != b).any() for a, b in pairwise(many[:20]))


def test_variances_of_differences_are_those_of_the_differences() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(size=(4, 200)) + rng.normal(size=200)
    values[1] = np.nan
    values[:, :9] = np.nan
    first, second = np.array([0, 0, 2]), np.array([3, 1, 3])
    found = variances_of_differences(values, first, second)
    expected = errors_of(values[first] - values[second]) ** 2
    np.testing.assert_allclose(found, expected)
    assert np.isnan(found[1])
