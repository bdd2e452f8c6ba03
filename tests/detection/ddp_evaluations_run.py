"""A run with evaluations, as one process or as one of several; writes weights, scores and curves.

Run by test_evaluations.py with the environment variables of torch's launchers.
"""

import hashlib
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

from backbones.base.errors import StoppedError
from backbones.base.monitor import Progress, SilentMonitor
from backbones.catalog import get_spec
from backbones.checkpoint import FRESH, Checkpoint
from detection.data.dataset import find_coco
from detection.recipes import mini
from detection.transfer import TransferJob, transfer


class StopWithin(SilentMonitor):
    """Asks this process to stop in the evaluation after a step; the others agree."""

    def __init__(self, step: int) -> None:
        self._wanted = step
        self._step = 0
        self._evaluates = False

    def progress(self, progress: Progress) -> None:
        self._evaluates = progress.phase == "evaluate"
        if progress.phase == "train":
            self._step = progress.step

    def should_stop(self) -> bool:
        return self._step == self._wanted and self._evaluates


def main(data: Path, out: Path, every_epochs: float, stop_at: int) -> None:
    config = mini()
    config = replace(
        config,
        data=replace(config.data, img_size=64),
        schedule=replace(
            config.schedule, epochs=3.0, batch_size=4, batch_size_per_device=1, warmup_images=0
        ),
        evaluation=replace(config.evaluation, batch_size_per_device=1, every_epochs=every_epochs),
    )
    spec = get_spec("resnet-nano")
    job = TransferJob(
        spec=spec,
        checkpoint=Checkpoint(spec.name, None, FRESH, source=spec.name),
        config=config,
        data=find_coco(data),
        out_dir=out,
        seed=0,
        cache=out.parent / "cache",
        num_workers=0,
    )
    first = os.environ["RANK"] == "0"
    try:
        outcome = transfer(job, StopWithin(stop_at))
    except StoppedError as stopped:
        found = {"stopped": str(stopped)}
    else:
        weights = (out / "states" / "step-00000003.safetensors").read_bytes()
        found = {
            "weights": hashlib.sha256(weights).hexdigest(),
            "metrics": outcome.metrics,
            "curves": outcome.curves,
        }
    if first:
        sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    given = [*sys.argv[1:], "-1"]
    main(Path(given[0]), Path(given[1]), float(given[2]), int(given[3]))
