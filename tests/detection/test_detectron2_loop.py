"""The training loop against detectron2's own: the same losses and weights, to the bit."""

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.engine import HookBase, SimpleTrainer

from backbones.base.monitor import Progress, SilentMonitor
from backbones.spec import BackboneSpec, BuildOptions
from backbones.training.fitted import Fitted
from backbones.training.state import seed_generators
from detection.config import DetectionConfig
from detection.model.detector import Detector, build_detector
from detection.schedule import make_plan

STEPS, SEED, LR, DECAY, BOUND = 12, 1, 1e-3, 0.05, 1.0
Losses = list[dict[str, float]]


class Seeded(HookBase):
    """Gives each step of detectron2's loop the draws of ours, and bounds its gradients."""

    def __init__(self, clips: bool) -> None:
        self._clips = clips

    def before_step(self) -> None:
        seed_generators(SEED, self.trainer.iter, 0)

    def after_backward(self) -> None:
        if self._clips:
            torch.nn.utils.clip_grad_norm_(self.trainer.model.parameters(), BOUND)


class Kept(SilentMonitor):
    def __init__(self) -> None:
        self.losses: Losses = []

    def progress(self, progress: Progress) -> None:
        self.losses.append(dict(progress.losses or {}))


def build(spec: BackboneSpec, config: DetectionConfig) -> Detector:
    torch.manual_seed(0)
    net = spec.build(BuildOptions(img_size=64, drop_path=0.3))
    return build_detector(net, spec, config, (3, True), seed=0)


def by_detectron2(detector: Detector, optimizer: Any, clips: bool, batches: Any) -> Losses:
    trainer = SimpleTrainer(detector, batches, optimizer)
    trainer.register_hooks([Seeded(clips)])
    trainer.train(0, STEPS)
    names = [name for name in trainer.storage.histories() if name.startswith("loss_")]
    columns = {name: trainer.storage.history(name).values() for name in names}
    return [{name: columns[name][step][0] for name in names} for step in range(STEPS)]


@pytest.mark.parametrize("clips", [False, True], ids=["free", "clipped"])
@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_detectron2s_loop_finds_the_same_losses_and_weights(
    kind: str,
    clips: bool,
    plain_spec: BackboneSpec,
    toy_config: DetectionConfig,
    toy_batch: Callable[..., list[dict[str, Any]]],
    fit_detector: Callable[..., Fitted],
    tmp_path: Path,
) -> None:
    """With a constant rate and one group, which is what its loop has without hooks of its own."""
    optim = replace(
        toy_config.optim,
        optimizer=kind,
        base_lr=LR,
        lr_scaling="none",
        weight_decay=DECAY,
        decay_rule="everything",
        layer_decay=(1.0,),
        clip_norm=BOUND if clips else 0.0,
    )
    schedule = replace(
        toy_config.schedule, epochs=float(STEPS), batch_size=2, decay="step", drops=()
    )
    config = replace(toy_config, optim=optim, schedule=schedule).resolved()
    theirs = build(plain_spec, config)
    parameters = [p for p in theirs.parameters() if p.requires_grad]
    optimizer: torch.optim.Optimizer
    if kind == "sgd":
        optimizer = torch.optim.SGD(
            parameters, lr=LR, momentum=optim.momentum, weight_decay=DECAY, fused=True
        )
    else:
        optimizer = torch.optim.AdamW(
            parameters, lr=LR, betas=optim.betas, weight_decay=DECAY, fused=True
        )
    batches = (toy_batch(2, seed=i % 4) for i in count())
    expected = by_detectron2(theirs, optimizer, clips, batches)

    ours, monitor = build(plain_spec, config), Kept()
    plan = make_plan(config.schedule, config.optim, 2)
    stream = lambda step: (toy_batch(2, seed=i % 4) for i in count(step))  # noqa: E731
    fit_detector(ours, config, plan, tmp_path, stream, monitor, seed=SEED)
    found = [{n: v for n, v in losses.items() if n != "loss"} for losses in monitor.losses]
    assert len(found) == STEPS
    assert found == expected
    assert found[0] != found[-1]
    state = theirs.state_dict()
    for name, value in ours.state_dict().items():
        assert torch.equal(value, state[name]), name
