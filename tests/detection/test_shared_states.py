"""Runs that differ only in what they are tested on share their training."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from backbones.base.monitor import SilentMonitor
from backbones.spec import BackboneSpec
from detection.config import DetectionConfig
from detection.transfer import transfer


class Listener(SilentMonitor):
    def __init__(self) -> None:
        self.said: list[str] = []
        self.phases: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def progress(self, progress: Any) -> None:
        self.phases.append(progress.phase)


@pytest.mark.parametrize("change", ["val", "train"])
def test_mending_val_goes_on_to_the_evaluation(
    tmp_path: Path,
    write_coco: Callable[..., Path],
    make_job: Callable[..., Any],
    plain_spec: BackboneSpec,
    toy_config: DetectionConfig,
    change: str,
) -> None:
    root = write_coco()
    config = replace(toy_config, schedule=replace(toy_config.schedule, epochs=1.0))
    first = transfer(make_job(root, tmp_path / "a" / "work", plain_spec, config), SilentMonitor())
    path = root / f"{change}2017" / "1.png"
    Image.new("RGB", (64, 48), (200, 10, 10)).save(path)
    os.utime(path)
    listener = Listener()
    second = transfer(
        replace(make_job(root, tmp_path / "b" / "work", plain_spec, config), runs=tmp_path),
        listener,
    )
    adopted = any("of the same training" in text for text in listener.said)
    assert adopted == (change == "val")
    assert ("train" in listener.phases) == (change == "train")
    if change == "val":
        assert second.curves == first.curves
        states = [
            sorted((tmp_path / name / "work" / "states").glob("*.safetensors")) for name in "ab"
        ]
        assert states[0][-1].read_bytes() == states[1][-1].read_bytes()
