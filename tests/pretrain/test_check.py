"""``check_recipe``: what works passes, what is broken is named."""

from dataclasses import replace

import pytest
import torch

from backbones.catalog import get_spec
from pretrain import check
from pretrain.catalog import get_recipe
from pretrain.check import check_recipe
from tests.pretrain.conftest import TOY_METHOD, TOY_SPEC, ToyObjective, ToyViews, toy_config


def results(spec, config):
    return {result.name: result for result in check_recipe(spec, config)}


@pytest.fixture
def toy(monkeypatch):
    """Check the toy recipe with a method that is varied."""

    def checked(**changes):
        method = replace(TOY_METHOD, **changes)
        for module in ("check", "train"):
            monkeypatch.setattr(f"pretrain.{module}.get_method", lambda name: method)
        return results(TOY_SPEC, toy_config())

    return checked


@pytest.mark.parametrize("name", ["mae-nano", "supervised-nano"])
def test_a_recipe_passes(name):
    config = get_recipe(name)
    found = results(get_spec(config.backbone), config)
    assert list(found) == ["recipe", "views", "gradients", "training"]
    assert all(result.passed for result in found.values()), found
    assert "image (3, 64, 64)" in found["views"].detail
    assert found["training"].detail.count(",") == 1


def test_what_joins_in_late_does_not_stop_the_short_training():
    config = get_recipe("esvit-nano")
    late = replace(config, model=replace(config.model, region_start_epoch=10))
    assert all(found.passed for found in results(get_spec(config.backbone), late).values())


def test_what_does_not_go_together_is_one_sentence():
    config = get_recipe("mae-nano")
    found = results(get_spec("vit-nano"), replace(config, data=replace(config.data, img_size=60)))
    assert list(found) == ["recipe"]
    assert not found["recipe"].passed
    assert "do not divide into patches of 8" in found["recipe"].detail
    (refused,) = results(get_spec("swin-nano"), config).values()
    assert "mae" in refused.detail
    assert "Error" not in refused.detail


class Careless(ToyViews):
    def __call__(self, image, generator):
        return super().__call__(image, generator) | {"noise": torch.rand(4)}


def test_views_that_draw_elsewhere_are_found(toy):
    found = toy(views=lambda *_: Careless())
    assert not found["views"].passed
    assert "noise of the same image and seed differs" in found["views"].detail


class Idle(ToyObjective):
    def __init__(self, config):
        super().__init__(config)
        self.spare = torch.nn.Parameter(torch.zeros(1))


def test_parameters_without_gradient_are_found(toy):
    found = toy(build=lambda spec, config: Idle(config.model))
    assert list(found) == ["recipe", "views", "gradients"]
    assert "the gradient of spare is absent" in found["gradients"].detail


def test_any_error_is_a_result(toy, monkeypatch):
    def fail(*_):
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(check, "pretrain", fail)
    assert toy()["training"].detail == "RuntimeError: shapes differ"
