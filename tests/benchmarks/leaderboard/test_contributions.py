"""Contributed bundles: the reference rows pass, tampered ones are named."""

import re
import zipfile
from pathlib import Path

import pytest
from msgspec.structs import replace

from benchmarks.cli import main
from benchmarks.leaderboard.bundles.checking import faults_of
from benchmarks.leaderboard.bundles.reading import read_bundle
from benchmarks.leaderboard.bundles.writing import Packed, write_bundle
from benchmarks.store.folders import Store
from benchmarks.store.record_file import to_text

ROWS = Path(__file__).resolve().parents[3] / "rows"


@pytest.fixture
def packed():
    """Return a record of the reference rows."""
    return next(iter(read_bundle(ROWS / "mini.zip")))


def changed(packed, **fields):
    """Return the record with other fields, as somebody who knows the format would write it."""
    record = replace(packed.record, **fields)
    return Packed(record, to_text(record), packed.resamples)


def with_metric(packed, name, value):
    metrics = dict(packed.record.metrics)
    metrics[name] = replace(metrics[name], value=value)
    return changed(packed, metrics=metrics)


def with_recipe(packed, section, **values):
    recipe = packed.record.spec.recipe
    new = {**recipe, section: {**recipe[section], **values}}
    return changed(packed, spec=replace(packed.record.spec, recipe=new))


def with_cost(packed, **values):
    return changed(packed, cost={**packed.record.cost, **values})


@pytest.mark.parametrize("path", sorted(ROWS.glob("*.zip")), ids=lambda path: path.name)
def test_reference_rows_can_be_what_they_say(path, tmp_path, capsys):
    assert main(["merge", str(path), "--check", "--out", str(tmp_path / "runs")]) == 0
    assert "0 cannot" in capsys.readouterr().out
    assert not (tmp_path / "runs").exists()
    assert all(faults_of(one) == [] for one in read_bundle(path))


TAMPERED = {
    "a better headline": (
        lambda one: with_metric(one, "APbox", one.record.value("APbox") + 5),
        "its results by image come to",
    ),
    "AP above AP50": (
        lambda one: with_metric(one, "AP50box", one.record.value("APbox") - 1),
        "above AP50box",
    ),
    "a recipe behind another protocol": (
        lambda one: with_recipe(one, "schedule", epochs=45.0),
        "states schedule.epochs=4.5, but it was run with 45.0",
    ),
    "a label that the recipe does not have": (
        lambda one: changed(one, labels=replace(one.record.labels, protocol="vitdet/v1+100ep")),
        "its protocol is vitdet/v1+100ep, but its recipe has mini/v1",
    ),
    "another version": (
        lambda one: changed(one, spec=replace(one.record.spec, task_version=0)),
        "it is of version 0 of coco",
    ),
    "no seconds": (lambda one: with_cost(one, seconds=1.0), "but it says 1 s"),
    "more seconds than it ran": (lambda one: with_cost(one, seconds=1e6), "its attempts lasted"),
    "too fast": (
        lambda one: with_cost(one, images_per_second_train=1e7),
        "more than its devices can do",
    ),
    "another network's operations": (lambda one: with_cost(one, gflops=460.0), "GFLOPs, but"),
    "no resamples": (
        lambda one: Packed(one.record, one.text, None),
        "no resamples of its test images",
    ),
}


@pytest.mark.parametrize("kind", TAMPERED)
def test_a_tampered_record_is_named(packed, tmp_path, kind, capsys):
    """Also with checksums and run ids that fit again."""
    change, words = TAMPERED[kind]
    bad = change(packed)
    assert any(words in fault for fault in faults_of(bad)), faults_of(bad)
    path = tmp_path / "bad.zip"
    write_bundle(path, [bad])
    assert main(["merge", str(path), "--check", "--out", str(tmp_path / "runs")]) == 4
    assert words in capsys.readouterr().err


def test_a_changed_byte_is_refused_before_anything_is_read(tmp_path, capsys):
    path = tmp_path / "bad.zip"
    with zipfile.ZipFile(ROWS / "mini.zip") as before, zipfile.ZipFile(path, "w") as after:
        for name in before.namelist():
            content = before.read(name)
            if name.startswith("records/"):
                content = re.sub(rb'"seed": ?0', b'"seed":1', content)
            after.writestr(name, content)
    assert main(["merge", str(path), "--check", "--out", str(tmp_path / "runs")]) == 4
    assert "is not what bundle.json lists" in capsys.readouterr().err


def test_the_reference_rows_merge(tmp_path):
    assert main(["merge", str(ROWS / "mini.zip"), "--out", str(tmp_path)]) == 0
    records = Store(tmp_path).scan().records.values()
    assert {record.labels.entry for record in records} == {"vit-nano", "swin-nano", "resnet-nano"}
    assert all(record.value("AP50box") > 40 for record in records)
