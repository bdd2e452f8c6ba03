"""Parameter groups and bounds on gradients."""

import pytest
import torch

from pretrain.config import OptimConfig
from pretrain.optim import clip_gradients, make_optimizer, parameter_groups, set_rates
from tests.pretrain.conftest import ToyConfig, ToyObjective


def objective_with_gradients():
    torch.manual_seed(0)
    objective = ToyObjective(ToyConfig())
    for number, parameter in enumerate(objective.parameters()):
        parameter.grad = torch.randn_like(parameter) * 10**-number
    return objective


def names(groups, decayed):
    return {name for group in groups if group.decayed == decayed for name in group.names}


def test_vectors_are_spared_from_decay():
    groups = parameter_groups(ToyObjective(ToyConfig()), OptimConfig())
    assert names(groups, decayed=True) == {"backbone.stem.weight", "head.weight"}
    assert names(groups, decayed=False) == {"backbone.stem.bias", "head.bias"}


def test_nothing_is_spared_where_the_recipe_says_so():
    groups = parameter_groups(ToyObjective(ToyConfig()), OptimConfig(spared="nothing"))
    assert names(groups, decayed=False) == set()


def test_an_objective_names_what_else_is_spared(monkeypatch):
    monkeypatch.setattr(ToyObjective, "no_weight_decay", lambda _: frozenset({"head.weight"}))
    groups = parameter_groups(ToyObjective(ToyConfig()), OptimConfig())
    assert names(groups, decayed=True) == {"backbone.stem.weight"}


def test_frozen_parameters_are_in_no_group():
    objective = ToyObjective(ToyConfig())
    objective.head.weight.requires_grad_(False)
    groups = parameter_groups(objective, OptimConfig())
    assert "head.weight" not in names(groups, True) | names(groups, False)


def test_rates_reach_all_groups_and_decay_only_its_own():
    config = OptimConfig()
    optimizer = make_optimizer(parameter_groups(ToyObjective(ToyConfig()), config), config)
    set_rates(optimizer, 0.3, 0.2)
    assert [(g["lr"], g["weight_decay"]) for g in optimizer.param_groups] == [(0.3, 0.2), (0.3, 0)]


@pytest.mark.parametrize("largest", [0.5, 3.0])
def test_each_tensor_is_bounded_for_itself(largest):
    objective = objective_with_gradients()
    expected = []
    for parameter in objective.parameters():
        factor = largest / (float(parameter.grad.norm()) + 1e-6)
        expected.append(parameter.grad * min(1.0, factor))
    config = OptimConfig(clip="tensor", clip_norm=largest)
    clip_gradients(make_optimizer(parameter_groups(objective, config), config), config)
    for parameter, gradient in zip(objective.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_all_tensors_are_bounded_together():
    objective = objective_with_gradients()
    objective.head.bias.grad = None
    before = [p.grad.clone() for p in objective.parameters() if p.grad is not None]
    total = float(torch.cat([g.flatten() for g in before]).norm())
    config = OptimConfig(clip="global", clip_norm=total / 2)
    clip_gradients(make_optimizer(parameter_groups(objective, config), config), config)
    after = [p.grad for p in objective.parameters() if p.grad is not None]
    for old, new in zip(before, after, strict=True):
        torch.testing.assert_close(new, old / 2)
