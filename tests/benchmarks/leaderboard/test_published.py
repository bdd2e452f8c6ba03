"""The published figures: whole, traced, and never among measured numbers."""

import csv

import pytest

from benchmarks.leaderboard.published.figures import FIGURES, published_rows, rows_of
from benchmarks.leaderboard.published.protocols import FOREIGN, foreign, nearest
from benchmarks.suites import get_task

TASKS = ("coco", "knn", "linear", "lowshot", "finetune", "partial", "correspondence", "attention")
NAMED_METHODS = {
    "mae", "lomar", "esvit", "esvit-views", "dino", "mocov3", "moby", "beit", "simmim", "ibot",
    "simclr-v2", "byol", "swav", "supervised",
}  # fmt: skip
NAMED_NETWORKS = ("ViT", "Swin", "ViL", "CvT", "PVT", "ResNet")


def ours():
    return {(t, make().protocol) for t in TASKS for make in get_task(t).recipes().values()}


def test_every_method_and_network_has_its_row():
    rows = published_rows()
    assert {row.family for row in rows} >= NAMED_METHODS
    for network in NAMED_NETWORKS:
        assert any(row.backbone.startswith(network) for row in rows), network


def test_every_figure_is_whole_and_traced():
    with FIGURES.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == sum(len(row.values) for row in published_rows())
    for line in lines:
        assert line["source"]
        assert line["row"]
        assert 0 < float(line["value"]) < 100
        assert line["metric"] in get_task(line["task"]).metrics
        text = " ".join(line.values()).lower()
        assert not {"unverified", "recalled", "inferred", "read off"} & set(text.split())
    rows = published_rows()
    assert len({row.row for row in rows}) == len(rows)


def test_every_protocol_is_ours_or_explained():
    protocols = {(row.task, row.protocol) for row in published_rows()}
    for task, protocol in protocols:
        assert (task, protocol) in ours() or foreign(protocol), protocol
        near = nearest(protocol)
        assert not near or (task, near) in ours(), (protocol, near)
    used = {protocol.partition("+")[0] for _, protocol in protocols}
    assert set(FOREIGN) <= used


@pytest.mark.parametrize(
    ("protocol", "metric", "value"),
    [
        ("vitdet/v1+100ep", "APbox", 51.6),
        ("swin-mmdet/v1+3x", "APbox", 46.0),
        ("detectron2-fpn/v1+1x", "APmask", 35.2),
    ],
)
def test_the_scores_that_recipes_name_are_there(protocol, metric, value):
    rows = rows_of("coco", protocol, "coco", ())
    assert any(row.values.get(metric) == value for row in rows)


def test_other_data_have_no_published_rows():
    assert rows_of("coco", "vitdet/v1+100ep", "coco", ())
    assert not rows_of("coco", "vitdet/v1+100ep", "balloons", ())
    # COCO's layout and name, and other classes.
    assert not rows_of("coco", "vitdet/v1+100ep", "coco", ("person", "balloon"))
    assert rows_of("knn", "knn/v1", "ILSVRC2012", ())
    assert not rows_of("knn", "knn/v1", "pets", ())
    assert not rows_of("knn", "knn/v1", "imagenet", ("cat", "dog"))
