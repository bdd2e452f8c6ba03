"""Any timm model in the ``Backbone`` contract."""

import re
from inspect import signature
from typing import Any

import timm
import torch
from timm.layers import RelPosMlp
from torch import Tensor, nn
from torch.nn import functional as F

from backbones.base.errors import UserError
from backbones.features import Backbone, BlockAttention, Features
from backbones.spec import BuildOptions
from backbones.timm_networks.heads import feed_classifiers, keep_head_norms
from backbones.timm_networks.layers import number_layers

# What stands before timm's parameter names in ours.
NET = "net."

# Smallest stride of interest: detection starts at 4, and timm's ResNets offer 2 as well.
_FINEST_STRIDE = 4

# How torch words a tensor that does not fit a table of fixed size; memory errors do not match.
_SIZE_TROUBLE = re.compile(r"shape '\[|broadcast|must match|size of tensor|not match")


class TimmBackbone(Backbone):
    """A timm network without its classifier.

    Maps are the last feature of each stride, without the final norm; pooled is what timm feeds to
    its classifier. Images that do not divide are zero-padded, right and bottom. ``forward`` returns
    no maps where the network has none that cover the image, so that tasks which read only
    ``pooled`` can use it; ``forward_maps`` then says why.

    Attributes:
        net: The timm network; its parameters carry timm's names behind ``net.``.
    """

    # Each stage of these rounds its size up by itself, so that padding to the stem is enough.
    pads_itself = False

    # timm's networks have many attributes and no common class.
    net: Any

    def __init__(self, net: nn.Module) -> None:
        """Wrap a network built with ``num_classes=0``."""
        super().__init__()
        self.net = net
        levels = _levels(self.net.feature_info)
        self._indices = [index for index, _, _ in levels]
        self.strides = tuple(stride for _, stride, _ in levels)
        self.channels = tuple(channels for _, _, channels in levels)
        ids, self.num_layers = self._number_layers()
        self._layer_ids = {NET + name: layer for name, layer in ids.items()}

    def forward(self, images: Tensor, num_last_blocks: int = 0) -> Features:
        """Return the features of a batch; see ``Backbone.forward``."""
        if num_last_blocks and self.has_tokens:
            return self._with_tokens(images, num_last_blocks)
        try:
            final, maps = self._run(images, indices=self._indices)
            covering = self._crop(maps, images)
        except UserError as error:
            final, covering = self._without_maps(images, error), ()
        else:
            if self._padding(images) and tuple(images.shape[-2:]) == self._own_size:
                # The network was trained on images of this size as they are.
                final = self.net.forward_features(images)
        return Features(pooled=self.pool(final), maps=covering)

    def pool(self, final: Any) -> Tensor:
        """Return what the network's classifiers are fed, (B, D).

        Args:
            final: What the last block gives, as timm's ``forward_head`` takes it. Where a network
                has several classifiers with inputs of their own, these stand next to each other.
        """
        return feed_classifiers(self.net, self.net.forward_head(final, pre_logits=True))

    def forward_maps(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return only ``maps``; see ``Backbone.forward_maps``."""
        maps = self._run(images, indices=self._indices, stop_early=True, intermediates_only=True)
        return self._crop(maps, images)

    def layer_id(self, parameter_name: str) -> int:
        """Return the layer-decay layer of a parameter; see ``Backbone.layer_id``."""
        return self._layer_ids[parameter_name]

    def no_weight_decay(self) -> frozenset[str]:
        """Return what timm would not decay, beside norms and biases."""
        names = self.net.no_weight_decay() if hasattr(self.net, "no_weight_decay") else ()
        # timm also names tokens that this network may have been built without.
        return frozenset(NET + name for name in names) & frozenset(self._layer_ids)

    def set_activation_checkpointing(self, enabled: bool) -> None:
        """Recompute block activations in the backward pass, through timm's own switch.

        Raises:
            UserError: timm gives this network no such switch.
        """
        try:
            self.net.set_grad_checkpointing(enabled)
        except (AttributeError, AssertionError) as error:
            name = type(self.net).__name__
            raise UserError(f"timm's {name} cannot recompute activations; leave it off.") from error

    def norm_behind_pooling(self) -> None:
        """Move the final norm behind the mean over patches, timm's ``global_pool="avg"``."""
        self.net.fc_norm, self.net.norm = self.net.norm, nn.Identity()
        self.net.global_pool = "avg"
        ids = self._layer_ids.items()
        self._layer_ids = {k.replace(f"{NET}norm.", f"{NET}fc_norm."): v for k, v in ids}

    def block_attention(self) -> tuple[BlockAttention, ...]:
        """Return how each block attends, as timm builds it; see ``Backbone.block_attention``."""
        blocks = getattr(self.net, "blocks", ())
        if len(self.strides) > 1 or len(blocks) != self.num_layers:
            return ()
        return tuple(_attention_of(block, self.net) for block in blocks)

    def normed_map(self, images: Tensor, num_blocks: int) -> Tensor:
        """Return normed tokens as a map; see ``Backbone.normed_map``.

        Networks that pool the mean have their final norm behind the pooling, where timm keeps it as
        ``fc_norm``; it was trained on such tokens.
        """
        outputs = self.net.forward_intermediates(
            self._pad(images), indices=num_blocks, intermediates_only=True
        )
        norms = (getattr(self.net, name, None) for name in ("norm", "fc_norm"))
        norm = next((n for n in norms if n is not None and any(True for _ in n.parameters())), None)
        if norm is None or len(outputs) != num_blocks:
            raise UserError(f"timm's {type(self.net).__name__} has no normed tokens; use another.")
        (height, width), stride = images.shape[-2:], self.strides[-1]
        maps = [norm(output.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) for output in outputs]
        return torch.cat(maps, dim=1)[..., : -(-height // stride), : -(-width // stride)]

    def own_name(self, timm_name: str) -> str:
        """Return the name in this module of what timm calls ``timm_name``."""
        return NET + timm_name

    def _number_layers(self) -> tuple[dict[str, int], int]:
        """Return the layer of each of timm's parameter names, and the number of layers."""
        return number_layers(self.net)

    @property
    def has_tokens(self) -> bool:
        """Return whether all tokens of an image go through the blocks side by side."""
        if len(self.strides) > 1 or not hasattr(self.net, "num_prefix_tokens"):
            return False
        # Networks with class attention (CaiT, XCiT) carry no prefix tokens through their blocks.
        return "return_prefix_tokens" in signature(self.net.forward_intermediates).parameters

    def _with_tokens(self, images: Tensor, num_last_blocks: int) -> Features:
        """Return the features of (B, 3, H, W) images, with (B, N, C) tokens of the last blocks."""
        last = min(num_last_blocks, self.num_layers)
        final, outputs = self._run(images, indices=last, return_prefix_tokens=True)
        # Without prefix tokens timm returns maps in place of pairs.
        pairs = [o if isinstance(o, tuple) else (o, o.new_zeros(len(o), 0, 1)) for o in outputs]
        patches = [image.flatten(2).transpose(1, 2) for image, _ in pairs]
        normed = [self.net.norm(prefix) if prefix.shape[1] else prefix for _, prefix in pairs]
        return Features(
            pooled=self.pool(final),
            maps=self._crop([pairs[-1][0]], images),
            prefix_tokens=tuple(normed),
            patch_tokens=tuple(self.net.norm(tokens) for tokens in patches),
        )

    def _run(self, images: Tensor, **arguments: Any) -> Any:
        """Run timm's network on (B, 3, H, W) images, padded.

        Raises:
            UserError: The network is fixed to sizes of its own, as some with relative positions
                over the whole image are.
        """
        try:
            return self.net.forward_intermediates(self._pad(images), **arguments)
        except (AssertionError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not _SIZE_TROUBLE.search(str(error)):
                raise
            height, width = images.shape[-2:]
            raise UserError(
                f"timm's {type(self.net).__name__} does not run on images of {width} x {height} "
                f"({str(error).partition(chr(10))[0]}); it runs only at the square size that it is "
                "built for (img_size)."
            ) from error

    def _without_maps(self, images: Tensor, error: UserError) -> Tensor:
        """Return what timm pools of a network without maps of these images, (B, 3, H, W).

        Raises:
            UserError: The network does not run on these images at all, as ``error`` says.
        """
        try:
            final: Tensor = self.net.forward_features(images)
        except (AssertionError, RuntimeError) as failure:
            if isinstance(failure, RuntimeError) and not _SIZE_TROUBLE.search(str(failure)):
                raise
            raise error from failure
        return final

    def _pad(self, images: Tensor) -> Tensor:
        """Return (B, 3, H, W) images, padded at the right and below to multiples of a stride."""
        padding = self._padding(images)
        return F.pad(images, padding) if padding else images

    def _padding(self, images: Tensor) -> tuple[int, int, int, int] | None:
        """Return what ``_pad`` adds to (B, 3, H, W) images, None for nothing."""
        multiple = self.strides[0] if self.pads_itself else self.strides[-1]
        height, width = images.shape[-2:]
        right, bottom = -width % multiple, -height % multiple
        return (0, right, 0, bottom) if right or bottom else None

    @property
    def _own_size(self) -> tuple[int, ...]:
        """Height and width in pixels that the network's classifier was trained at."""
        return tuple(getattr(self.net, "pretrained_cfg", {}).get("input_size", ())[1:])

    def _crop(self, maps: list[Tensor], images: Tensor) -> tuple[Tensor, ...]:
        """Cut padding off (B, C, rows, columns) maps; refuse ones that do not cover the image."""
        height, width = images.shape[-2:]
        sizes = [(-(-height // stride), -(-width // stride)) for stride in self.strides]
        cropped = tuple(m[..., :h, :w] for m, (h, w) in zip(maps, sizes, strict=True))
        if [m.shape[-2:] for m in cropped] != sizes:
            raise UserError(
                f"timm's {type(self.net).__name__} does not pad its convolutions: its maps are "
                f"smaller than the image over {self.strides}, so boxes would not lie where they "
                "seem; use another backbone."
            )
        return cropped


def own_relative(net: Any, block: Any) -> str:
    """Return the kind of a block's relative positions, in ``BlockAttention``'s words."""
    attention = getattr(block, "attn", None)
    shared = getattr(net, "shared_rel_pos", None)
    if getattr(net, "rope", None) is not None:
        return "rotary"
    if getattr(attention, "rel_pos_h", None) is not None:
        return "decomposed"
    if isinstance(shared or getattr(attention, "rel_pos", None), RelPosMlp):
        return "bias MLP"
    names = [name for name, _ in block.named_parameters()]
    if shared is not None or any("rel_pos" in name or "relative" in name for name in names):
        return "bias table"
    return "none"


def _attention_of(block: Any, net: Any) -> BlockAttention:
    window = getattr(block, "window_size", 0)
    return BlockAttention(window if isinstance(window, int) else 0, own_relative(net, block))


def create_net(
    name: str, options: BuildOptions, own_size: bool = False, **arguments: Any
) -> nn.Module:
    """Build a timm network with fresh weights, no classifier and, where timm can, any input size.

    Args:
        name: As timm lists it, with or without a pretrained tag.
        options: img_size and drop_path are passed on to networks that take them.
        own_size: Leaves img_size to the network's own default.
        **arguments: Further ones of the network's own.
    """
    wishes: dict[str, Any] = {
        "img_size": options.img_size,
        "drop_path_rate": options.drop_path,
        "dynamic_img_size": True,
        "strict_img_size": False,
    }
    if own_size:
        del wishes["img_size"]
    while True:
        try:
            net: nn.Module = timm.create_model(name, num_classes=0, **arguments, **wishes)
            keep_head_norms(net, name, arguments | wishes)
        except TypeError as error:
            # Trying is the only way to learn which arguments a timm network takes.
            refused = set(re.findall(r"'(\w+)'", str(error))) & set(wishes)
            if "unexpected keyword argument" not in str(error) or not refused:
                raise
            wishes = {k: v for k, v in wishes.items() if k not in refused}
        else:
            return net


def _levels(feature_info: list[dict[str, Any]]) -> list[tuple[int, int, int]]:
    """Return (index, stride, channels) of the last feature of each stride, finest first."""
    last = {info["reduction"]: (index, info["num_chs"]) for index, info in enumerate(feature_info)}
    return [
        (index, stride, channels)
        for stride, (index, channels) in sorted(last.items())
        if stride >= _FINEST_STRIDE
    ]
