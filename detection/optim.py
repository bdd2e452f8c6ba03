"""Parameter groups and the optimizer: rates by layer, weight decay by rule."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from backbones.features import Backbone
from detection.config import DetectionOptimConfig, at_depth
from detection.model.pyramid import MapNorm

# What detectron2 takes for a norm; its own channel-first LayerNorm is missing there.
_UPSTREAM_NORMS = (
    nn.modules.batchnorm._BatchNorm,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.modules.instancenorm._InstanceNorm,
    nn.LocalResponseNorm,
)


@dataclass(frozen=True)
class Group:
    """Parameters that share rate and decay.

    Attributes:
        names: In the detector.
        parameters: In the same order.
        lr_factor: Of the run's rate.
        weight_decay: Their decay.
    """

    names: tuple[str, ...]
    parameters: tuple[nn.Parameter, ...]
    lr_factor: float
    weight_decay: float

    def line(self, lr: float) -> str:
        """Return the group in a line, ``lr`` being the run's rate."""
        count = sum(p.numel() for p in self.parameters)
        return (
            f"lr {lr * self.lr_factor:.3g}, weight decay {self.weight_decay:g}: "
            f"{len(self.names)} tensors, {count / 1e6:.2f} M"
        )


def parameter_groups(
    detector: nn.Module, net: Backbone, config: DetectionOptimConfig
) -> list[Group]:
    """Return the trainable parameters by rate and decay, lowest rate first.

    The rate falls by ``layer_decay`` from each layer of the backbone to the one below, by
    ``Backbone.layer_id``; neck and heads have the full rate.

    Args:
        detector: Not wrapped for distributed training, which would change all names.
        net: The backbone inside it.
        config: Decay and its rule.
    """
    by_name = net.lr_factors(at_depth(config.layer_decay, net.num_layers))
    factors = {id(p): by_name[name] for name, p in net.named_parameters()}
    spared = _spared(detector, net, config.decay_rule)
    shared: dict[tuple[float, float], dict[str, nn.Parameter]] = {}
    for name, parameter in detector.named_parameters():
        if parameter.requires_grad:
            factor = factors.get(id(parameter), 1.0)
            decay = 0.0 if id(parameter) in spared else config.weight_decay
            shared.setdefault((factor, decay), {})[name] = parameter
    return [
        Group(tuple(members), tuple(members.values()), factor, decay)
        for (factor, decay), members in sorted(shared.items(), key=lambda item: item[0])
    ]


def make_optimizer(groups: list[Group], config: DetectionOptimConfig, lr: float) -> Optimizer:
    """Return the optimizer; each group keeps its ``lr_factor`` for the schedule.

    Args:
        groups: From ``parameter_groups``.
        config: Kind and moments.
        lr: The run's rate.
    """
    options: list[dict[str, Any]] = [
        {
            "params": list(group.parameters),
            "lr": lr * group.lr_factor,
            "lr_factor": group.lr_factor,
            "weight_decay": group.weight_decay,
        }
        for group in groups
    ]
    if config.optimizer == "sgd":
        return SGD(options, lr=lr, momentum=config.momentum, fused=True)
    return AdamW(options, lr=lr, betas=config.betas, fused=True)


def set_lr(optimizer: Optimizer, lr: float) -> None:
    """Set each group's rate from the run's."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_factor"]


def clip_gradients(optimizer: Optimizer, largest: float) -> None:
    """Scale all gradients so that their global norm is at most ``largest``; 0 leaves them."""
    if largest:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, largest, foreach=True)


def _spared(detector: nn.Module, net: Backbone, rule: str) -> set[int]:
    """Return ids of parameters without weight decay (``DetectionOptimConfig.decay_rule``)."""
    if rule == "everything":
        return set()
    own = net.no_weight_decay()
    spared = {id(p) for name, p in net.named_parameters() if name in own}
    if rule == "weights":
        return spared | {id(p) for p in detector.parameters() if p.ndim <= 1}
    norms = _UPSTREAM_NORMS if rule == "vitdet" else (*_UPSTREAM_NORMS, MapNorm)
    return spared | {id(p) for p in _parameters_of(detector, norms)}


def _parameters_of(root: nn.Module, kinds: tuple[type, ...]) -> Iterator[nn.Parameter]:
    for module in root.modules():
        if isinstance(module, kinds):
            yield from module.parameters(recurse=False)
