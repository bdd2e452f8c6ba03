"""What the blocks of a backbone attend to: shares of every pair of tokens, and where tokens lie."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from backbones.base.errors import UserError
from backbones.features import Backbone
from backbones.timm_networks.backbone import TimmBackbone
from backbones.timm_networks.families import SwinBackbone
from backbones.vit.network import VisionTransformer

_FUSED = "fused_attn"  # timm's name for the choice


@dataclass(frozen=True)
class Geometry:
    """Where the tokens lie that a block lets attend to each other.

    Attributes:
        places: (W, N, 2) row and column of each token in each window, in cells; -1 for tokens
            without a place (class token, padding). A block without windows has one for all.
        stride: Side of a cell, in pixels.
        has_class_token: The first token of the window is one.
    """

    places: Tensor
    stride: int
    has_class_token: bool


def geometries(backbone: Backbone, img_size: int) -> list[Geometry]:
    """Return the geometry of every block, first to last.

    Args:
        backbone: Plain ViTs and Swins.
        img_size: Side of the images to come, in pixels.

    Raises:
        UserError: Nothing is known of the backbone's attention.
    """
    if isinstance(backbone, SwinBackbone):
        return _of_swin(backbone, img_size)
    if isinstance(backbone, VisionTransformer) and not backbone.dense:
        return [_global(img_size, backbone.strides[0], backbone.num_prefix)] * backbone.num_layers
    blocks = getattr(getattr(backbone, "net", None), "blocks", None)
    if isinstance(backbone, TimmBackbone) and len(backbone.strides) == 1 and blocks is not None:
        prefix = getattr(backbone.net, "num_prefix_tokens", None)
        if prefix is not None and backbone.has_tokens:
            return [_global(img_size, backbone.strides[0], prefix)] * len(blocks)
    raise UserError(
        f"Nothing is known of attention in {type(getattr(backbone, 'net', backbone)).__name__}; "
        "attention can be looked at in plain ViTs and in Swins."
    )


@torch.no_grad()
def watch_attention(
    backbone: Backbone, images: Tensor, take: Callable[[int, Tensor], None]
) -> None:
    """Run a backbone and hand out what each block attends to.

    Args:
        backbone: In evaluation mode.
        images: (B, 3, H, W), normalised.
        take: Called with the number of each block and its shares, (B * W, heads, N, N), queries
            first, which sum to 1 over keys.

    Raises:
        UserError: The backbone does not use torch's ``scaled_dot_product_attention``.
    """
    watcher = _Watcher(take)
    with _fused(backbone), watcher:
        backbone(images)
    if not watcher.seen:
        raise UserError(
            f"{type(getattr(backbone, 'net', backbone)).__name__} does not attend through torch's "
            "scaled_dot_product_attention, so it cannot be watched."
        )


@contextmanager
def _fused(backbone: Backbone) -> Iterator[None]:
    """Let timm's attention go through torch's function, which it does in some networks only."""
    before = {module: module.fused_attn for module in backbone.modules() if hasattr(module, _FUSED)}
    for module in before:
        setattr(module, _FUSED, True)
    try:
        yield
    finally:
        for module, value in before.items():
            setattr(module, _FUSED, value)


class _Watcher(TorchFunctionMode):
    """Sees every call of ``scaled_dot_product_attention``, one a block."""

    def __init__(self, take: Callable[[int, Tensor], None]) -> None:
        super().__init__()
        self._take = take
        self.seen = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        del types
        # Pooling by attention (SigLIP, XCiT) has fewer queries than keys; it is not a block.
        fused = func is F.scaled_dot_product_attention
        if fused and args[0].shape[-2] == args[1].shape[-2]:
            self._take(self.seen, _shares(*args, **(kwargs or {})))
            self.seen += 1
        return func(*args, **(kwargs or {}))


def _shares(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    scale: float | None = None,
    **other: Any,
) -> Tensor:
    """Return softmax(q k / sqrt(d) + mask), (..., N, N)."""
    del value, other
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    logits = (query.float() @ key.float().transpose(-2, -1)) * factor
    if attn_mask is not None:
        logits = logits + attn_mask.float()
    return logits.softmax(dim=-1)


def _global(img_size: int, stride: int, prefix: int) -> Geometry:
    """Return the geometry of attention over a whole image."""
    side = -(-img_size // stride)
    cells = _cells(side, side)
    places = torch.cat([torch.full((prefix, 2), -1), cells.flatten(0, 1)])
    return Geometry(places[None], stride, prefix > 0)


def _of_swin(backbone: SwinBackbone, img_size: int) -> list[Geometry]:
    """Return the geometry of shifted windows, padding at the right and bottom as Swin has it."""
    found = []
    for stride, stage in zip(backbone.strides, backbone.net.layers, strict=True):
        side = -(-img_size // stride)
        for block in stage.blocks:
            (height, width), shift = block.window_size, block.shift_size
            down, right = -side % height, -side % width
            cells = F.pad(_cells(side, side), (0, 0, 0, right, 0, down), value=-1)
            rolled = torch.roll(cells, (-shift[0], -shift[1]), dims=(0, 1))
            rows, columns = (side + down) // height, (side + right) // width
            cut = rolled.view(rows, height, columns, width, 2).transpose(1, 2)
            places = cut.reshape(rows * columns, height * width, 2)
            found.append(Geometry(places, stride, has_class_token=False))
    return found


def _cells(rows: int, columns: int) -> Tensor:
    """Return the row and column of every cell, (rows, columns, 2)."""
    axes = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return torch.stack(axes, dim=-1)
