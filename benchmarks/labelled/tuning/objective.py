"""A backbone that is trained on, whole or in part, with a classifier."""

from collections.abc import Mapping
from copy import deepcopy
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from backbones.base.errors import UserError
from backbones.features import Backbone
from backbones.training.objective import Moment
from benchmarks.labelled.tuning.config import ALL_BLOCKS, TuneConfig
from pretrain.methods.supervised import SupervisedObjective
from pretrain.parts.distilled.regions import pooled_channels
from pretrain.recipes.supervised import SupervisedConfig

_NORM_EPS = 1e-6  # facebookresearch/mae models_vit.py
# Modules of a block that make up its second half, as timm names them, and what scales it.
_MLP = frozenset({"norm2", "mlp", "ls2", "gamma_2"})


class FinetuneObjective(SupervisedObjective):
    """A backbone with weights and a fresh linear classifier.

    With ``pooling`` "mean" the classifier sees the mean of the last map through a fresh
    LayerNorm; the backbone's own final norm then takes no part and is not trained. What
    ``tune.blocks`` leaves out is not trained either, running statistics of norms included.

    Attributes:
        fc_norm: In front of the head.
        averaged: Running average of backbone, norm and head, where one is kept.
    """

    def __init__(
        self, backbone: Backbone, num_classes: int, model: SupervisedConfig, tune: TuneConfig
    ) -> None:
        """Freeze what is not to be trained, and draw a head from torch's generator.

        Args:
            backbone: With its weights.
            num_classes: At least 1.
            model: Label smoothing.
            tune: Pooling, head and what is trained.

        Raises:
            UserError: The backbone has fewer blocks than are to be trained, or its last one no
                MLP.
        """
        mean = tune.pooling == "mean"
        width = backbone.channels[-1] if mean else pooled_channels(backbone)
        super().__init__(backbone, nn.Linear(width, num_classes), model, tune.head_std)
        self.tune = tune
        self.fc_norm = nn.LayerNorm(width, eps=_NORM_EPS) if mean else nn.Identity()
        trained = trained_names(backbone, tune.blocks)
        top = backbone.num_layers + 1
        for name, parameter in backbone.named_parameters():
            unused = mean and backbone.layer_id(name) == top
            parameter.requires_grad_(name in trained and not unused)
        self.averaged: nn.ModuleDict | None = None
        if tune.ema_momentum:
            copied = {name: deepcopy(getattr(self, name)) for name in _PARTS}
            self.averaged = nn.ModuleDict(copied).requires_grad_(False)

    def classify(self, images: Tensor) -> Tensor:
        """Return the logits of normalised images, (B, num_classes)."""
        return self._through(images, {name: getattr(self, name) for name in _PARTS})

    def predict(self, images: Tensor) -> Tensor:
        """Return the same from the averaged weights, where they are kept."""
        return self.classify(images) if self.averaged is None else self._averaged(images)

    def lr_factors(self) -> Mapping[str, float]:
        """Return the layer decay of the backbone's parameters."""
        factors = self.backbone.lr_factors(self.tune.layer_decay)
        return {f"backbone.{name}": factor for name, factor in factors.items()}

    @torch.no_grad()
    def after_update(self, moment: Moment) -> None:
        """Let the average follow."""
        del moment
        if self.averaged is None:
            return
        share = 1 - self.tune.ema_momentum
        for name in _PARTS:
            ours, theirs = getattr(self, name), self.averaged[name]
            pairs = chain(
                zip(theirs.parameters(), ours.parameters(), strict=True),
                zip(theirs.buffers(), ours.buffers(), strict=True),
            )
            for old, new in pairs:
                if old.is_floating_point():
                    old.lerp_(new, share)
                else:
                    old.copy_(new)

    def train(self, mode: bool = True) -> "FinetuneObjective":
        """Switch to training; what is not trained keeps its running statistics."""
        super().train(mode)
        for module in self.backbone.modules():
            if isinstance(module, _BatchNorm) and not _is_trained(module):
                module.eval()
        if self.averaged is not None:
            self.averaged.eval()
        return self

    def _averaged(self, images: Tensor) -> Tensor:
        """Return the averaged network's logits of (B, 3, H, W) images, (B, C)."""
        assert self.averaged is not None
        return self._through(images, dict(self.averaged.items()))

    def _through(self, images: Tensor, parts: Mapping[str, nn.Module]) -> Tensor:
        """Return the logits that ``parts`` give (B, 3, H, W) images, (B, C)."""
        backbone = parts["backbone"]
        assert isinstance(backbone, Backbone)
        if self.tune.pooling == "mean":
            vectors = parts["fc_norm"](backbone.forward_maps(images)[-1].mean(dim=(2, 3)))
        else:
            vectors = backbone(images).pooled
        logits: Tensor = parts["head"](vectors)
        return logits


_PARTS = ("backbone", "fc_norm", "head")


def trained_names(backbone: Backbone, blocks: float) -> frozenset[str]:
    """Return the names of the backbone's parameters that are trained.

    What lies behind the last block is always among them. In front of a linear classifier that
    changes nothing of what can be learnt: a norm's scale and shift are linear too.

    Args:
        backbone: Any; a block is a layer of its ``layer_id``.
        blocks: As ``TuneConfig.blocks``.

    Raises:
        UserError: It has fewer blocks, or its last one no MLP.
    """
    ids = {name: backbone.layer_id(name) for name, _ in backbone.named_parameters()}
    last = backbone.num_layers
    if blocks > last:
        raise UserError(
            f"{blocks:g} blocks are to be trained, and this backbone has {last}; --set tune.blocks "
            "to at most that, or to -1 for everything."
        )
    if blocks in (ALL_BLOCKS, last):
        return frozenset(ids)
    trained = {name for name, layer in ids.items() if layer > last - int(blocks)}
    if blocks == 0.5:
        half = mlp_names(backbone)
        if not half:
            raise UserError(
                "The last block of this backbone has no MLP that half of it could be; --set "
                "tune.blocks to whole numbers."
            )
        trained |= half
    return frozenset(trained)


def mlp_names(backbone: Backbone) -> frozenset[str]:
    """Return the parameters of the MLP of the last block, none where it has no MLP."""
    names = [name for name, _ in backbone.named_parameters() if _MLP & set(name.split("."))]
    return frozenset(name for name in names if backbone.layer_id(name) == backbone.num_layers)


def _is_trained(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters(recurse=False))
