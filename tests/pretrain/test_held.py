"""A step's losses and gradients do not depend on how many images a device holds at once."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from backbones.base.monitor import SilentMonitor
from backbones.catalog import get_spec
from backbones.training.engine import Training, _Loop
from backbones.training.optim import make_optimizer, parameter_groups
from backbones.training.reporter import Reporter
from backbones.training.schedules import make_plan
from backbones.training.state import StateFolder
from backbones.training.stream import Loaded, share_out
from pretrain.catalog import get_recipe
from pretrain.method import get_method
from pretrain.train import build_objective

BY_RECIPE = 4
BATCH = 8
RECIPES = (
    "mae-nano",
    "lomar-nano",
    "simmim-nano",
    "simmim-vit-nano",
    "dino-nano",
    "esvit-nano",
    "supervised-nano",
)


def config_of(name, **model):
    """Return a nano recipe with batches of eight images, four at once, and stochastic depth."""
    config = get_recipe(name)
    values = {"num_local_crops": 2, "drop_path": 0.3}
    known = {key: value for key, value in values.items() if hasattr(config.model, key)}
    schedule = replace(
        config.schedule,
        epochs=4.0,
        warmup_epochs=0.0,
        batch_size=BATCH,
        batch_size_per_device=BY_RECIPE,
    )
    return replace(
        config,
        model=replace(config.model, **known | model),
        schedule=schedule,
        data=replace(config.data, num_classes=3),
    ).resolved()


def pictures(count):
    for number in range(count):
        noise = np.random.default_rng(number).integers(0, 256, (9, 12, 3), dtype=np.uint8)
        yield Image.fromarray(noise).resize((90, 70), Image.Resampling.BICUBIC)


def step(config, held, folder, *, recomputes=False):
    """Return losses and gradients of one step in double precision, ``held`` images at once."""
    method, spec = get_method(config.method), get_spec(config.backbone)
    schedule = replace(config.schedule, micro_batch=held)
    runtime = replace(config.runtime, activation_checkpointing=recomputes)
    objective = build_objective(method, spec, config, seed=0).double().train()
    views = method.views(spec, config)
    samples = [
        {
            **views(image, torch.Generator().manual_seed(number)),
            "label": torch.tensor(number % 3),
            "index": torch.tensor(number),
        }
        for number, image in enumerate(pictures(BATCH))
    ]
    batch = {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}
    ready = {
        k: v.double() / 255
        if v.dtype == torch.uint8
        else v.double()
        if v.is_floating_point()
        else v
        for k, v in batch.items()
    }
    training = Training(
        objective=objective,
        optimizer=make_optimizer(parameter_groups(objective, config.optim), config.optim),
        plan=make_plan(schedule, config.optim, BATCH),
        share=share_out(schedule, 0, 1),
        seed_key=("step", 0),
        ready=lambda part: part,
        optim=config.optim,
        schedule=schedule,
        runtime=runtime,
    )
    reporter = Reporter(training.plan, {}, SilentMonitor(), None, "test")
    loop = _Loop(training, StateFolder(folder, {}), reporter, SilentMonitor())
    parts = (
        Loaded({k: v[i : i + held] for k, v in ready.items()}, list(range(i, i + held)))
        for i in range(0, BATCH, held)
    )
    objective.begin_step(_moment(training))
    pending = loop._backward(0, parts)
    objective.after_update(_moment(training))
    found = {
        f"gradient of {n}": p.grad for n, p in objective.named_parameters() if p.grad is not None
    }
    found |= {f"buffer {n}": b for n, b in objective.named_buffers()}
    return {"losses": pending.values[: pending.num_losses], **found}


def _moment(training):
    from backbones.training.objective import Moment

    return Moment(0, training.plan.num_steps, 0.0)


@pytest.mark.parametrize("recomputes", [False, True])
@pytest.mark.parametrize("name", RECIPES)
def test_a_step_is_the_same_whatever_is_held_at_once(name, recomputes, tmp_path):
    config = config_of(name)
    held = config.held(get_spec(config.backbone))
    expected = step(config, BY_RECIPE, tmp_path)
    for images in (1, 2, 8):
        assert held.allows(images)
        found = step(config, images, tmp_path, recomputes=recomputes)
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            torch.testing.assert_close(
                found[key], value, rtol=1e-6, atol=1e-9, msg=f"{key} {images}"
            )
