"""``run.py predict``: names, images and files; slow, the whole way from a training on."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from backbones.base.errors import PreflightError, UserError
from benchmarks import cli
from benchmarks.by_image.resamples import read_resamples
from benchmarks.commands.predict import _paths, _samples
from benchmarks.data.mini import mini_data
from benchmarks.store.folders import Store
from benchmarks.work import detectors
from benchmarks.work.detectors import _refuse_other_code


def test_images_are_named_by_file_folder_pattern_and_list(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    names = ["b.jpg", "a.PNG", "deep/c.webp", "notes.md"]
    for name in names:
        (folder / name).write_bytes(b"")
    (tmp_path / "list.txt").write_text("photos/b.jpg\n\nphotos/a.PNG\n", "utf-8")
    found = {
        "folder": list(_paths(str(folder))),
        "pattern": list(_paths(str(folder / "*.jpg"))),
        "list": list(_paths(str(tmp_path / "list.txt"))),
        "file": list(_paths(str(folder / "b.jpg"))),
    }
    assert found == {
        "folder": [folder / "a.PNG", folder / "b.jpg", folder / "deep" / "c.webp"],
        "pattern": [folder / "b.jpg"],
        "list": [folder / "b.jpg", folder / "a.PNG"],
        "file": [folder / "b.jpg"],
    }
    for text in (str(tmp_path / "*.tif"), str(tmp_path / "absent.jpg")):
        with pytest.raises(PreflightError, match="there are no files of this name"):
            list(_paths(text))


def test_no_readable_image_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.jpg"
    path.write_bytes(b"x")
    with pytest.raises(PreflightError, match="None of 1 images can be read"):
        _samples([path], None)


def test_a_name_that_means_no_run_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs").mkdir()
    words = ["predict", "nobody", "x.jpg", "--to", str(tmp_path / "to")]
    assert cli.main([*words, "--out", str(tmp_path / "runs")]) == 2
    assert "No finished detection run in" in capsys.readouterr().err
    assert cli.main([*words, "--out", str(tmp_path / "absent")]) == 4


def test_exports_that_cannot_be_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "weights.safetensors").write_bytes(b"")
    to = ["--to", str(tmp_path / "out.pth"), "--out", str(tmp_path / "runs")]
    for source, layout, words in (
        ("nobody", "detectron2", "No finished detection run"),
        ("nobody", "onnx", "No finished detection run"),
        (str(tmp_path / "weights.safetensors"), "torchscript", "name an entry or a run id"),
        ("nobody", "mae", "There is no file nobody"),
        (str(tmp_path / "weights.safetensors"), "detectron2", "name an entry or a run id"),
    ):
        assert cli.main(["export", source, "--format", layout, *to]) == 2
        assert words in capsys.readouterr().err
    assert not (tmp_path / "out.pth").exists()


def test_a_run_that_this_version_would_build_otherwise_is_refused(
    make_record: Any, make_spec: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _refuse_other_code(make_record())
    with pytest.raises(UserError, match="trained before version 1 of coco"):
        _refuse_other_code(make_record(make_spec(task_version=7)))
    monkeypatch.setattr(detectors, "broken_rules", lambda record: ("swin-windows/1",))
    with pytest.raises(UserError, match=r"trained before the rule swin-windows/1 \("):
        _refuse_other_code(make_record())


@pytest.mark.slow
def test_a_run_its_predictions_and_their_scores_are_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Train a little on the mini data, predict its validation images, score the results."""
    out = tmp_path / "runs"
    few = ["--set", "schedule.epochs=0.03", "--set", "evaluation.score_threshold=0.0"]
    run = ["--entries", "resnet-nano", "--executor", "inline", *few, "--out", str(out)]
    assert cli.main(run) == 0
    (own,) = Store(out).scan().records.values()
    folder = tmp_path / "photos"
    shutil.copytree(mini_data().coco / "val2017", folder)
    (folder / "broken.png").write_bytes(b"no image")
    words = [
        "predict",
        "resnet-nano",
        str(mini_data().coco / "val2017"),
        str(folder / "broken.png"),
    ]
    capsys.readouterr()
    code = cli.main([*words, "--to", str(tmp_path / "to"), "--out", str(out), "--no-pictures"])
    shown = capsys.readouterr()
    assert code == 3
    assert "broken.png cannot be decoded" in shown.err
    assert "150 images" in shown.out

    results = tmp_path / "to" / "results.json"
    assert cli.main(["score", str(results), "--name", "again", "--out", str(out)]) == 0
    records = {r.spec.task: r for r in Store(out).scan().records.values()}
    scored = records["external"]
    assert _values(scored) == _values(own)
    paths = [out / r.run_id / "work" / "resamples.npz" for r in (own, scored)]
    first, second = map(read_resamples, paths)
    assert first.images == second.images
    for name, values in first.values.items():
        assert np.array_equal(values, second.values[name], equal_nan=True), name

    file = tmp_path / "detector.pth"
    words = ["export", "resnet-nano", "--format", "detectron2", "--to", str(file)]
    assert cli.main([*words, "--out", str(out)]) == 0
    content = torch.load(file, weights_only=True)
    assert content["backbench"]["run"] == own.run_id
    assert len(content["backbench"]["categories"]) == 10
    assert "roi_heads.box_predictor.cls_score.weight" in content["model"]

    # Elsewhere, the same pictures have ids of their own.
    words = ["predict", own.run_id[:6], str(folder / "*01.png"), "--to", str(tmp_path / "other")]
    assert cli.main([*words, "--out", str(out), "--least-score", "0"]) == 0
    listed = json.loads((tmp_path / "other" / "images.json").read_text("utf-8"))
    assert len(list((tmp_path / "other" / "pictures").glob("*.png"))) == len(listed["images"])
    assert {c["name"] for c in listed["categories"]} >= {"coins ring"}


def _values(record: Any) -> dict[str, Any]:
    return {name: metric.value for name, metric in record.metrics.items()}
