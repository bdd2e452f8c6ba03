"""Parameter groups, optimizers, and bounds on gradients."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from pretrain.config import OptimConfig
from pretrain.lars import LARS
from pretrain.method import Objective

# Keeps a division by a zero norm harmless; DINO's and torch's value.
_CLIP_EPS = 1e-6


@dataclass(frozen=True)
class Group:
    """Parameters that share a weight decay.

    Attributes:
        names: In the objective.
        parameters: In the same order.
        decayed: Whether weight decay applies.
    """

    names: tuple[str, ...]
    parameters: tuple[nn.Parameter, ...]
    decayed: bool

    def line(self) -> str:
        """Return the group in a line."""
        count = sum(p.numel() for p in self.parameters)
        kind = "with" if self.decayed else "without"
        return f"{kind} weight decay: {len(self.names)} tensors, {count / 1e6:.2f} M"


def parameter_groups(objective: Objective, config: OptimConfig) -> list[Group]:
    """Return the trainable parameters, those that decay first.

    Args:
        objective: Not wrapped, which would change its names.
        config: Says what decay spares.
    """
    own = objective.no_weight_decay()
    split: dict[bool, dict[str, nn.Parameter]] = {True: {}, False: {}}
    for name, parameter in objective.named_parameters():
        if parameter.requires_grad:
            vector = parameter.ndim <= 1 or name.endswith(".bias")
            spared = name in own or (vector and config.spared == "vectors")
            split[not spared][name] = parameter
    return [
        Group(tuple(members), tuple(members.values()), decayed)
        for decayed, members in split.items()
        if members
    ]


def make_optimizer(groups: list[Group], config: OptimConfig) -> Optimizer:
    """Return the optimizer; ``set_rates`` gives it its rate and decay."""
    options = [{"params": list(g.parameters), "decayed": g.decayed} for g in groups]
    if config.optimizer == "lars":
        return LARS(options, lr=0.0, momentum=config.betas[0])
    return AdamW(options, lr=0.0, betas=config.betas, eps=config.eps, fused=True)


def set_rates(optimizer: Optimizer, lr: float, weight_decay: float) -> None:
    """Set the learning rate of all groups, and the weight decay of those that decay."""
    for group in optimizer.param_groups:
        group["lr"] = lr
        group["weight_decay"] = weight_decay if group["decayed"] else 0.0


def clip_gradients(optimizer: Optimizer, config: OptimConfig) -> None:
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
