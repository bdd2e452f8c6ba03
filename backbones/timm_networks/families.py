"""The timm families that the layer-decay rules or the window rules of papers single out."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import timm
import torch
from timm.layers import DropPath
from timm.models.swin_transformer import SwinTransformerBlock
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from backbones.base.errors import UserError
from backbones.features import Features
from backbones.spec import BackboneSpec, BuildOptions
from backbones.timm_networks.backbone import TimmBackbone, create_net
from backbones.timm_networks.beit import BEIT_ARGUMENTS, BeitBackbone
from backbones.timm_networks.heads import HEAD_NORMS
from backbones.timm_networks.hub import arch_of, pretrained_config
from backbones.timm_networks.layers import timm_layers
from backbones.timm_networks.naflex import DenseNaFlexBackbone, can_be_dense_naflex
from backbones.timm_networks.plain import (
    DenseBeitBackbone,
    DensePlainBackbone,
    can_be_dense,
    is_dense,
)
from backbones.timm_networks.relpos import DenseRelPosBackbone, can_be_dense_relpos
from backbones.timm_networks.swin import SwinBlock, shifted_windows
from backbones.vit.positions_rule import ANTIALIASED


class SwinBackbone(TimmBackbone):
    """Swin, with layer ids and padding as Microsoft's code means them.

    timm keeps the patch merging at the start of a stage, Microsoft at the end of the one before;
    its layer is that of the last block before it (Swin-Transformer-Object-Detection).
    """

    pads_itself = True

    def __init__(self, net: nn.Module) -> None:
        """Wrap a network built with ``num_classes=0``."""
        super().__init__(net)
        for module in self.net.modules():
            if type(module) is SwinTransformerBlock:
                module.__class__ = SwinBlock

    def forward(self, images: Tensor, num_last_blocks: int = 0) -> Features:
        """Return the features of a batch; see ``Backbone.forward``.

        The final norm fits the tokens of the last stage alone; those of earlier stages come
        without, as EsViT's linear probe takes them (microsoft/esvit, eval_linear.py).
        """
        if not num_last_blocks:
            return super().forward(images)
        stages = self._run_blocks(images)
        outputs = [tokens for stage in stages[:-1] for tokens in stage]
        outputs += [self.net.norm(tokens) for tokens in stages[-1]]
        kept = outputs[max(len(outputs) - num_last_blocks, 0) :]
        maps = [stage[-1].permute(0, 3, 1, 2) for stage in stages]
        return Features(
            pooled=self.net.forward_head(outputs[-1], pre_logits=True),
            maps=self._crop(maps, images),
            prefix_tokens=tuple(t.new_zeros(len(t), 0, t.shape[-1]) for t in kept),
            patch_tokens=tuple(tokens.flatten(1, 2) for tokens in kept),
        )

    def _run_blocks(self, images: Tensor) -> list[list[Tensor]]:
        """Return what leaves every block, stage by stage, each (B, rows, columns, C)."""
        tokens = self.net.patch_embed(self._pad(images))
        stages = []
        for stage in self.net.layers:
            tokens = stage.downsample(tokens)
            outputs = []
            for block in stage.blocks:
                tokens = block(tokens)
                outputs.append(tokens)
            stages.append(outputs)
        return stages

    def _number_layers(self) -> tuple[dict[str, int], int]:
        depths = [len(stage.blocks) for stage in self.net.layers]
        first = [sum(depths[:stage]) for stage in range(len(depths))]
        ids = {}
        for name, _ in self.net.named_parameters():
            parts = name.split(".")
            if parts[0] == "patch_embed":
                ids[name] = 0
            elif parts[0] == "norm":
                ids[name] = sum(depths) + 1
            elif parts[2] == "downsample":
                ids[name] = first[int(parts[1])]
            else:
                ids[name] = first[int(parts[1])] + int(parts[3]) + 1
        return ids, sum(depths)


class ResNetBackbone(TimmBackbone):
    """ResNet and its kin: a layer a stage, the stem before them."""

    pads_itself = True

    def _number_layers(self) -> tuple[dict[str, int], int]:
        names = [name for name, _ in self.net.named_parameters()]
        return {k: int(k[5]) if k.startswith("layer") else 0 for k in names}, 4


# Files older than PyTorch 0.4.1 lack BatchNorm's step counters, which no forward pass reads; and no
# pretraining knows ViTDet's decomposed relative positions.
_FRESH = ("*.num_batches_tracked", "blocks.*.attn.rel_pos_[hw]", *HEAD_NORMS)

# Whose windows a detector keeps; those of SwinV2-CR grow with the image.
_SWIN = ("timm.models.swin_transformer", "timm.models.swin_transformer_v2")

# Networks in stages to which timm gives one rate of stochastic depth for all blocks.
_ONE_RATE = ("timm.models.coat", "timm.models.levit", "timm.models.sequencer")

_FAMILIES = {"SwinTransformer": SwinBackbone, "ResNet": ResNetBackbone, "Beit": BeitBackbone}


_DENSE: dict[str, Callable[[Any, BuildOptions], TimmBackbone]] = {
    "Beit": DenseBeitBackbone,
    "NaFlexVit": DenseNaFlexBackbone,
    "VisionTransformerRelPos": DenseRelPosBackbone,
}


def build_timm(name: str, options: BuildOptions, **arguments: Any) -> TimmBackbone:
    """Build a timm network with fresh weights in the ``Backbone`` contract.

    Args:
        name: As timm lists it, with or without a pretrained tag.
        options: See ``BuildOptions``; what the network has no notion of is ignored.
        **arguments: Of the network's own, passed through timm.
    """
    module = timm.models.model_entrypoint(arch_of(name)).__module__
    beit = module == "timm.models.beit"
    if beit:
        arguments = {**BEIT_ARGUMENTS, **arguments}
    if options.keep_windows and module in _SWIN:
        arguments = {"always_partition": True, **arguments}
    dense = is_dense(options) and _can_be_dense(name, arguments)
    # Under a detector, tables of positions keep the size that they were pretrained at.
    net = create_net(name, options, own_size=dense, **arguments)
    _ramp_drop_path(net, options.drop_path)
    if dense:
        return _DENSE.get(type(net).__name__, DensePlainBackbone)(net, options)
    backbone = _FAMILIES.get(type(net).__name__, TimmBackbone)(net)
    if module in _ONE_RATE and options.drop_path:
        _ramp_by_layer(backbone, options.drop_path)
    return backbone


def _can_be_dense(name: str, arguments: dict[str, Any]) -> bool:
    with torch.device("meta"):
        net = create_net(name, BuildOptions(), own_size=True, **arguments)
    return can_be_dense(net) or can_be_dense_naflex(net) or can_be_dense_relpos(net)


def _ramp_drop_path(net: nn.Module, rate: float) -> None:
    """Let stochastic depth rise linearly from 0 to ``rate``; XCiT has one rate for all blocks."""
    blocks = getattr(net, "blocks", None)
    if not rate or not isinstance(blocks, nn.Sequential | nn.ModuleList):
        return
    drops = [[m for m in block.modules() if isinstance(m, DropPath)] for block in blocks]
    if drops[0] and len(drops) > 1 and drops[0][0].drop_prob == rate:
        for index, found in enumerate(drops):
            for drop in found:
                drop.drop_prob = rate * index / (len(drops) - 1)


def _ramp_by_layer(backbone: TimmBackbone, rate: float) -> None:
    """Do so by the layer of each block, for networks that keep their blocks in stages."""
    layers = {name: backbone.layer_id(name) for name, _ in backbone.named_parameters()}
    for prefix, module in backbone.named_modules():
        if isinstance(module, DropPath):
            block = prefix.rpartition(".")[0] + "."
            layer = next(at for name, at in layers.items() if name.startswith(block))
            module.drop_prob = rate * (layer - 1) / (backbone.num_layers - 1)


@cache
def timm_spec(name: str) -> BackboneSpec:
    """Return the spec of any timm network.

    Args:
        name: As timm lists it, with or without a pretrained tag.

    Raises:
        UserError: timm has no such network, or nothing pretrained under that tag.
    """
    config = pretrained_config(name)
    with torch.device("meta"):
        backbone = build_timm(name, BuildOptions(keep_windows=True))
    img_size = int(config.input_size[-1])
    return BackboneSpec(
        name=f"timm:{name}",
        build=partial(build_timm, name),
        layout="plain" if len(backbone.strides) == 1 else "hierarchical",
        strides=backbone.strides,
        channels=backbone.channels,
        num_layers=backbone.num_layers,
        source=f"timm {timm.__version__}, {type(backbone.net).__name__}",
        fresh_params=_FRESH,
        mean=config.mean,
        std=config.std,
        img_size=img_size,
        fixed_size=not _runs_at_other_sizes(name, img_size),
        runs_at=partial(_runs_at, name),
        windows=_can_be_dense(name, {}),
        own_window=_own_window(backbone.net),
        position_table=any(n.endswith("pos_embed") for n in backbone.state_dict()),
        position_rule=ANTIALIASED,
        swin_stages=tuple((stage[0][0], len(stage)) for stage in shifted_windows(backbone)),
        timm_layers=timm_layers(backbone.net),
        one_drop_rate=timm.models.model_entrypoint(arch_of(name)).__module__ in _ONE_RATE,
        batch_norm=any(isinstance(part, _BatchNorm) for part in backbone.modules()),
    )


def _own_window(net: Any) -> int:
    """Return the side of the windows that a plain network is designed with (SAM), 0 for none."""
    blocks = getattr(net, "blocks", ())
    sides = [getattr(block, "window_size", 0) for block in blocks]
    return max((side for side in sides if isinstance(side, int)), default=0)


def _runs_at(name: str, size: int) -> bool:
    """Return whether a network built for a size has maps there, tried without numbers."""
    with torch.device("meta"):
        try:
            backbone = build_timm(name, BuildOptions(img_size=size)).eval()
            backbone.forward_maps(torch.empty(1, 3, size, size))
        except (UserError, AssertionError, RuntimeError, ValueError):
            return False
    return True


def _runs_at_other_sizes(name: str, img_size: int) -> bool:
    """Return whether a network that is built for one size runs at others, without numbers."""
    with torch.device("meta"):
        backbone = build_timm(name, BuildOptions(img_size=img_size)).eval()
        multiple = max(backbone.strides)
        images = torch.empty(1, 3, img_size + 2 * multiple, img_size + multiple)
        try:
            backbone(images)
        except UserError:
            return False
        except (RuntimeError, NotImplementedError):
            return True  # some networks compute with values, which this device has none of
    return True
