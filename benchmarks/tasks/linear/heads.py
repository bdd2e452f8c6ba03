"""Many linear heads as one: all that share an input are one matrix product.

The gradient of softmax and cross-entropy is written out, so no graph is kept and nothing loops over
heads. Images come last in what is computed between the two products: few classes are too short for
the processor's vectors, many images are not.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Optimizer

from backbones.training.lars import LARS
from benchmarks.tasks.linear.recipes import HeadConfig

# BatchNorm1d's default, which facebookresearch/mae main_linprobe.py keeps.
_NORM_MOMENTUM = 0.1


@dataclass(frozen=True)
class HeadKey:
    """A point of the grid.

    Attributes:
        kind: Of features.
        norm: "none" or "batch".
        base_lr: Learning rate at 256 images a step.
    """

    kind: str
    norm: str
    base_lr: float

    def name(self) -> str:
        """Return how records call it."""
        norm = "+bn" if self.norm == "batch" else ""
        return f"{self.kind}{norm}/lr{self.base_lr:g}"


class HeadGroup:
    """The heads that share kind and norm, hence their input; they differ in the learning rate.

    Attributes:
        keys: Of the heads.
        weights: (H, C, D).
        biases: (H, C).
        mean: (D,) running mean of the BatchNorm, unused without.
        var: (D,) its running variance.
    """

    def __init__(
        self, keys: Sequence[HeadKey], num_classes: int, width: int, config: HeadConfig
    ) -> None:
        """Draw the first weights, the same ones for each head, from torch's generator."""
        self.keys = tuple(keys)
        self._config = config
        first = torch.empty(num_classes, width)
        if config.init == "normal":
            nn.init.normal_(first, std=config.init_std)
        else:
            nn.init.trunc_normal_(first, std=config.init_std)
        self.weights = first.expand(len(keys), -1, -1).contiguous()
        self.biases = torch.zeros(len(keys), num_classes)
        self.mean, self.var = torch.zeros(width), torch.ones(width)

    def to(self, device: torch.device) -> "HeadGroup":
        """Move to a device, before an optimizer knows the parameters."""
        for name in ("weights", "biases", "mean", "var"):
            setattr(self, name, getattr(self, name).to(device))
        return self

    def state(self) -> dict[str, Tensor]:
        """Return what a later process goes on from."""
        return {name: getattr(self, name) for name in ("weights", "biases", "mean", "var")}

    def load(self, state: dict[str, Tensor]) -> None:
        """Take over a state, in place."""
        for name, value in self.state().items():
            value.copy_(state[name])

    def parameters(self) -> list[tuple[nn.Parameter, nn.Parameter]]:
        """Return weight and bias of each head; they share memory with ``weights``, ``biases``."""
        return [
            (nn.Parameter(weight), nn.Parameter(bias))
            for weight, bias in zip(self.weights, self.biases, strict=True)
        ]

    @torch.no_grad()
    def logits(self, rows: Tensor, training: bool = False) -> Tensor:
        """Return what each head says of each row, (B, H, C)."""
        return self._product(self._normed(rows, training)).permute(2, 0, 1)

    @torch.no_grad()
    def right(self, rows: Tensor, labels: Tensor) -> Tensor:
        """Return how many rows each head gives their class, (H,); none where it diverged.

        Of equal scores the lower class comes first, as in ``scores.judge``. Written without argmax,
        which compares numbers one by one and takes longer than the product.

        Args:
            rows: (B, D) features.
            labels: (B,) classes.
        """
        logits = self._product(self._normed(rows, training=False))
        best = logits.amax(dim=1, keepdim=True)
        own = logits.gather(1, labels.expand(len(self.keys), 1, -1))
        classes = torch.arange(logits.shape[1], device=logits.device)
        lower = (classes[:, None] < labels) & (logits == best)
        return ((own == best).squeeze(1) & ~lower.any(dim=1)).sum(dim=1)

    @torch.no_grad()
    def gradients(self, rows: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return each head's mean cross-entropy (H,) and its gradients, shaped as the parameters.

        Args:
            rows: (B, D) features.
            labels: (B,) classes.
        """
        inputs = self._normed(rows, training=True)
        log_probabilities = self._product(inputs).log_softmax(dim=1)
        index = labels.expand(len(self.keys), 1, -1)
        losses = -log_probabilities.gather(1, index).squeeze(1).mean(dim=1)
        slopes = log_probabilities.exp_()
        slopes.scatter_add_(1, index, torch.full_like(index, -1, dtype=slopes.dtype))
        slopes /= len(rows)
        weights = (slopes.view(-1, len(rows)) @ inputs).view_as(self.weights)
        return losses, weights, slopes.sum(dim=2)

    def _product(self, inputs: Tensor) -> Tensor:
        """Return the logits with the images last, (H, C, B)."""
        heads, classes, width = self.weights.shape
        flat = torch.addmm(self.biases.view(-1, 1), self.weights.view(-1, width), inputs.T)
        return flat.view(heads, classes, len(inputs))

    def _normed(self, rows: Tensor, training: bool) -> Tensor:
        """Return (B, D) rows as the heads take them, batch-normalised if so configured, (B, D)."""
        if self.keys[0].norm == "none":
            return rows
        return F.batch_norm(
            rows,
            self.mean,
            self.var,
            training=training,
            momentum=_NORM_MOMENTUM,
            eps=self._config.norm_eps,
        )


class HeadOptimizer:
    """Moves all heads of all groups by one optimizer of a library.

    SGD is linear in the gradients, so rates that differ from head to head go into these, and a
    group's heads are one tensor to it. LARS adapts to each head's norm and keeps them apart.
    """

    def __init__(self, groups: Sequence[HeadGroup], config: HeadConfig, batch_size: int) -> None:
        """Set up.

        Args:
            groups: On their device.
            config: Optimizer and its values.
            batch_size: That rates are scaled to, from 256.
        """
        self._groups = groups
        self._config = config
        self._scale = batch_size / 256
        self._apart = config.optimizer == "lars"
        self._peaks = [
            torch.tensor([key.base_lr * self._scale for key in group.keys]).to(group.weights)
            for group in groups
        ]
        if self._apart:
            self._parameters = [group.parameters() for group in groups]
        else:
            whole = [(nn.Parameter(g.weights), nn.Parameter(g.biases)) for g in groups]
            self._parameters = [[pair] for pair in whole]
        self._optimizer = self._make_lars() if self._apart else self._make_sgd()
        self._rates = [float(settings["lr"]) for settings in self._optimizer.param_groups]

    def step(self, gradients: Sequence[tuple[Tensor, Tensor]], factor: float) -> None:
        """Do one update.

        Args:
            gradients: Of weights and biases, a pair a group; they are used up.
            factor: Of every learning rate.
        """
        for settings, peak in zip(self._optimizer.param_groups, self._rates, strict=True):
            settings["lr"] = peak * factor
        for number, (weights, biases) in enumerate(gradients):
            if self._apart:
                pairs = list(zip(weights, biases, strict=True))
            else:
                pairs = [self._at_rates(number, weights, biases)]
            for (weight, bias), (of_weight, of_bias) in zip(
                self._parameters[number], pairs, strict=True
            ):
                weight.grad, bias.grad = of_weight, of_bias
        self._optimizer.step()

    def state(self) -> dict[str, Tensor]:
        """Return the momenta, by number of the parameter."""
        return {
            f"momentum.{number}": self._optimizer.state[parameter]["momentum_buffer"]
            for number, parameter in enumerate(self._flat())
            if "momentum_buffer" in self._optimizer.state[parameter]
        }

    def load(self, state: dict[str, Tensor]) -> None:
        """Take over momenta."""
        for number, parameter in enumerate(self._flat()):
            if f"momentum.{number}" in state:
                buffer = state[f"momentum.{number}"].to(parameter.device)
                self._optimizer.state[parameter]["momentum_buffer"] = buffer

    def _flat(self) -> Iterator[nn.Parameter]:
        for parameters in self._parameters:
            for pair in parameters:
                yield from pair

    def _at_rates(self, number: int, weights: Tensor, biases: Tensor) -> tuple[Tensor, Tensor]:
        """Return gradients (H, C, D), (H, C) times their heads' rates, with decay, in place."""
        group, peaks = self._groups[number], self._peaks[number]
        if self._config.weight_decay:
            weights.add_(group.weights, alpha=self._config.weight_decay)
            biases.add_(group.biases, alpha=self._config.weight_decay)
        return weights.mul_(peaks[:, None, None]), biases.mul_(peaks[:, None])

    def _make_sgd(self) -> Optimizer:
        # One pass over weights, momenta and gradients in place of three.
        return SGD(self._flat(), lr=1.0, momentum=self._config.momentum, fused=True)

    def _make_lars(self) -> Optimizer:
        # One multi-tensor step for all that share a rate. Biases have no decay and no trust ratio:
        # facebookresearch/mae util/lars.py.
        shared: dict[tuple[float, bool], list[nn.Parameter]] = {}
        for group, parameters in zip(self._groups, self._parameters, strict=True):
            for key, (weight, bias) in zip(group.keys, parameters, strict=True):
                shared.setdefault((key.base_lr, True), []).append(weight)
                shared.setdefault((key.base_lr, False), []).append(bias)
        settings: list[dict[str, Any]] = [
            {"params": found, "decayed": decayed, "lr": base_lr * self._scale,
             "weight_decay": self._config.weight_decay}
            for (base_lr, decayed), found in shared.items()
        ]  # fmt: skip
        return LARS(settings, lr=1.0, momentum=self._config.momentum)
