"""LARS: SGD with momentum whose steps are as long as the layer's weights allow."""

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

_TRUST = 1e-3  # You et al. 2017, section 5; facebookresearch/moco-v3, moco/optimizer.py


class LARS(Optimizer):
    """LARS (You, Gitman, Ginsburg 2017) as self-supervised ResNets are trained with it.

    The gradient of a decayed tensor, weight decay added, is scaled to ``_TRUST`` times the tensor's
    norm; other tensors take plain steps. The momentum runs over gradients, not over steps.
    """

    def __init__(self, groups: list[dict[str, Any]], lr: float, momentum: float) -> None:
        """Set up.

        Args:
            groups: Each with "params" and "decayed", whether decay and scaling apply.
            lr: Learning rate.
            momentum: Share of the running gradient that is kept.
        """
        super().__init__(groups, {"lr": lr, "weight_decay": 0.0, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Make a step.

        Args:
            closure: Not supported.
        """
        assert closure is None
        for group in self.param_groups:
            members: list[Tensor] = [p for p in group["params"] if p.grad is not None]
            if not members:
                continue
            gradients = [p.grad for p in members if p.grad is not None]
            if group["decayed"]:
                gradients = _scaled(gradients, members, group["weight_decay"])
            running = [self._running(p) for p in members]
            torch._foreach_mul_(running, group["momentum"])
            torch._foreach_add_(running, gradients)
            torch._foreach_add_(members, running, alpha=-group["lr"])

    def _running(self, parameter: Tensor) -> Tensor:
        """Return the momentum buffer of a parameter, of the same shape, zeros at first."""
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        running: Tensor = state["momentum_buffer"]
        return running


def _scaled(gradients: list[Tensor], members: list[Tensor], weight_decay: float) -> list[Tensor]:
    """Return gradients, shaped as members, decayed and scaled by trust ratios, 1 at a norm of 0."""
    decayed = torch._foreach_add(gradients, members, alpha=weight_decay)
    ratios = [
        torch.where((weight > 0) & (gradient > 0), _TRUST * weight / gradient, 1.0)
        for weight, gradient in zip(
            torch._foreach_norm(members), torch._foreach_norm(decayed), strict=True
        )
    ]
    return list(torch._foreach_mul(decayed, ratios))
