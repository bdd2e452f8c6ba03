"""The front door: one call trains, evaluates and accounts for its cost; twice is once."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from backbones.base.errors import PreflightError, StoppedError, UserError
from backbones.base.monitor import Progress, SilentMonitor
from backbones.spec import BackboneSpec
from detection.config import DetectionConfig
from detection.data.dataset import find_coco, load_split
from detection.transfer import TransferJob, transfer

COSTS = {
    "images_per_second_train",
    "images_per_second_test",
    "loader_wait_percent",
    "parameters_millions",
    "gflops",
    "peak_memory_gib",
    "seconds",
}


class Watcher(SilentMonitor):
    def __init__(self, stop_at: int | None = None) -> None:
        self.said: list[str] = []
        self.steps: list[int] = []
        self._stop_at = stop_at

    def progress(self, progress: Progress) -> None:
        if progress.phase == "train":
            self.steps.append(progress.step)

    def say(self, text: str) -> None:
        self.said.append(text)

    def should_stop(self) -> bool:
        return self._stop_at is not None and self._stop_at in self.steps


def test_train_evaluate_account_and_never_twice(
    write_coco: Callable[..., Path],
    plain_spec: BackboneSpec,
    toy_config: DetectionConfig,
    make_job: Callable[..., TransferJob],
    tmp_path: Path,
) -> None:
    job = replace(make_job(write_coco(), tmp_path / "run", plain_spec, toy_config), timed=True)
    watcher = Watcher()
    outcome = transfer(job, watcher)
    assert {"APbox", "AP50box", "APmask"} <= set(outcome.metrics)
    assert set(outcome.per_class) == {"cat", "dog"}
    assert set(outcome.cost) == COSTS
    assert all(value >= 0 for value in outcome.cost.values())
    assert outcome.cost["gflops"] > 0
    for name in ("images_per_second_train", "images_per_second_test"):
        assert outcome.rates.images_per_second[name] > 0
        assert outcome.rates.conditions[name].alone
    assert outcome.detections_file.is_file()
    assert "fresh" in outcome.coverage
    card = "\n".join(watcher.said)
    for words in ("protocol: mini/v1", "2 classes, masks", "lr 0.0025", "micro-batches", "fp32"):
        assert words in card, words
    assert watcher.steps == [1, 2, 3, 4]
    again_watcher = Watcher()
    again = transfer(job, again_watcher)
    assert again_watcher.steps == []
    assert again.metrics == outcome.metrics
    assert again.curves == outcome.curves


def test_timing_a_run_changes_no_result(
    write_coco: Callable[..., Path],
    plain_spec: BackboneSpec,
    toy_config: DetectionConfig,
    make_job: Callable[..., TransferJob],
    tmp_path: Path,
) -> None:
    root = write_coco()
    job = replace(make_job(root, tmp_path / "a", plain_spec, toy_config), timed=True)
    timed = transfer(job, Watcher())
    after = torch.random.get_rng_state()
    plain = transfer(make_job(root, tmp_path / "b", plain_spec, toy_config), Watcher())
    assert torch.equal(torch.random.get_rng_state(), after)
    assert (timed.metrics, timed.curves) == (plain.metrics, plain.curves)
    assert timed.detections_file.read_bytes() == plain.detections_file.read_bytes()
    names = [path.name for path in sorted((tmp_path / "a" / "states").iterdir())]
    assert names == [path.name for path in sorted((tmp_path / "b" / "states").iterdir())]
    for name in (name for name in names if name.endswith(".safetensors")):
        same = [(tmp_path / run / "states" / name).read_bytes() for run in "ab"]
        assert same[0] == same[1]


@pytest.mark.slow
def test_stopped_and_started_again_gives_the_same_numbers(
    write_coco: Callable[..., Path],
    plain_spec: BackboneSpec,
    toy_config: DetectionConfig,
    make_job: Callable[..., TransferJob],
    tmp_path: Path,
) -> None:
    root = write_coco()
    whole = transfer(make_job(root, tmp_path / "a", plain_spec, toy_config), Watcher())
    job = make_job(root, tmp_path / "b", plain_spec, toy_config)
    with pytest.raises(StoppedError):
        transfer(job, Watcher(stop_at=2))
    watcher = Watcher()
    resumed = transfer(job, watcher)
    assert watcher.steps == [3, 4]
    assert resumed.metrics == whole.metrics
    assert resumed.curves == whole.curves


def test_boxes_only_data_reports_boxes_alone(
    write_coco: Callable[..., Path],
    coco_content: Callable[..., dict[str, object]],
    plain_spec: BackboneSpec,
    toy_config: DetectionConfig,
    make_job: Callable[..., TransferJob],
    tmp_path: Path,
) -> None:
    content = coco_content(masks=False)
    root = write_coco(content, content)
    watcher = Watcher()
    outcome = transfer(make_job(root, tmp_path / "run", plain_spec, toy_config), watcher)
    assert "APbox" in outcome.metrics
    assert not any("mask" in name for name in outcome.metrics)
    assert not any("mask" in name for name in outcome.curves)
    assert "boxes only" in "\n".join(watcher.said)


def test_a_limit_that_leaves_nothing_to_measure_is_told_before_training(
    write_coco: Callable[..., Path],
    coco_content: Callable[..., dict[str, Any]],
    plain_spec: BackboneSpec,
    toy_config: DetectionConfig,
    make_job: Callable[..., TransferJob],
    tmp_path: Path,
) -> None:
    (kept,) = load_split(find_coco(write_coco(name="all")), "val", limit_images=1)
    val = coco_content()
    val["annotations"] = [a for a in val["annotations"] if a["image_id"] != kept["image_id"]]
    job = make_job(write_coco(None, val), tmp_path / "run", plain_spec, toy_config)
    watcher = Watcher()
    with pytest.raises(PreflightError, match=r"of the 1 validation .* measure; raise --limit-i"):
        transfer(replace(job, limit_images=1), watcher)
    assert watcher.steps == []


def test_another_recipe_in_the_same_folder_is_refused(
    write_coco: Callable[..., Path],
    plain_spec: BackboneSpec,
    toy_config: DetectionConfig,
    make_job: Callable[..., TransferJob],
    tmp_path: Path,
) -> None:
    job = make_job(write_coco(), tmp_path / "run", plain_spec, toy_config)
    with pytest.raises(StoppedError):
        transfer(job, Watcher(stop_at=1))
    optim = replace(toy_config.optim, base_lr=1e-3)
    with pytest.raises(UserError, match="another run"):
        transfer(replace(job, config=replace(toy_config, optim=optim)), Watcher())
