"""The proof that a recipe trains, in seconds: ``run.py check RECIPE``."""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from backbones.base.monitor import SilentMonitor
from backbones.check_result import BrokenError, CheckResult, attempt
from backbones.spec import BackboneSpec, BuildOptions
from backbones.training.objective import Batch
from backbones.training.pixels import Pixels
from backbones.weights.loading import build_backbone
from pretrain.config import PretrainConfig
from pretrain.method import get_method
from pretrain.train import PretrainJob, build_objective, pretrain

# Width and height of the generated images: a plain one, one smaller than any crop, a narrow one.
_SIZES = ((320, 240), (20, 30), (300, 24), (256, 256))
_CLASSES = 2
_STEPS = 2


def check_recipe(spec: BackboneSpec, config: PretrainConfig) -> Iterator[CheckResult]:
    """Check that a recipe works with its backbone, on generated images.

    Args:
        spec: Of the backbone.
        config: The recipe.

    Yields:
        The checks' results; none behind the first that fails, which would fail too.
    """
    for name, check in (("recipe", _fits), ("views", _views), ("gradients", _gradients)):
        result = attempt(name, partial(check, spec, config))
        yield result
        if not result.passed:
            return
    with tempfile.TemporaryDirectory() as folder:
        yield attempt("training", partial(_training, spec, config, Path(folder)))


def _fits(spec: BackboneSpec, config: PretrainConfig) -> str:
    method = get_method(config.method)
    method.check(spec, config.resolved())
    method.views(spec, config)
    return f"{config.protocol}: {config.method} takes {spec.name}"


def _views(spec: BackboneSpec, config: PretrainConfig) -> str:
    batch, again = (_batch(spec, config) for _ in range(2))
    differing = [name for name in batch if not torch.equal(batch[name], again[name])]
    if differing:
        raise BrokenError(
            f"{differing[0]} of the same image and seed differs; something else draws"
        )
    return ", ".join(f"{name} {tuple(value.shape[1:])}" for name, value in batch.items())


def _gradients(spec: BackboneSpec, config: PretrainConfig) -> str:
    method = get_method(config.method)
    known = replace(config, data=replace(config.data, num_classes=_CLASSES))
    objective = build_objective(method, spec, known, seed=0).train()
    batch = Pixels(spec, torch.device("cpu")).ready(_batch(spec, config))
    if objective.num_first_images:
        objective.prepare(batch)
    losses = objective(batch | {"label": torch.arange(len(_SIZES)) % _CLASSES})
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
    trained = {name: p.grad for name, p in objective.named_parameters() if p.requires_grad}
    for name, gradient in trained.items():
        if gradient is None or not torch.isfinite(gradient).all():
            raise BrokenError(f"the gradient of {name} is absent, or no finite number")
    values = ", ".join(f"{name} {float(value.detach()):.3g}" for name, value in losses.items())
    return f"{values}; all {len(trained)} trained tensors have one"


def _training(spec: BackboneSpec, config: PretrainConfig, folder: Path) -> str:
    """Take two steps as any run does, and read the checkpoint back."""
    for number, image in enumerate(_images()):
        path = folder / "images" / f"class{number % _CLASSES}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    size = len(_SIZES) // _STEPS
    schedule = replace(
        config.schedule,
        epochs=1.0,
        batch_size=size,
        batch_size_per_device=size,
        warmup_epochs=0.0,
        checkpoint_epochs=0.0,
        precision=config.schedule.precision if torch.cuda.is_available() else "fp32",
    )
    small = replace(config, model=config.model.for_one_epoch(), schedule=schedule)
    job = PretrainJob(spec, small, folder / "images", folder / "run", 0, folder, num_workers=0)
    outcome = pretrain(job, SilentMonitor())
    options = BuildOptions(img_size=config.data.img_size)
    _, coverage = build_backbone(spec, outcome.checkpoint, options, seed=0)
    if coverage.loaded < coverage.total:
        raise BrokenError(f"the checkpoint fills {coverage.loaded} of {coverage.total} tensors")
    losses = ", ".join(f"{loss:.3g}" for loss in outcome.curves["loss"])
    return f"losses {losses}; all {coverage.total} tensors of the checkpoint load"


def _batch(spec: BackboneSpec, config: PretrainConfig) -> Batch:
    views = get_method(config.method).views(spec, config)
    samples = [
        views(image, torch.Generator().manual_seed(number))
        for number, image in enumerate(_images())
    ]
    return {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}


def _images() -> list[Image.Image]:
    """Return coarse noise, the same every time."""
    images = []
    for number, size in enumerate(_SIZES):
        coarse = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        images.append(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC))
    return images
