"""A followed training as a table: a row a checkpoint, by epoch."""

import pytest

from benchmarks.leaderboard.followed import followed_tables
from benchmarks.leaderboard.rows import make_tables
from benchmarks.store.folders import Store
from benchmarks.store.followed import (
    FollowedCheckpoint,
    read_followed,
    remember_checkpoints,
)
from benchmarks.store.record import Labels, MetricValue

SHAS = {epoch: f"{epoch:x}" * 64 for epoch in (3, 9, 10)}


@pytest.fixture
def board(tmp_path, make_record, make_spec):
    """Return a function that makes the tables of what is followed from (task, epoch, score)."""

    def make(*results):
        store = Store(tmp_path / "runs")
        for task, sha, score in results:
            metric = {"knn": "knn_top1", "coco": "APbox"}[task]
            value = MetricValue(score, "percent", higher_is_better=True, reason=None)
            record = make_record(
                make_spec(task=task, weights_sha256=sha),
                labels=Labels("all", f"ckpt:{sha[:4]}.pth", task, f"{task}/v1", "mini", True),
                headline=metric,
                columns=(metric,),
                metrics={metric: value},
            )
            store.folder(record.run_id).write_record(record)
        tables = make_tables(store.scan(), store)
        return followed_tables(read_followed(store.root), tables, [None] * len(tables))

    return make


def follow(tmp_path, *epochs):
    found = [FollowedCheckpoint(e, f"epoch-{e}.pth", SHAS.get(e, "f" * 64)) for e in epochs]
    return remember_checkpoints(tmp_path / "runs", tmp_path / "trainer", found)


def test_rows_stand_in_the_order_of_epochs_with_every_task(board, tmp_path):
    follow(tmp_path, 10, 3)
    follow(tmp_path, 9)
    results = [("knn", SHAS[e], 10.0 * e) for e in (3, 9, 10)]
    (found,) = board(*results, ("coco", SHAS[9], 33.0), ("knn", "0" * 64, 99.0))
    assert found.table.columns == ("epoch", "APbox", "knn_top1")
    values = [[row.values[c].mean for c in found.table.columns] for row in found.table.rows]
    assert values == [[3.0, None, 30.0], [9.0, 33.0, 90.0], [10.0, None, 100.0]]
    assert found.table.rows[0].values["APbox"].reason == "not measured"
    assert found.table.key.task == "training trainer, followed"


def test_a_checkpoint_without_a_number_has_no_epoch(board, tmp_path):
    follow(tmp_path, None, 3)
    (found,) = board(("knn", SHAS[3], 1.0), ("knn", "f" * 64, 2.0))
    assert [row.values["epoch"].mean for row in found.table.rows] == [3.0, None]


def test_a_file_that_was_written_over_keeps_what_was_measured(tmp_path):
    first = follow(tmp_path, 3)
    again = FollowedCheckpoint(4, "epoch-3.pth", "e" * 64)
    both = remember_checkpoints(tmp_path / "runs", tmp_path / "trainer", [again])
    assert both == [*first, again]
    assert follow(tmp_path, 3) == both


def test_nothing_measured_is_no_table(board, tmp_path):
    assert board(("knn", SHAS[3], 1.0)) == []
    follow(tmp_path, 9)
    assert board() == []
