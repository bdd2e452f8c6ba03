"""A toy method on a toy network, and a few generated photographs."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from backbones.base.monitor import SilentMonitor
from backbones.catalog import get_spec
from backbones.features import Backbone, Features
from backbones.spec import BackboneSpec
from backbones.training.config import OptimConfig, RuntimeConfig, ScheduleConfig
from backbones.training.objective import Objective
from pretrain.config import MethodConfig, PretrainConfig
from pretrain.method import Method, get_method

SIDE = 8


class ToyBackbone(Backbone):
    strides, channels, num_layers = (4,), (8,), 1

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, stride=4)
        self.drop = nn.Dropout(0.1)

    def forward(self, images, num_last_blocks=0):
        maps = self.forward_maps(images)
        return Features(pooled=maps[0].mean((2, 3)), maps=maps)

    def forward_maps(self, images):
        return (self.drop(self.stem(images)),)

    def layer_id(self, parameter_name):
        return 0

    def set_activation_checkpointing(self, enabled):
        self.recomputes = enabled


@dataclass(frozen=True)
class ToyConfig(MethodConfig):
    momentum: float = 0.9


class ToyObjective(Objective):
    """Predicts noise that came with the batch; keeps a running mean of features as a centre."""

    def __init__(self, config):
        super().__init__()
        self.backbone = ToyBackbone()
        self.head = nn.Linear(8, 4)
        self.config = config
        self.register_buffer("centre", torch.zeros(8))
        self._sums = []

    def forward(self, batch):
        pooled = self.backbone(batch["image"]).pooled
        self._sums.append(pooled.detach().float().mean(0))
        predicted = self.head(pooled - self.centre)
        return {
            "noise": (predicted - batch["noise"]).square().mean(),
            "size": 0.01 * predicted.square().mean(),
        }

    def after_update(self, moment):
        from backbones.base.distributed import mean_over_ranks

        mean = mean_over_ranks(torch.stack(self._sums).mean(0))
        self.centre.lerp_(mean, 1 - self.config.momentum)
        self._sums.clear()

    def metrics(self):
        return {"centre": self.centre.abs().mean()}

    def pictures(self, batch):
        return {"Toy, seen": batch["image"][:, None].expand(-1, 2, -1, -1, -1)}


class ToyViews:
    def __call__(self, image, generator):
        pixels = torch.from_numpy(np.array(image.resize((SIDE, SIDE)))).permute(2, 0, 1)
        return {"image": pixels.contiguous(), "noise": 1 + torch.rand(4, generator=generator)}


TOY_SPEC = BackboneSpec(
    name="toy",
    build=lambda options: ToyBackbone(),
    layout="plain",
    strides=(4,),
    channels=(8,),
    num_layers=1,
    source="tests",
)
TOY_METHOD = Method(
    "toy", ToyConfig, lambda spec, config: ToyObjective(config.model), lambda *_: ToyViews()
)


def _method(name: str) -> Method:
    return TOY_METHOD if name == "toy" else get_method(name)


def _spec(name: str, plugins: Path | None = None) -> BackboneSpec:
    return TOY_SPEC if name == "toy" else get_spec(name, plugins)


@pytest.fixture(autouse=True)
def toy_method(monkeypatch):
    """Put the toy beside the real methods and backbones."""
    for name in ("pretrain.train.get_method", "pretrain.objective_file.get_method"):
        monkeypatch.setattr(name, _method)
    monkeypatch.setattr("pretrain.objective_file.get_spec", _spec)
    monkeypatch.setattr("pretrain.objective_file.get_spec", _spec)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    """Return a folder with 20 images in two classes."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(20):
        path = folder / ("ants" if number % 2 else "bees") / f"{number:02d}.png"
        path.parent.mkdir(exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 256, (12, 16, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
    return folder


def toy_config(**schedule) -> PretrainConfig:
    """Return 20 images x 2 epochs in batches of 4: ten steps."""
    values = {
        "epochs": 2.0,
        "batch_size": 4,
        "batch_size_per_device": 4,
        "warmup_epochs": 0.5,
        "precision": "fp32",
        "checkpoint_epochs": 0.0,
        "state_images": 12,
    }
    return PretrainConfig(
        protocol="toy/v1",
        method="toy",
        backbone="toy",
        model=ToyConfig(),
        optim=OptimConfig(base_lr=2.0),
        schedule=ScheduleConfig(**(values | schedule)),
        # A GPU's losses are read now and then; these tests look at each.
        runtime=RuntimeConfig(read_every=1),
    )


def with_(config: PretrainConfig, section: str, **values) -> PretrainConfig:
    """Return the config with fields of one section replaced."""
    return replace(config, **{section: replace(getattr(config, section), **values)})


class StopAfter(SilentMonitor):
    """Hears everything, and stops after a number of steps."""

    def __init__(self, steps: int | None = None) -> None:
        self.steps = steps
        self.done = 0
        self.said: list[str] = []
        self.losses: list[float] = []

    def progress(self, progress):
        self.losses.append(progress.losses["loss"])
        self.done = progress.step

    def say(self, text):
        self.said.append(text)

    def should_stop(self):
        return self.steps is not None and self.done >= self.steps
