"""A few steps of training, as one process or as one of several; writes losses and a checksum.

Run by test_ddp.py with the environment variables of torch's launchers.
"""

import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from backbones.base.distributed import rank
from backbones.base.monitor import Progress, SilentMonitor
from backbones.catalog import get_spec
from backbones.spec import BuildOptions
from backbones.training.engine import fit
from backbones.training.session import joined
from backbones.training.state import StateFolder
from backbones.training.stream import batches
from detection.data.dataset import find_coco, load_training_images
from detection.data.loader import TrainSamples
from detection.model.detector import build_detector
from detection.objective import DetectionObjective, detector_groups, make_training
from detection.recipes import mini
from detection.schedule import make_plan
from detection.transfer import local_group


class Losses(SilentMonitor):
    def __init__(self) -> None:
        self.losses: list[dict[str, float]] = []

    def progress(self, progress: Progress) -> None:
        self.losses.append(dict(progress.losses or {}))


def main(name: str, data: Path, out: Path) -> None:
    monitor = Losses()
    with joined(monitor), local_group():
        torch.set_num_threads(1)
        config = mini()
        config = replace(
            config,
            data=replace(config.data, img_size=64),
            model=replace(config.model, drop_path=(0.3,)),
            schedule=replace(
                config.schedule, epochs=3.0, batch_size=4, batch_size_per_device=1, warmup_images=0
            ),
        ).resolved()
        images = load_training_images(find_coco(data), config.data, seed=0)
        plan = make_plan(config.schedule, config.optim, len(images))
        spec = get_spec(name)
        torch.manual_seed(0)
        net = spec.build(BuildOptions(img_size=64, drop_path=0.3))
        detector = build_detector(net, spec, config, (2, True), seed=0)
        objective = DetectionObjective(detector, config.optim)
        groups = detector_groups(objective, config.optim)
        training = make_training(objective, groups, plan, config, 3)
        samples = TrainSamples(images, config.data, 0)
        states = StateFolder(out / "states", {"run": "ddp"})
        stream = partial(batches, samples, training.share, num_workers=0)
        fit(training, states, stream, monitor)
        if rank() == 0:
            total = sum(p.detach().double().abs().sum().item() for p in detector.parameters())
            sys.stdout.write(json.dumps({"losses": monitor.losses, "weights": total}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
