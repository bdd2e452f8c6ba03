"""The published figures: whole, traced, and never among measured numbers."""

import csv
import re

import pytest

from backbones.base.errors import PreflightError, UserError
from benchmarks.leaderboard.published.facts import published_facts
from benchmarks.leaderboard.published.figures import (
    COLUMNS,
    FIGURES,
    OPTIONAL,
    published_rows,
    rows_of,
)
from benchmarks.leaderboard.published.own import with_own
from benchmarks.leaderboard.published.protocols import FOREIGN, foreign, nearest
from benchmarks.suites import get_task

TASKS = ("coco", "knn", "linear", "lowshot", "finetune", "partial", "correspondence", "attention")
NAMED_METHODS = {
    "mae", "lomar", "esvit", "esvit-views", "dino", "mocov3", "moby", "beit", "simmim", "ibot",
    "simclr-v2", "byol", "swav", "supervised", "pe", "eva-02", "fcmae", "radio", "dinov3",
    "densecl", "igpt",
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


HEADER = ",".join((*COLUMNS, *OPTIONAL))
GOOD = {
    "row": "lab-mae-b", "family": "mae", "method": "MAE (lab)", "backbone": "ViT-B/16",
    "arch": "vit-b16", "pretrain_data": "ImageNet-1K", "pretrain_epochs": "1600", "img_size": "",
    "task": "coco", "protocol": "vitdet/v1+100ep", "metric": "APbox", "value": "51.4",
    "setting": "", "source": "report 7, table 2", "facts": "",
}  # fmt: skip


def _own(tmp_path, *lines, header=HEADER):
    path = tmp_path / "lab.csv"
    with path.open("w", newline="") as file:
        file.write(header + "\n")
        csv.writer(file).writerows([list(line.values()) for line in lines])
    return path


def test_a_labs_rows_join_those_of_the_project(tmp_path):
    mask = {**GOOD, "metric": "APmask", "value": "45.7"}
    rows = with_own(_own(tmp_path, GOOD, mask))
    assert rows[:-1] == published_rows()
    assert rows[-1].values == {"APbox": 51.4, "APmask": 45.7}
    assert rows[-1] in rows_of("coco", "vitdet/v1+100ep", "coco", (), rows)
    assert with_own(None) == published_rows()


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"value": "nan"}, "value: 'nan' is not a number between 0 and 100"),
        ({"value": "0.514e9"}, "is not a number between 0 and 100"),
        ({"metric": "APbx"}, "'APbx' is not a metric of coco"),
        ({"task": "cocoo"}, "'cocoo' is not one of"),
        ({"arch": "vit-b17"}, "arch: 'vit-b17' must be a network"),
        ({"protocol": "vitdet/v1+100epochs"}, "is not a protocol of coco; rules of your own"),
        ({"source": " "}, "source is empty"),
        ({"pretrain_epochs": "-3"}, "pretrain_epochs: '-3' must be a positive number"),
        ({"img_size": "224px"}, "img_size: '224px'"),
        ({"facts": "attention"}, "must be NAME=VALUE"),
        ({"row": "mae-vit-b-16-1600ep--vitdet-100ep"}, "the id of one of the project's rows"),
    ],
)
def test_a_bad_line_is_one_sentence(tmp_path, changed, sentence):
    with pytest.raises(UserError, match=re.escape(sentence)) as caught:
        with_own(_own(tmp_path, {**GOOD, **changed}))
    assert "\n" not in str(caught.value)
    assert "figure 1" in str(caught.value)


def test_bad_files_are_one_sentence(tmp_path):
    with pytest.raises(UserError, match="has APbox twice"):
        with_own(_own(tmp_path, GOOD, GOOD))
    with pytest.raises(UserError, match="one row has one arch"):
        with_own(_own(tmp_path, GOOD, {**GOOD, "metric": "APmask", "arch": "vit-l16"}))
    with pytest.raises(UserError, match="no line below the header"):
        with_own(_own(tmp_path))
    with pytest.raises(UserError, match="column 'method' is missing"):
        with_own(_own(tmp_path, GOOD, header=HEADER.replace("method", "approach")))
    with pytest.raises(UserError, match="number of cells"):
        with_own(_own(tmp_path, {**GOOD, "more": "x"}))
    with pytest.raises(PreflightError, match="No such file"):
        with_own(tmp_path / "none.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00row")
    with pytest.raises(PreflightError, match="not UTF-8"):
        with_own(tmp_path / "binary.csv")


def test_a_free_protocol_name_is_allowed(tmp_path):
    (row,) = with_own(_own(tmp_path, {**GOOD, "protocol": "our-rules+3x"}))[-1:]
    assert (row.protocol, row.facts) == ("our-rules+3x", {})


def test_published_detectors_have_the_facts_of_their_protocol():
    facts = {row.row: published_facts(row) for row in published_rows() if row.task == "coco"}
    vitdet = facts["mae-vit-b-16-1600ep--vitdet-100ep"]
    assert vitdet["attention"] == "windows of 14 in 8 blocks, global in 2, 5, 8, 11"
    assert vitdet["relative positions"] == "decomposed"
    assert facts["cae-vit-b-800ep--cae-mmdet-1x"] == {"attention": "global in all blocks"}
    assert vitdet["patches"] == "16 pixels"
    # detectron2 loads mae_pretrain_vit_huge_p14to16.pth; the network here has patches of 14.
    huge = facts["mae-vit-h-14-resized-to-16-1600ep--vitdet-75ep"]
    assert (huge["patches"], huge["attention"][:31]) == (
        "16 pixels",
        "windows of 14 in 28 blocks, glo",
    )
    for row in ("pe-core-g--vitdet-pe-75ep", "pe-spatial-g--vitdet-pe-spatial-36ep"):
        assert facts[row]["patches"] == "16 pixels"
        assert facts[row]["attention"] == "windows of 32 in 46 blocks, global in 12, 24, 36, 49"
    swin = facts["supervised-swin-t-300ep--swin-mmdet-1x"]["windows"]
    assert swin.endswith("7 in 2 blocks, shifted by 3 in 1")
