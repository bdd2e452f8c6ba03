"""A fine-tuning in one of several processes: ``python -m tests.faults.launched_finetune OUT``."""

import json
import sys
from dataclasses import replace
from pathlib import Path

from backbones.base.monitor import SilentMonitor
from backbones.catalog import get_spec
from backbones.weights.source import open_checkpoint
from benchmarks.data.roots import DataRoot
from benchmarks.suites import get_task
from benchmarks.task import TaskInputs
from benchmarks.tasks.finetune.recipes import finetune_mini


def main(images: str, out: str) -> None:
    config = finetune_mini()
    config = replace(
        config,
        data=replace(config.data, img_size=16, resize_to=18),
        schedule=replace(config.schedule, epochs=2.0, batch_size=8, batch_size_per_device=4),
    )
    inputs = TaskInputs(
        backbone=get_spec("vit-nano"),
        checkpoint=open_checkpoint("vit-nano", None),
        config=config,
        data=DataRoot("imagenet", "mine", Path(images), "--data mine"),
        out_dir=Path(out),
        cache=Path(out) / "cache",
        seed=0,
    )
    result = get_task("finetune").run(inputs, SilentMonitor())
    sys.stdout.write(json.dumps([dict(result.metrics), result.curves["loss"]]))


if __name__ == "__main__":
    main(*sys.argv[1:])
