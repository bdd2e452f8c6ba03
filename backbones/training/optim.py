"""Parameter groups, optimizers, and bounds on gradients."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from backbones.training.config import OptimSettings
from backbones.training.lars import LARS
from backbones.training.objective import Objective

# Keeps a division by a zero norm harmless; DINO's and torch's value.
_CLIP_EPS = 1e-6


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share rate and weight decay.

    Attributes:
        names: In the objective.
        parameters: In the same order.
        decayed: Whether weight decay applies.
        lr_factor: Of the run's rate.
    """

    names: tuple[str, ...]
    parameters: tuple[nn.Parameter, ...]
    decayed: bool
    lr_factor: float = 1.0

    def line(self) -> str:
        """Return the group in a line."""
        count = sum(p.numel() for p in self.parameters)
        kind = "with" if self.decayed else "without"
        rate = "" if self.lr_factor == 1.0 else f", lr x {self.lr_factor:.3g}"
        return f"{kind} weight decay{rate}: {len(self.names)} tensors, {count / 1e6:.2f} M"


def parameter_groups(objective: Objective, config: OptimSettings) -> list[ParameterGroup]:
    """Return the trainable parameters, those that decay first, the highest rate first.

    Args:
        objective: Not wrapped, which would change its names.
        config: Says what decay spares.
    """
    own, factors = objective.no_weight_decay(), objective.lr_factors()
    split: dict[tuple[bool, float], dict[str, nn.Parameter]] = {}
    for name, parameter in objective.named_parameters():
        if parameter.requires_grad:
            vector = parameter.ndim <= 1 or name.endswith(".bias")
            spared = name in own or (vector and config.spared == "vectors")
            split.setdefault((not spared, factors.get(name, 1.0)), {})[name] = parameter
    return [
        ParameterGroup(tuple(members), tuple(members.values()), decayed, factor)
        for (decayed, factor), members in sorted(split.items(), key=_key, reverse=True)
    ]


def make_optimizer(groups: list[ParameterGroup], config: OptimSettings) -> Optimizer:
    """Return the optimizer; ``set_rates`` gives it its rate and decay."""
    options = [
        {"params": list(g.parameters), "decayed": g.decayed, "lr_factor": g.lr_factor}
        for g in groups
    ]
    if config.optimizer == "lars":
        return LARS(options, lr=0.0, momentum=config.momentum)
    if config.optimizer == "sgd":
        return SGD(options, lr=0.0, momentum=config.momentum, fused=True)
    return AdamW(options, lr=0.0, betas=config.betas, eps=config.eps, fused=True)


def set_rates(optimizer: Optimizer, lr: float, weight_decay: float) -> None:
    """Set each group's learning rate from the run's, and the decay of those that decay."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_factor"]
        group["weight_decay"] = weight_decay if group["decayed"] else 0.0


def clip_gradients(optimizer: Optimizer, config: OptimSettings) -> None:
    """Scale gradients down to the configured bound: of all together, or each for itself."""
    gradients = [p.grad for g in optimizer.param_groups for p in g["params"] if p.grad is not None]
    if config.clip == "global":
        total = torch.nn.utils.get_total_norm(gradients, foreach=True)
        coefficient = (config.clip_norm / (total + _CLIP_EPS)).clamp(max=1.0)
        torch._foreach_mul_(gradients, coefficient)
    elif config.clip == "tensor":
        clip_each(gradients, config.clip_norm)


def clip_each(gradients: list[Tensor], largest: float) -> None:
    """Scale each tensor down to norm ``largest`` (dino ``utils.clip_gradients``)."""
    norms = torch._foreach_norm(gradients)
    coefficients = [(largest / (norm + _CLIP_EPS)).clamp(max=1.0) for norm in norms]
    torch._foreach_mul_(gradients, coefficients)


def _key(item: tuple[tuple[bool, float], Any]) -> tuple[bool, float]:
    return item[0]
