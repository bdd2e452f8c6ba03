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
        ({"min_lr": -1.0}, "optim.min_lr must be at least 0; change it with --set."),
        ({"warmup_base_lr": -1.0}, "optim.warmup_base_lr must be at least 0; change"),
        ({"weight_decay": -5.0}, "optim.weight_decay must be at least 0; change"),
        ({"weight_decay": float("nan")}, "optim.weight_decay must be at least 0; change"),
        ({"weight_decay_end": float("nan")}, "optim.weight_decay_end must be a number; change"),
        ({"betas": (2.0, 3.0)}, "optim.betas must lie in [0, 1); change"),
        ({"betas": (0.9, 1.0)}, "optim.betas must lie in [0, 1); change"),
        ({"eps": -1.0}, "optim.eps must be at least 0; change"),
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
        f"model.region_start_epoch {start} must be below schedule.epochs 40, or regions never join "
        "in (model.region_weight=0 is for none); change it with --set."
    )
    without = replace(config.model, region_start_epoch=start, region_weight=0.0)
    replace(config, model=without).resolved()


@pytest.mark.parametrize(
    ("recipe", "schedule", "sentence"),
    [
        (
            "mae-nano",
            {"drop_epochs": (0.5,)},
            "schedule.drop_epochs has no effect with schedule.decay 'cosine': it must be [], or "
            "the decay 'step'; change it with --set.",
        ),
        (
            "simmim-swin-b-800ep",
            {"drop_epochs": ()},
            "schedule.decay 'step' needs schedule.drop_epochs; change it with --set.",
        ),
    ],
)
def test_drops_and_their_decay_go_together(recipe, schedule, sentence):
    assert refused(recipe, schedule=schedule) == sentence
