"""Rates by layer, weight decay by rule; detectron2's silent mistakes are shown and avoided."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from backbones.catalog import get_spec
from backbones.spec import BuildOptions
from backbones.training.optim import ParameterGroup, clip_gradients, make_optimizer, set_rates
from detection.config import DetectionConfig, DetectionOptimConfig
from detection.model.detector import Detector, build_detector
from detection.model.pyramid import MapNorm
from detection.objective import DetectionObjective, detector_groups

BLOCK = "blocks.1.mlp.fc1"


def detector_of(name: str, config: DetectionConfig) -> Detector:
    spec = get_spec(name)
    net = spec.build(BuildOptions(img_size=64, window_size=2, relative_positions=True))
    return build_detector(net, spec, config, (3, True), seed=0)


def groups_of(detector: Detector, config: DetectionOptimConfig) -> list[ParameterGroup]:
    return detector_groups(DetectionObjective(detector, config), config)


def settings(detector: Detector, config: DetectionOptimConfig) -> dict[str, tuple[float, bool]]:
    """Rate factor of every trainable parameter, and whether it decays, by its detector's name."""
    groups = groups_of(detector, config)
    return {
        name.removeprefix("detector."): (g.lr_factor, g.decayed) for g in groups for name in g.names
    }


@pytest.mark.parametrize("name", ["vit-nano", "swin-nano", "resnet-nano"])
def test_rates_fall_layer_by_layer(name: str, toy_config: DetectionConfig) -> None:
    """Trap B5: detectron2 gives Swin's third stage factors above 1."""
    detector = detector_of(name, toy_config)
    found = settings(detector, DetectionOptimConfig(layer_decay=(0.5,)))
    assert all(0 < factor <= 1 for factor, _ in found.values())
    top = detector.net.num_layers + 1
    prefix = {id(p): n for n, p in detector.named_parameters()}
    for own_name, parameter in detector.net.named_parameters():
        if parameter.requires_grad:
            factor, _ = found[prefix[id(parameter)]]
            assert factor == pytest.approx(0.5 ** (top - detector.net.layer_id(own_name)))
    heads = [f for n, (f, _) in found.items() if n.startswith(("proposal_generator", "roi_heads"))]
    assert set(heads) == {1.0}


def test_vit_b_has_upstreams_factors() -> None:
    """Stem .0097, block 0 .0138, block 11 .7 by detectron2's get_vit_lr_decay_rate."""
    spec = get_spec("vit-b16")
    with torch.device("meta"):
        net = spec.build(BuildOptions())
    ids = {net.layer_id(n) for n in ("patch_embed.proj.weight", "pos_embed")}
    assert ids == {0}
    assert [net.layer_id(f"blocks.{i}.norm1.weight") for i in (0, 11)] == [1, 12]


def test_every_trainable_parameter_is_in_one_group(toy_config: DetectionConfig) -> None:
    detector = detector_of("vit-nano", toy_config)
    groups = groups_of(detector, DetectionOptimConfig())
    names = [name.removeprefix("detector.") for group in groups for name in group.names]
    assert sorted(names) == sorted(n for n, p in detector.named_parameters() if p.requires_grad)
    order = [(g.lr_factor, g.decayed) for g in groups]
    assert order == sorted(set(order)), "saved states depend on the order"


def test_decay_rules_differ_where_they_should(toy_config: DetectionConfig) -> None:
    """Trap B4: "vitdet" keeps upstream's decay on biases and channel-first norms, on purpose."""
    config = replace(toy_config, model=replace(toy_config.model, neck_norm="LN"))
    detector = detector_of("vit-nano", config)
    modules = dict(detector.named_modules())

    def spared(rule: str) -> set[str]:
        found = settings(detector, DetectionOptimConfig(decay_rule=rule, weight_decay=0.1))
        return {name for name, (_, decayed) in found.items() if not decayed}

    def kind(name: str) -> type:
        return type(modules[name.rsplit(".", 1)[0]])

    vitdet, names, weights = spared("vitdet"), spared("names"), spared("weights")
    assert spared("everything") == set()
    assert {kind(n) for n in vitdet} == {nn.LayerNorm}
    assert {kind(n) for n in names} == {nn.LayerNorm, MapNorm}
    assert vitdet < names < weights
    assert any(n.endswith("fc1.bias") for n in weights)
    assert any("rel_pos" in n for n in settings(detector, DetectionOptimConfig()))
    assert not any("rel_pos" in n for n in vitdet)


def test_swins_bias_tables_are_spared(toy_config: DetectionConfig) -> None:
    detector = detector_of("swin-nano", toy_config)
    found = settings(detector, DetectionOptimConfig(decay_rule="names", weight_decay=0.05))
    tables = [d for n, (_, d) in found.items() if "relative_position_bias_table" in n]
    assert tables
    assert set(tables) == {False}


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_optimizers_step_at_the_set_rate(kind: str, toy_config: DetectionConfig) -> None:
    detector = detector_of("vit-nano", toy_config)
    config = DetectionOptimConfig(optimizer=kind, layer_decay=(0.5,))
    groups = groups_of(detector, config)
    optimizer = make_optimizer(groups, config)
    set_rates(optimizer, 1e-2, config.weight_decay)
    assert [g["lr"] for g in optimizer.param_groups] == [1e-2 * g.lr_factor for g in groups]
    decays = {g["weight_decay"] for g in optimizer.param_groups}
    assert decays == {0.0, config.weight_decay}
    before = [p.detach().clone() for p in groups[0].parameters]
    for parameter in detector.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert not any(torch.equal(a, b) for a, b in zip(before, groups[0].parameters, strict=True))


def test_clipping_bounds_the_global_norm() -> None:
    parameters = [nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(4))]
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, 10.0)
    clip_gradients(optimizer, DetectionOptimConfig(clip_norm=0.0))
    assert parameters[0].grad[0] == 10
    clip_gradients(optimizer, DetectionOptimConfig(clip_norm=1.0))
    norm = torch.cat([p.grad for p in parameters]).norm()
    assert norm == pytest.approx(1.0, abs=1e-4)


def test_without_decay_there_is_one_group_a_rate(toy_config: DetectionConfig) -> None:
    config = DetectionOptimConfig(weight_decay=0.0, layer_decay=(1.0,))
    assert len(groups_of(detector_of("vit-nano", toy_config), config)) == 1
