"""Any ``Backbone`` with its neck as a detectron2 backbone.

Plain backbones get the simple feature pyramid, hierarchical ones detectron2's FPN.
"""

from functools import partial

import torch
from detectron2.modeling.backbone import FPN
from detectron2.modeling.backbone import Backbone as Detectron2Backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from torch import Tensor, nn

from backbones.base.errors import UserError
from backbones.features import Backbone
from detection.config import FEATURES, SIZE_DIVISIBILITY, ModelConfig, frozen_layers
from detection.model.pyramid import COARSEST_BUILT_LEVEL, MapNorm, SimplePyramid, make_norm

# Side of the image that tells which parameters the maps depend on, for networks of any size.
_PROBE_SIZE = 64


class PlainAdapter(Detectron2Backbone):
    """A plain backbone under the simple feature pyramid.

    Attributes:
        net: The backbone.
        neck: The pyramid.
    """

    def __init__(self, net: Backbone, config: ModelConfig, square: int) -> None:
        """Put a fresh neck on ``net``.

        Args:
            net: With one stride.
            config: Says channels, norm and levels of the neck.
            square: Side that batches are padded to; 0 for a multiple of 32.
        """
        super().__init__()
        self.net = net
        self.features = config.features
        self._blocks = FEATURES[config.features]
        self.neck = SimplePyramid(
            net.channels[-1] * self._blocks,
            net.strides[-1],
            config.channels,
            config.rpn_levels,
            config.neck_norm,
        )
        self._square = square
        self._out_features = [f"p{level}" for level in config.rpn_levels]
        self._out_feature_strides = {f"p{level}": 2**level for level in config.rpn_levels}
        self._out_feature_channels = dict.fromkeys(self._out_features, config.channels)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the pyramid of padded, normalised images (B, 3, H, W)."""
        height, width = images.shape[-2:]
        pyramid: dict[str, Tensor] = self.neck(
            read_map(self.net, images, self.features), height, width
        )
        return pyramid

    @property
    def size_divisibility(self) -> int:
        """Sides of a batch are multiples of this."""
        return SIZE_DIVISIBILITY

    @property
    def padding_constraints(self) -> dict[str, int]:
        """What detectron2's ``ImageList`` pads batches to."""
        return {"size_divisibility": SIZE_DIVISIBILITY, "square_size": self._square}


