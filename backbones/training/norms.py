"""Batch normalisation over the images of all processes.

torch's SyncBatchNorm runs on GPUs alone; this one runs wherever processes can sum.
"""

from typing import Any

import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from backbones.base.distributed import sum_over_ranks, world_size
from backbones.features import Backbone


class SharedBatchNorm(_BatchNorm):
    """BatchNorm whose statistics, in training, are those of the images of all processes."""

    def forward(self, values: Tensor) -> Tensor:
        """Return normalised values.

        Args:
            values: (B, C, ...), as many images on every process.
        """
        return _normalise(self, values)

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002 - torch's name
        """Take any number of dimensions."""


class SharedBatchNormAct(BatchNormAct2d):  # type: ignore[misc]
    """The same with timm's activation behind it."""

    def forward(self, x: Tensor) -> Tensor:
        """Return normalised and activated values, (B, C, H, W)."""
        out: Tensor = self.act(self.drop(_normalise(self, x)))
        return out


_SHARED: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm1d: SharedBatchNorm,
    nn.BatchNorm2d: SharedBatchNorm,
    BatchNormAct2d: SharedBatchNormAct,
}


def synchronise(module: nn.Module) -> None:
    """Let all batch normalisation inside ``module`` see the images of all processes, in place.

    Parameters, buffers and their names stay what they are.
    """
    for part in module.modules():
        shared = _SHARED.get(type(part))
        if shared is not None:
            part.__class__ = shared


def recompute(module: nn.Module) -> None:
    """Let every backbone inside ``module`` recompute its activations in the backward pass.

    What is computed twice is counted once: running statistics do not follow the second time.
    """
    for part in module.modules():
        if isinstance(part, Backbone):
            part.set_activation_checkpointing(True)
        elif isinstance(part, _BatchNorm):
            part.register_forward_pre_hook(_stand_still)
            part.register_forward_hook(_move_on, always_call=True)


def _stand_still(norm: Any, _: Any) -> None:
    # A forward pass within a backward pass is a recomputation (torch.utils.checkpoint asks so too).
    norm.recomputes = norm.training and torch._C._current_graph_task_id() != -1
    if norm.recomputes:
        norm.follows, norm.momentum = norm.momentum, 0.0


def _move_on(norm: Any, _: Any, __: Any) -> None:
    if norm.recomputes:
        norm.momentum = norm.follows
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked -= 1


def _normalise(norm: _BatchNorm, values: Tensor) -> Tensor:
    """Return ``values``, (B, C, ...), normalised, and let running statistics follow."""
    if not norm.training or world_size() == 1:
        return _BatchNorm.forward(norm, values)
    # In single precision also under autocast, as torch's own.
    exact = values.to(torch.promote_types(values.dtype, torch.float32))
    dims = [dim for dim in range(values.ndim) if dim != 1]
    shape = [-1 if dim == 1 else 1 for dim in range(values.ndim)]
    count = values.numel() // values.shape[1] * world_size()
    mean = sum_over_ranks(exact.sum(dims)) / count
    centered = exact - mean.view(shape)
    variance = sum_over_ranks(centered.square().sum(dims)) / count
    _follow(norm, mean.detach(), variance.detach() * count / (count - 1))
    scale, shift = (variance + norm.eps).rsqrt(), torch.zeros_like(mean)
    if norm.affine:
        scale, shift = scale * norm.weight, shift + norm.bias
    return (centered * scale.view(shape) + shift.view(shape)).to(values.dtype)


@torch.no_grad()
def _follow(norm: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    """Move running statistics, (C,), as torch does; their variance is the unbiased one."""
    if norm.running_mean is None or norm.running_var is None:
        return
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked += 1
    # Without a momentum, the plain mean over all batches.
    rate = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), rate)
    norm.running_var.lerp_(variance.to(norm.running_var.dtype), rate)
