"""Parameter groups and bounds on gradients."""

import pytest
import torch

from backbones.training.config import OptimConfig
from backbones.training.optim import clip_gradients, make_optimizer, parameter_groups, set_rates
from backbones.training.state import collect, restore
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


def test_lars_against_its_formulas():
    """Three steps in float64, a tensor at a time; then the same from a saved state."""
    config = OptimConfig(optimizer="lars", betas=(0.9, 0.0))
    objective = objective_with_gradients().double()
    with torch.no_grad():
        objective.head.bias.zero_()
    weights = {name: p.detach().clone() for name, p in objective.named_parameters()}
    running = {name: torch.zeros_like(value) for name, value in weights.items()}
    optimizer = make_optimizer(parameter_groups(objective, config), config)
    for step in range(3):
        lr, decay = 0.5 - 0.1 * step, 0.02
        set_rates(optimizer, lr, decay)
        for name, parameter in objective.named_parameters():
            parameter.grad = torch.full_like(parameter, 0.1 * (step + 1)) * (parameter + 0.3)
            gradient = parameter.grad.clone()
            if name.endswith("weight"):
                gradient += decay * weights[name]
                gradient *= 0.001 * weights[name].norm() / gradient.norm()
            running[name] = 0.9 * running[name] + gradient
            weights[name] = weights[name] - lr * running[name]
        if step == 1:
            saved = collect(objective, optimizer)
            optimizer = make_optimizer(parameter_groups(objective, config), config)
            restore(objective, optimizer, saved)
            set_rates(optimizer, lr, decay)
        optimizer.step()
    for name, parameter in objective.named_parameters():
        torch.testing.assert_close(parameter.detach(), weights[name], rtol=1e-12, atol=0)


def test_lars_steps_plainly_where_a_norm_is_zero():
    objective = objective_with_gradients()
    with torch.no_grad():
        objective.head.weight.zero_()
    config = OptimConfig(optimizer="lars", betas=(0.9, 0.0))
    optimizer = make_optimizer(parameter_groups(objective, config), config)
    set_rates(optimizer, 0.5, 0.1)
    gradient = objective.head.weight.grad.clone()
    objective.head.bias.grad = None
    optimizer.step()
    torch.testing.assert_close(objective.head.weight.detach(), -0.5 * gradient)


def test_an_objective_gives_parameters_rates_of_their_own(monkeypatch):
    monkeypatch.setattr(ToyObjective, "lr_factors", lambda _: {"backbone.stem.weight": 0.25})
    config = OptimConfig()
    groups = parameter_groups(ToyObjective(ToyConfig()), config)
    assert [(g.decayed, g.lr_factor, g.names) for g in groups] == [
        (True, 1.0, ("head.weight",)),
        (True, 0.25, ("backbone.stem.weight",)),
        (False, 1.0, ("backbone.stem.bias", "head.bias")),
    ]
    optimizer = make_optimizer(groups, config)
    set_rates(optimizer, 0.4, 0.2)
    assert [group["lr"] for group in optimizer.param_groups] == [0.4, 0.1, 0.4]
