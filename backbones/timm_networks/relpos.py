"""timm's ViTs whose relative positions are an MLP (``vit_relpos_*``), by the rules of ViTDet.

The MLP belongs to a block or is shared by all blocks; it gives the bias of any offset, so windows
and the whole map use it as it was pretrained.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from timm.layers import RelPosMlp
from torch import Tensor

from backbones.spec import BuildOptions
from backbones.timm_networks.plain import DensePlainBackbone, once_per_grid
from backbones.timm_networks.tables import mlp_bias
from backbones.timm_networks.windows import can_attend_on_maps
from backbones.vit.positions import Grid

_BLOCKS = ("RelPosBlock", "ResPostRelPosBlock")


def can_be_dense_relpos(net: Any) -> bool:
    """Return whether a timm network is a relpos ViT whose attention can be put into windows."""
    if type(net).__name__ != "VisionTransformerRelPos":
        return False
    known = all(
        type(block).__name__ in _BLOCKS and can_attend_on_maps(block.attn) for block in net.blocks
    )
    biases = [net.shared_rel_pos or block.attn.rel_pos for block in net.blocks]
    return known and all(isinstance(one, RelPosMlp) and one.mode == "cr" for one in biases)


class DenseRelPosBackbone(DensePlainBackbone):
    """A relpos ViT under a detector, on maps of any size; the cls token takes no part."""

    def __init__(self, net: Any, options: BuildOptions) -> None:
        """Wrap a network built at its own image size; see ``DensePlainBackbone``.

        Args:
            net: One that ``can_be_dense_relpos``.
            options: Windows and global blocks; it keeps its own relative positions.
        """
        super().__init__(net, options)
        net.patch_embed.strict_img_size = False

    def absolute_positions(self) -> str:
        """Return that it adds none."""
        return "none"

    def _embed(self, images: Tensor) -> Tensor:
        """Return the patches of (B, 3, H, W) images, (B, rows, columns, C)."""
        padded = self._pad(images)
        grid = [length // self.strides[0] for length in padded.shape[-2:]]
        tokens: Tensor = self.net.patch_embed(padded)
        return tokens.view(len(tokens), *grid, -1)

    def _relative_to(self, grid: Grid) -> Callable[[int, int], dict[str, Tensor]]:
        shared = self.net.shared_rel_pos
        if shared is None:
            return lambda index, window: {}
        biases = once_per_grid(partial(mlp_bias, shared), grid)
        return lambda index, window: {"shared_rel_pos": biases(window)}
