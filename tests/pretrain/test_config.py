"""Values that no pretraining can have."""

from dataclasses import replace

import pytest

from backbones.base.errors import UserError
from pretrain.catalog import get_recipe


def refused(recipe, **sections):
    """Return the sentence that refuses a recipe with other values in some sections."""
    config = get_recipe(recipe)
    changed = {name: replace(getattr(config, name), **new) for name, new in sections.items()}
    with pytest.raises(UserError) as caught:
        replace(config, **changed).resolved()
    return str(caught.value)


@pytest.mark.parametrize(
    ("optim", "sentence"),
    [
        ({"min_lr": -1.0}, "optim.min_lr: -1.0 is not supported; use a number of at least 0."),
        (
            {"warmup_base_lr": -1.0},
            "optim.warmup_base_lr: -1.0 is not supported; use a",
        ),
        ({"weight_decay": -5.0}, "optim.weight_decay: -5.0 is not supported; use a number of"),
        ({"weight_decay": float("nan")}, "optim.weight_decay: NaN is not supported; use a"),
        (
            {"weight_decay_end": float("nan")},
            "optim.weight_decay_end: NaN is not supported; use",
        ),
        ({"betas": (2.0, 3.0)}, "optim.betas: [2.0, 3.0] is not supported; use a list of 2"),
        ({"betas": (0.9, 1.0)}, "optim.betas: [0.9, 1.0] is not supported; use a list of 2"),
        ({"eps": -1.0}, "optim.eps: -1.0 is not supported; use a number of at least 0."),
    ],
)
def test_an_optimizer_that_cannot_be(optim, sentence):
    assert refused("mae-nano", optim=optim).startswith(sentence)


def test_a_negative_last_weight_decay_keeps_the_first():
    config = get_recipe("dino-nano")
    replace(config, optim=replace(config.optim, weight_decay_end=-5.0)).resolved()


@pytest.mark.parametrize("start", [40, 41])
def test_regions_that_would_never_join_in(start):
    config = get_recipe("esvit-nano")
    model = {"region_start_epoch": start}
    schedule = {"epochs": 40.0}
    assert refused("esvit-nano", model=model, schedule=schedule) == (
        f"model.region_start_epoch: {start} is not supported; use a number below schedule.epochs "
        "(40), or train without regions with model.region_weight=0."
    )
    without = replace(config.model, region_start_epoch=start, region_weight=0.0)
    replace(config, model=without).resolved()


@pytest.mark.parametrize(
    ("recipe", "schedule", "sentence"),
    [
        (
            "mae-nano",
            {"drop_epochs": (0.5,)},
            "schedule.drop_epochs: [0.5] is not supported; use [], or set schedule.decay to "
            '"step".',
        ),
        (
            "simmim-swin-b-800ep",
            {"drop_epochs": ()},
            "schedule.drop_epochs: [] is not supported; use at least one epoch with "
            'schedule.decay "step".',
        ),
    ],
)
def test_drops_and_their_decay_go_together(recipe, schedule, sentence):
    assert refused(recipe, schedule=schedule) == sentence
