"""What every pretraining method promises, over all that are registered."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from backbones.base.errors import StoppedError
from backbones.base.monitor import SilentMonitor
from backbones.catalog import get_spec
from backbones.spec import BuildOptions
from backbones.weights.files import read_safetensors
from backbones.weights.loading import build_backbone
from backbones.weights.source import open_checkpoint
from pretrain.catalog import get_recipe, recipes
from pretrain.config import PretrainConfig
from pretrain.distillation_config import DistillationConfig
from pretrain.method import get_method, methods
from pretrain.train import PretrainJob, build_objective, pretrain

NANO = sorted(name for name in recipes() if name.endswith("-nano"))
STEPS = 6
# Twenty losses a recipe. A deliberate change of a method or recipe is written down by
# BACKBENCH_WRITE_GOLDEN=1 pytest tests/contracts/test_methods.py -k golden
GOLDEN = Path(__file__).with_name("golden_losses.json")
ROOT = Path(__file__).resolve().parents[2]


def small(name: str, steps: int = STEPS, processes: int = 1) -> PretrainConfig:
    """Return a nano recipe on batches of four of 12 images.

    In two micro-batches, unless these are not what one large batch is; with the local crops that
    the recipes of small pictures leave out.
    """
    config = get_recipe(name)
    if isinstance(config.model, DistillationConfig):
        config = replace(config, model=replace(config.model, num_local_crops=2))
    whole = get_method(config.method).couples_images
    schedule = replace(
        config.schedule,
        epochs=steps * 4 / 12,
        batch_size=4,
        batch_size_per_device=4 // processes if whole else 2,
        warmup_epochs=0.5,
        state_images=4,
    )
    # A GPU's losses are read now and then; these tests look at each.
    return replace(config, schedule=schedule, runtime=replace(config.runtime, read_every=1))


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for number in range(12):
        path = folder / f"class{number % 2}" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        coarse = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((80, 60), Image.Resampling.BICUBIC).save(path)
    return folder


class Stop(SilentMonitor):
    def __init__(self, after: int) -> None:
        self.after, self.losses = after, []

    def progress(self, progress):
        self.losses.append(progress.losses["loss"])

    def should_stop(self):
        return len(self.losses) >= self.after


@pytest.fixture
def job(photos, tmp_path):
    def make(name: str, folder: str, steps: int = STEPS) -> PretrainJob:
        config = small(name, steps)
        spec = get_spec(config.backbone)
        return PretrainJob(
            spec, config, photos, tmp_path / folder, 5, tmp_path, name, num_workers=0
        )

    return make


def test_every_method_has_a_nano_recipe():
    assert {get_recipe(name).method for name in NANO} == set(methods())


@pytest.mark.parametrize("name", sorted(recipes()))
def test_every_recipe_is_possible(name):
    config = get_recipe(name).resolved()
    method, spec = get_method(config.method), get_spec(config.backbone)
    method.check(spec, config)
    assert callable(method.views(spec, config))


@pytest.mark.parametrize("name", NANO)
def test_a_stopped_run_ends_bit_for_bit_as_an_unbroken_one(name, job):
    unbroken = Stop(after=99)
    expected = pretrain(job(name, "unbroken"), unbroken)
    assert len(unbroken.losses) == STEPS
    stopped = Stop(after=3)
    with pytest.raises(StoppedError):
        pretrain(job(name, "stopped"), stopped)
    rest = Stop(after=99)
    found = pretrain(job(name, "stopped"), rest)
    assert stopped.losses + rest.losses == unbroken.losses
    one, other = (read_safetensors(o.objective_file) for o in (expected, found))
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert found.checkpoint.sha256 == expected.checkpoint.sha256
    assert found.pictures


@pytest.mark.parametrize("name", NANO)
def test_the_checkpoint_loads_into_a_backbone_whole(name, job):
    outcome = pretrain(job(name, "run"), SilentMonitor())
    checkpoint = open_checkpoint(f"ckpt:{outcome.checkpoint.path}")
    spec = get_spec(checkpoint.backbone)
    backbone, coverage = build_backbone(spec, checkpoint, BuildOptions(img_size=64), seed=0)
    assert coverage.loaded == coverage.total
    assert not coverage.fresh
    assert all(torch.isfinite(value).all() for value in backbone.state_dict().values())


@pytest.mark.parametrize("name", NANO)
def test_every_trained_parameter_gets_a_gradient(name, photos, job):
    run = job(name, "run")
    config = replace(run.config, data=replace(run.config.data, num_classes=2))
    method = get_method(config.method)
    views = method.views(run.spec, config)
    images = [Image.open(path).convert("RGB") for path in sorted(photos.rglob("*.png"))[:4]]
    samples = [views(image, torch.Generator().manual_seed(i)) for i, image in enumerate(images)]
    batch = {key: torch.stack([sample[key] for sample in samples]) for key in samples[0]}
    batch |= {"index": torch.arange(4), "label": torch.arange(4) % 2}
    ready = {k: v.float() / 128 - 1 if v.dtype == torch.uint8 else v for k, v in batch.items()}
    objective = build_objective(method, run.spec, config, seed=0).train()
    sum(objective(ready).values()).backward()
    without = [
        key
        for key, value in objective.named_parameters()
        if value.requires_grad and value.grad is None
    ]
    assert without == []


@pytest.mark.parametrize("name", NANO)
def test_twenty_losses_are_the_golden_ones(name, job):
    monitor = Stop(after=99)
    pretrain(job(name, "run", steps=20), monitor)
    golden = json.loads(GOLDEN.read_text())
    if os.environ.get("BACKBENCH_WRITE_GOLDEN"):
        golden[name] = [round(loss, 6) for loss in monitor.losses]
        GOLDEN.write_text(json.dumps(golden, indent=1, sort_keys=True) + "\n")
    assert monitor.losses == pytest.approx(golden[name], rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", NANO)
def test_two_processes_lose_what_one_does(name, photos, tmp_path):
    """Each takes half of every batch: the same samples, means and gradients, to summation order."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    one = launch(name, photos, tmp_path / "one")
    ranks = [
        launch(name, photos, tmp_path / "two", WORLD_SIZE="2", RANK=rank, LOCAL_RANK=rank, **group)
        for rank in "01"
    ]
    for process in (one, *ranks):
        _, text = process.communicate(timeout=300)
        assert process.returncode == 0, text
    alone, pair = (
        json.loads((tmp_path / folder / "losses.json").read_text()) for folder in ("one", "two")
    )
    assert len(alone) == STEPS
    assert pair == pytest.approx(alone, rel=2e-3)


def launch(name, photos, out, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.contracts.launched", name, photos, out],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        stderr=subprocess.PIPE,
        text=True,
    )
