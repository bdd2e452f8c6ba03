"""One row for many data sets: means, intervals, missing and broken sets."""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmarks.cli import main
from benchmarks.data.roots import DataRoot
from benchmarks.leaderboard.collected import collected_tables, mean_interval
from benchmarks.leaderboard.formats.render import to_terminal
from benchmarks.leaderboard.page import publish
from benchmarks.leaderboard.rows import make_tables
from benchmarks.leaderboard.shown import ShownTable
from benchmarks.store.collections import read_collections, remember
from benchmarks.store.folders import Store
from benchmarks.store.record import Labels, MetricValue

SETS = {"coins": "c" * 64, "cells": "e" * 64, "cars": "a" * 64}
LONGER = {"coins": "+1000steps"}


@pytest.fixture
def board(tmp_path, make_record, make_spec, make_request):
    """Return a function that makes the tables of collections from (set, entry, seed, score)."""

    def make(results, faults=None, collected=tuple(SETS)):
        store, requests = Store(tmp_path), []
        for own, entry, seed, score in results:
            protocol = f"small/v1{LONGER.get(own, '')}"
            spec = make_spec(
                data_fingerprint=SETS[own], backbone=entry, seed=seed, recipe={"protocol": protocol}
            )
            value = MetricValue(score, "percent", higher_is_better=True, reason=None)
            record = make_record(
                spec,
                labels=Labels("coco", entry, "small", protocol, own, mini=False),
                columns=("APbox",),
                metrics={"APbox": value},
            )
            store.folder(record.run_id).write_record(record)
            if own in collected:
                requests.append(
                    make_request(spec, data=DataRoot("coco", own, Path("/x"), "--data"))
                )
        remember(tmp_path, "three", requests, faults or {})
        tables = make_tables(store.scan(), store)
        return collected_tables(read_collections(tmp_path), tables, [None] * len(tables))

    return make


VALUES = {"net-a": (20.0, 40.0, 75.0), "net-b": (10.0, 35.0, 60.0)}
RESULTS = [
    (own, entry, 0, score)
    for entry, scores in VALUES.items()
    for own, score in zip(SETS, scores, strict=True)
]


def test_a_row_has_the_mean_of_its_sets_and_each_of_them(board):
    """Also where the floor in steps gave one of the sets another protocol."""
    (found,) = board(RESULTS)
    assert found.table.joined
    assert found.table.columns == ("mean APbox", *SETS)
    assert [row.entry for row in found.table.rows] == ["net-a", "net-b"]
    for row, certain in zip(found.table.rows, found.statistics.rows, strict=True):
        values = VALUES[row.entry]
        assert [row.values[name].mean for name in SETS] == list(values)
        assert row.values["mean APbox"].mean == pytest.approx(np.mean(values), abs=1e-12)
        interval = certain.intervals["mean APbox"]
        low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
        assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-9)
        assert certain.one_seed


def test_rows_are_compared_set_by_set(board):
    (found,) = board(RESULTS)
    pairs = stats.ttest_rel(VALUES["net-b"], VALUES["net-a"]).confidence_interval(0.95)
    sentence = f"net-b less net-a, set by set: -10.0 ({pairs.low:+.1f} to {pairs.high:+.1f})"
    assert sentence in found.statistics.floors
    shown = ShownTable(found.table, found.statistics.rows, found.statistics)
    lines = "\n".join(to_terminal([shown]))
    assert sentence in lines
    assert "mean APbox: every set counts the same" in lines


def test_seeds_are_averaged_before_sets(board):
    """A set with more seeds counts no more than the others."""
    more = [("coins", "net-a", seed, 20.0 + seed) for seed in (1, 2)]
    (found,) = board([*RESULTS, *more])
    row = found.table.rows[0]
    assert row.values["coins"].mean == 21.0
    assert row.values["mean APbox"].mean == pytest.approx((21.0 + 40.0 + 75.0) / 3)
    assert "not every set has the same seeds" in row.note


def test_a_row_without_a_set_has_no_mean(board):
    (found,) = board(RESULTS[:-1])
    last = found.table.rows[-1]
    assert last.entry == "net-b"
    assert last.values["mean APbox"].mean is None
    assert last.values["mean APbox"].reason == "no result on cars"
    assert "mean APbox" not in found.statistics.rows[-1].intervals


def test_a_broken_set_has_a_column_and_a_reason(board):
    (found,) = board(RESULTS, {"coral": "no annotations"})
    assert found.table.columns == ("mean APbox", *SETS, "coral")
    assert found.table.rows[0].values["coral"].reason == "no annotations"
    assert found.table.rows[0].values["mean APbox"].mean == 45.0
    assert "coral: left out, no annotations" in found.table.key.protocol


def test_an_anonymous_board_names_no_folder_of_a_broken_set(board, tmp_path, capsys):
    board(RESULTS, {"coral": "/data/jdoe/coral does not exist"})
    assert main(["leaderboard", "--out", str(tmp_path)]) == 0
    assert "coral" in capsys.readouterr().out
    assert main(["leaderboard", "--anonymous", "--out", str(tmp_path)]) == 0
    assert "coral" not in capsys.readouterr().out


def test_other_data_of_the_folder_are_not_in_the_mean(board):
    (found,) = board(RESULTS, collected=("coins", "cells"))
    assert found.table.columns == ("mean APbox", "coins", "cells")
    assert found.table.rows[0].values["mean APbox"].mean == 30.0


def test_one_value_has_no_interval():
    assert mean_interval([4.0]).low is None
    found = mean_interval([1.0, 2.0, 4.0, 9.0])
    low, high = stats.t.interval(0.95, 3, 4.0, stats.sem([1.0, 2.0, 4.0, 9.0]))
    assert (found.value, found.low, found.high) == pytest.approx((4.0, low, high), abs=1e-12)


def test_the_page_shows_every_set(board, tmp_path, monkeypatch):
    board(RESULTS)
    written = {}
    monkeypatch.setattr(publish, "write_page", lambda path, *parts: written.update(page=parts[0]))
    store = Store(tmp_path)
    scan = store.scan()
    publish.publish(tmp_path / "x.html", make_tables(scan, store), scan, store)
    table = written["page"]["tables"][0]
    assert table["columns"] == ["mean APbox", *SETS]
    assert [row["entry"] for row in table["rows"]] == ["net-a", "net-b"]
    publish.publish(tmp_path / "x.html", make_tables(scan, store), scan, store, anonymous=True)
    assert "mean APbox" not in written["page"]["tables"][0]["columns"]