class HierarchicalMaps(Detectron2Backbone):
    """The maps of a hierarchical backbone, by stage, as FPN wants them.

    Networks built on LayerNorm (Swin, ConvNeXt) hand over a residual stream that nobody normalised;
    each map then gets a fresh LayerNorm, as in Swin's detection code. BatchNorm networks do not.

    Attributes:
        net: The backbone.
        norms: One per map, in order of the levels.
    """

    def __init__(self, net: Backbone, levels: list[int]) -> None:
        """Wrap ``net``.

        Args:
            net: With several strides.
            levels: Levels wanted, each of stride 2**level.

        Raises:
            UserError: The backbone lacks the stride of a level.
        """
        super().__init__()
        self.net = net
        missing = [2**level for level in levels if 2**level not in net.strides]
        if missing:
            raise UserError(
                f"The recipe's pyramid needs maps of stride {missing[0]}, but the backbone has "
                f"strides {net.strides}; choose other model.rpn_levels and model.roi_levels."
            )
        self._indices = [net.strides.index(2**level) for level in levels]
        channels = [net.channels[index] for index in self._indices]
        has_layer_norm = any(isinstance(module, nn.LayerNorm) for module in net.modules())
        norm = partial(MapNorm, eps=1e-5) if has_layer_norm else lambda _: nn.Identity()
        self.norms = nn.ModuleList([norm(width) for width in channels])
        self._out_features = [f"stage{level}" for level in levels]
        self._out_feature_strides = {f"stage{level}": 2**level for level in levels}
        self._out_feature_channels = dict(zip(self._out_features, channels, strict=True))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the wanted maps of padded, normalised images (B, 3, H, W)."""
        maps = self.net.forward_maps(images)
        wanted = [maps[index] for index in self._indices]
        normed = [norm(m) for norm, m in zip(self.norms, wanted, strict=True)]
        return dict(zip(self._out_features, normed, strict=True))

    @property
    def size_divisibility(self) -> int:
        """Sides of a batch are multiples of this."""
        return SIZE_DIVISIBILITY


def adapt(net: Backbone, config: ModelConfig, square: int) -> Detectron2Backbone:
    """Return ``net`` with a fresh neck as a detectron2 backbone.

    Args:
        net: One stride makes it plain, several hierarchical.
        config: Says channels, norm and levels of the neck.
        square: Side in pixels that batches are padded to; 0 for a multiple of 32.

    Raises:
        UserError: The backbone lacks a map that the levels need.
    """
    if len(net.strides) == 1:
        return PlainAdapter(net, config, square)
    levels = [level for level in config.rpn_levels if level <= COARSEST_BUILT_LEVEL]
    bottom_up = HierarchicalMaps(net, levels)
    return FPN(
        bottom_up=bottom_up,
        in_features=list(bottom_up.output_shape()),
        out_channels=config.channels,
        norm=partial(make_norm, config.neck_norm) if config.neck_norm else "",
        top_block=LastLevelMaxPool() if max(config.rpn_levels) > COARSEST_BUILT_LEVEL else None,
        square_pad=square,
    )


def freeze(net: Backbone, config: ModelConfig) -> list[nn.Module]:
    """Fix the backbone layers that ``config.freeze`` names, and its BatchNorm where wanted.

    Returns:
        The modules that have to stay in evaluation mode while the others train, since
        ``requires_grad`` alone leaves stochastic depth and running statistics at work.
    """
    count = frozen_layers(config.freeze, net.num_layers)
    for name, parameter in net.named_parameters():
        if net.layer_id(name) < count:
            parameter.requires_grad_(False)
    quiet = [module for module in net.modules() if _all_frozen(module)] if count else []
    if count > net.num_layers + 1:
        quiet.append(net)
    if config.freeze_batchnorm:
        norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        for norm in norms:
            norm.requires_grad_(False)
        quiet += norms
    return quiet


def read_map(net: Backbone, images: Tensor, features: str) -> Tensor:
    """Return the map of a plain backbone that the neck reads; see ``ModelConfig.features``."""
    if features == "last":
        return net.forward_maps(images)[-1]
    return net.normed_map(images, FEATURES[features])


def freeze_unused(net: Backbone, img_size: int, features: str = "last") -> list[str]:
    """Fix the parameters that the maps do not depend on, such as a final norm.

    Distributed training waits for the gradient of every trainable parameter, and weight decay
    would shrink what nothing trains. A backward pass tells which they are: of a small image, or of
    the recipe's size where the network runs at no other.

    Args:
        net: The backbone.
        img_size: Side of the recipe's images.
        features: See ``ModelConfig.features``.

    Returns:
        Their names.
    """
    training = net.training
    net.eval()
    trainable = {name: p for name, p in net.named_parameters() if p.requires_grad}
    unused = []
    if trainable:
        with torch.enable_grad():
            total = _probed(net, img_size, features)
        grads = torch.autograd.grad(total, list(trainable.values()), allow_unused=True)
        unused = [name for name, grad in zip(trainable, grads, strict=True) if grad is None]
    net.train(training)
    for name in unused:
        trainable[name].requires_grad_(False)
    return unused


def _probed(net: Backbone, img_size: int, features: str) -> Tensor:
    """Return a number, of shape (), that depends on whatever the neck reads."""
    try:
        return _sum_of_maps(net, min(_PROBE_SIZE, img_size), features)
    except UserError:
        return _sum_of_maps(net, img_size, features)


def _sum_of_maps(net: Backbone, size: int, features: str) -> Tensor:
    """Return the sum, of shape (), of what the neck reads of (1, 3, size, size) zeros."""
    images = torch.zeros(1, 3, size, size)
    if features != "last":
        return read_map(net, images, features).sum()
    return torch.stack([m.sum() for m in net.forward_maps(images)]).sum()


def _all_frozen(module: nn.Module) -> bool:
    parameters = list(module.parameters())
    return bool(parameters) and not any(p.requires_grad for p in parameters)
