"""Numbers of several tasks for the same weights and seeds stand in one row."""

from dataclasses import replace

import pytest

from benchmarks.leaderboard.formats.render import to_terminal
from benchmarks.leaderboard.formats.sheets import to_csv
from benchmarks.leaderboard.joined import with_joined
from benchmarks.leaderboard.rows import make_tables
from benchmarks.leaderboard.shown import plain, shown_tables
from benchmarks.store.folders import Store
from benchmarks.store.record import Labels, MetricValue


@pytest.fixture
def board(tmp_path, make_record, make_spec):
    """Return a function that makes tables from (task, metric, entry, seed, score)."""

    def make(*results, names=()):
        store = Store(tmp_path)
        for task, metric, entry, seed, score in results:
            value = MetricValue(score, "percent", higher_is_better=True, reason=None)
            record = make_record(
                make_spec(task=task, backbone=entry, seed=seed),
                labels=Labels(
                    "all", dict(names).get(task, entry), task, f"{task}/v1", "mini", True
                ),
                headline=metric,
                columns=(metric,),
                metrics={metric: value},
            )
            store.folder(record.run_id).write_record(record)
        return with_joined(make_tables(store.scan(), store))

    return make


def test_both_numbers_of_a_checkpoint_stand_in_one_row(board):
    tables = board(
        ("coco", "APbox", "vit-nano", 0, 10.0),
        ("knn", "knn_top1", "vit-nano", 0, 40.0),
        ("knn", "knn_top1", "swin-nano", 0, 50.0),
    )
    joined, *single = tables
    assert joined.joined
    assert not any(table.joined for table in single)
    assert joined.columns == ("APbox", "knn_top1")
    values = {row.entry: [row.values[name].mean for name in joined.columns] for row in joined.rows}
    assert values == {"vit-nano": [10.0, 40.0], "swin-nano": [None, 50.0]}
    assert all(row.rank is None for row in joined.rows)
    lines = to_terminal(list(map(plain, tables)))
    assert "APbox: coco v1 coco/v1 on mini; knn_top1: knn v1 knn/v1 on mini" in lines[1]
    assert next(line for line in lines if line.startswith("vit-nano")).split()[1:3] == [
        "10.0", "40.0",
    ]  # fmt: skip
    assert to_csv(list(map(plain, tables))) == to_csv(list(map(plain, single)))


def test_one_file_under_two_names_is_one_row(board):
    joined, *_ = board(
        ("coco", "APbox", "vit-nano", 0, 10.0),
        ("knn", "knn_top1", "vit-nano", 0, 40.0),
        names=[("coco", "ckpt:weights.safetensors"), ("knn", "ckpt:mine/weights.safetensors")],
    )
    (row,) = joined.rows
    assert row.entry == "ckpt:weights.safetensors"
    assert [row.values[name].mean for name in joined.columns] == [10.0, 40.0]


def test_other_seeds_of_fresh_weights_are_other_weights(board):
    joined, *_ = board(
        ("coco", "APbox", "vit-nano", 0, 10.0),
        ("knn", "knn_top1", "vit-nano", 1, 40.0),
    )
    assert [[row.values[c].mean for c in joined.columns] for row in joined.rows] == [
        [10.0, None],
        [None, 40.0],
    ]


def test_seconds_that_nobody_knows_are_none_not_zero(board):
    tables = board(("coco", "APbox", "vit-nano", 0, 10.0), ("knn", "knn_top1", "vit-nano", 0, 40.0))
    single = [
        replace(t, rows=tuple(replace(r, costs={**r.costs, "seconds": None}) for r in t.rows))
        for t in tables[1:]
    ]
    joined, *_ = with_joined(single)
    assert [row.costs["seconds"] for row in joined.rows] == [None]


def test_one_task_alone_is_not_joined(board):
    assert len(board(("knn", "knn_top1", "vit-nano", 0, 40.0))) == 1


def test_a_joined_number_has_the_interval_of_its_own_table(board, tmp_path):
    """Not the standard deviation over seeds, which would make one sign mean two things."""
    board(
        *(("coco", "APbox", "vit-nano", seed, 10.0 + seed) for seed in range(3)),
        *(("knn", "knn_top1", "vit-nano", seed, 40.0 + seed) for seed in range(3)),
        ("coco", "APbox", "swin-nano", 0, 12.0),
        ("knn", "knn_top1", "swin-nano", 0, 44.0),
    )
    store = Store(tmp_path)
    joined, coco, knn = shown_tables(store.scan(), store)
    assert joined.table.joined
    for metric, single in (("APbox", coco), ("knn_top1", knn)):
        own = {
            row.entry: sure.intervals[metric]
            for row, sure in zip(single.table.rows, single.sure, strict=True)
        }
        for row, sure in zip(joined.table.rows, joined.sure, strict=True):
            assert sure.intervals[metric] == own[row.entry]
            assert sure.intervals[metric].low is not None
            assert sure.rank is None
    marks = {
        row.entry: sure.one_seed for row, sure in zip(joined.table.rows, joined.sure, strict=True)
    }
    assert marks == {"vit-nano": False, "swin-nano": True}
    text = "\n".join(to_terminal([joined]))
    half = (lambda i: (i.high - i.low) / 2)(joined.sure[1].intervals["APbox"])
    assert f"11.0 ±{half:.1f}" in text
    assert "± half of the 95 % interval over training again" in text
    # Where the scatter of rows with one seed comes from stands below it, table by table.
    for metric, source in (("APbox", "ViTDet's README"), ("knn_top1", "not measured")):
        assert any(
            line.lstrip().startswith("1 seed: swin-nano; a new training may differ.")
            and f" {metric} (assumed: " in line
            and source in line
            for line in to_terminal([joined])
        ), metric
