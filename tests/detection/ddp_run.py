"""A few steps of training, as one process or as one of several; writes losses and a checksum.

Run by test_ddp.py with the environment variables of torch's launchers.
"""

import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from backbones.base.devices import wrap
from backbones.base.distributed import rank, world_size
from backbones.base.monitor import Progress, SilentMonitor
from backbones.catalog import get_spec
from backbones.spec import BuildOptions
from detection import transfer as devices
from detection.data.dataset import find_coco, load_training_images
from detection.data.loader import train_batches
from detection.model.detector import build_detector
from detection.optim import make_optimizer, parameter_groups
from detection.recipes import mini
from detection.schedule import make_plan
from detection.train import train
from detection.trainer import Training


class Losses(SilentMonitor):
    def __init__(self) -> None:
        self.losses: list[dict[str, float]] = []

    def progress(self, progress: Progress) -> None:
        self.losses.append(dict(progress.losses or {}))


def main(name: str, data: Path, out: Path) -> None:
    device = devices.join()
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
    groups = parameter_groups(detector, net, config.optim)
    optimizer = make_optimizer(groups, config.optim, plan.lr)
    training = Training(detector, optimizer, config, plan, 3, out, {"run": "ddp"})
    monitor = Losses()
    train(
        training,
        partial(wrap, device=device),
        lambda step: train_batches(
            images, config, seed=0, start_step=step, rank=rank(), world_size=world_size()
        ),
        monitor,
    )
    if rank() == 0:
        total = sum(p.detach().double().abs().sum().item() for p in detector.parameters())
        sys.stdout.write(json.dumps({"losses": monitor.losses, "weights": total}) + "\n")
    devices.leave()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
