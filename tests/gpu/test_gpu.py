"""On a GPU as on the CPU: objectives, tasks, resumed runs, and what its memory decides."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from backbones.base.errors import StoppedError
from backbones.base.monitor import SilentMonitor
from backbones.catalog import get_spec
from backbones.training.pixels import Pixels
from backbones.training.settle import Trial, _measured, settle
from backbones.weights.files import read_safetensors
from backbones.weights.source import open_checkpoint
from benchmarks.suites import get_task, suite_tasks
from pretrain.catalog import get_recipe, recipes
from pretrain.method import get_method, methods
from pretrain.train import PretrainJob, build_objective, pretrain

pytestmark = pytest.mark.gpu

NANO = sorted(name for name in recipes() if "nano" in name)
# What sums in another order: a GPU's own kernels. TF32 is off where torch is not told otherwise.
RTOL, ATOL = 2e-3, 2e-5


def pictures(count: int) -> Iterator[Image.Image]:
    for number in range(count):
        noise = np.random.default_rng(number).integers(0, 256, (8, 10, 3), dtype=np.uint8)
        yield Image.fromarray(noise).resize((96, 80), Image.Resampling.BICUBIC)


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for number, picture in enumerate(pictures(16)):
        path = folder / f"class{number % 2}" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        picture.save(path)
    return folder


def small(name: str, **schedule: float):
    config = get_recipe(name)
    values = {"epochs": 2.0, "batch_size": 8, "batch_size_per_device": 8, "warmup_epochs": 0.0}
    return replace(
        config,
        schedule=replace(config.schedule, state_images=8, **values | schedule),
        runtime=replace(config.runtime, read_every=1),
        data=replace(config.data, num_classes=2),
    ).resolved()


def found_on(device: torch.device, name: str) -> dict[str, torch.Tensor]:
    """Return losses and gradients of a recipe's objective on four images."""
    config = small(name)
    spec, method = get_spec(config.backbone), get_method(config.method)
    objective = build_objective(method, spec, config, seed=0).to(device).train()
    views = method.views(spec, config)
    samples = [
        {
            **views(picture, torch.Generator().manual_seed(number)),
            "label": torch.tensor(number % 2),
            "index": torch.tensor(number),
        }
        for number, picture in enumerate(pictures(4))
    ]
    batch = {key: torch.stack([sample[key] for sample in samples]) for key in samples[0]}
    losses = objective(Pixels(spec, device).ready(batch))
    torch.stack(list(losses.values())).sum().backward()
    gradients = {n: p.grad for n, p in objective.named_parameters() if p.grad is not None}
    return {key: value.detach().cpu() for key, value in {**losses, **gradients}.items()}


@pytest.mark.parametrize("method", sorted(methods()))
def test_an_objective_gives_what_it_gives_on_the_cpu(method, gpu):
    name = next(name for name in NANO if get_recipe(name).method == method)
    expected, found = found_on(torch.device("cpu"), name), found_on(gpu, name)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=RTOL, atol=ATOL, msg=key)


@pytest.mark.parametrize("task", suite_tasks())
def test_every_task_can_be_done(task, tmp_path):
    """Training, evaluation, k-NN and the rest, at their smallest."""
    checkpoint = open_checkpoint("random:vit-nano")
    said = get_task(task).try_out(get_spec("vit-nano"), checkpoint, tmp_path)
    assert said
    assert "nan" not in said


@pytest.mark.parametrize("network", ["swin-nano", "resnet-nano"])
def test_a_hierarchical_detector_is_trained_and_evaluated(network, tmp_path):
    checkpoint = open_checkpoint(f"random:{network}")
    assert "evaluated" in get_task("coco").try_out(get_spec(network), checkpoint, tmp_path)


class Stop(SilentMonitor):
    def __init__(self, after: int = 99) -> None:
        self.after, self.done = after, 0

    def progress(self, progress):
        self.done = progress.step

    def should_stop(self):
        return self.done >= self.after


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_stopped_run_ends_as_an_unbroken_one(precision, images, tmp_path):
    config = small("mae-nano", precision=precision)
    spec = get_spec(config.backbone)
    jobs = [
        PretrainJob(spec, config, images, tmp_path / name, 3, tmp_path, "mae-nano", num_workers=0)
        for name in ("whole", "again")
    ]
    whole = pretrain(jobs[0], Stop())
    with pytest.raises(StoppedError):
        pretrain(jobs[1], Stop(after=2))
    again = pretrain(jobs[1], Stop())
    assert again.curves["loss"] == pytest.approx(whole.curves["loss"], rel=1e-4)
    one, other = (read_safetensors(outcome.objective_file) for outcome in (whole, again))
    for key, value in one.items():
        torch.testing.assert_close(other[key], value, rtol=RTOL, atol=ATOL, msg=key)


def test_memory_decides_how_many_images_are_held_and_is_measured_once(gpu, tmp_path, monkeypatch):
    config = small("mae-nano", batch_size=64, batch_size_per_device=4)
    spec, method = get_spec(config.backbone), get_method(config.method)
    objective = build_objective(method, spec, config, seed=0).to(gpu)
    before = {key: value.clone() for key, value in objective.state_dict().items()}
    views, pixels, asked = method.views(spec, config), Pixels(spec, gpu), []

    def batch_of(count: int):
        asked.append(count)
        samples = [views(picture, torch.Generator().manual_seed(0)) for picture in pictures(count)]
        return pixels.ready({k: torch.stack([one[k] for one in samples]) for k in samples[0]})

    trial = Trial(objective, batch_of, spec.name, "settings", tmp_path)
    held = config.held(spec)
    settled = settle(config.schedule, held, trial)
    assert settled.schedule.micro_batch == 64
    assert settled.fewer == 32
    assert "GiB, measured on this card" in settled.why
    assert asked == [1, 2]
    for key, value in objective.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert all(parameter.grad is None for parameter in objective.parameters())
    # A card with room for 20 images: 16 are the largest number that shares out the batch.
    fixed, each = _measured([64, 2, 1], config.schedule, trial, gpu)
    assert asked == [1, 2]
    assert each > 0
    room = (fixed + 20 * each) / 0.8
    properties = torch.cuda.get_device_properties(gpu)

    class Card:
        name, total_memory = properties.name, properties.total_memory

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: Card)
    monkeypatch.setattr("backbones.training.settle._measured", lambda *_: (fixed, each))
    Card.total_memory = room
    assert settle(config.schedule, held, trial).schedule.micro_batch == 16


def test_loaders_leave_one_core_to_the_process_that_feeds_the_gpu(monkeypatch):
    from backbones.base import cores

    monkeypatch.delenv(cores.WORKERS, raising=False)
    monkeypatch.setattr(cores, "_machine_cores", lambda: 12)
    assert cores.loader_workers() == 11
    monkeypatch.setenv(cores.WORKERS, "3")
    assert cores.loader_workers() == 3
