"""A plain ViT's parts as masked image models use them: only the patches that they need."""

import math

import torch
from torch import Tensor, nn

from backbones.base.errors import UserError
from backbones.features import Backbone
from backbones.vit.network import VisionTransformer
from backbones.vit.positions import Grid, resize_positions, sincos_table

TOKEN_STD = 0.02  # of cls and mask tokens at the start (MAE's code; BEiT, section 2.5)


def plain_vit(backbone: Backbone, method: str) -> VisionTransformer:
    """Return the backbone as the ViT that it must be.

    Raises:
        UserError: It is some other network, or was built for dense prediction.
    """
    if isinstance(backbone, VisionTransformer) and not backbone.dense:
        return backbone
    raise UserError(
        f"{method} runs the blocks of the zoo's plain ViTs on chosen tokens, which it cannot do in "
        f"a {type(backbone).__name__}; name one of the vit-* backbones."
    )


def embed_rows(vit: VisionTransformer, pixels: Tensor) -> Tensor:
    """Project patches to tokens, without positions: the patch convolution as a matrix product.

    Whoever needs a quarter of the patches thus embeds a quarter.

    Args:
        vit: The backbone.
        pixels: (..., patch_size**2 * 3), as ``patchify`` orders them.

    Returns:
        (..., embed_dim).
    """
    projection = vit.patch_embed.proj
    weight = projection.weight.permute(0, 2, 3, 1).flatten(1)
    return nn.functional.linear(pixels, weight, projection.bias)


def patch_positions(vit: VisionTransformer, grid: Grid) -> Tensor | None:
    """Return the positions of all patches, (N, embed_dim), or None if the ViT adds none."""
    if vit.pos_embed is None:
        return None
    return resize_positions(vit.pos_embed[:, vit.config.num_prefix_positions :], grid)[0]


def embed_masked(
    vit: VisionTransformer, pixels: Tensor, visible: Tensor, mask_token: Tensor
) -> Tensor:
    """Embed rows of patches in which the masked ones are replaced by one learned token.

    Args:
        vit: The backbone.
        pixels: (V, P), the visible patches alone.
        visible: (V,) flat index of theirs into the (R * N) patches of the rows.
        mask_token: (R * N, embed_dim), the token, expanded.

    Returns:
        (R * N, embed_dim), without positions.
    """
    tokens = embed_rows(vit, pixels)
    return mask_token.to(tokens.dtype).index_copy(0, visible, tokens)


def fix_positions(vit: VisionTransformer, *, rows_first: bool = False) -> None:
    """Set a ViT's position table to the fixed sin-cos table and stop its training.

    Fine-tuning and detection train it again, from there (MAE's fine-tuning code).

    Args:
        vit: The backbone; without positions it stays as it is.
        rows_first: The first half of the channels varies with the row, as in MoCo v3
            (facebookresearch/moco-v3, vits.py); else with the column, as in MAE.
    """
    table = vit.pos_embed
    if table is None:
        return
    prefix = vit.config.num_prefix_positions
    side = math.isqrt(table.shape[1] - prefix)
    fixed = sincos_table(vit.config.embed_dim, (side, side), prefix)
    if rows_first:
        fixed = torch.cat(fixed.chunk(2, dim=-1)[::-1], dim=-1)
    with torch.no_grad():
        table.copy_(fixed)
    table.requires_grad_(False)


@torch.no_grad()
def initialise(
    objective: nn.Module, *, token_std: float = TOKEN_STD, split_qkv: bool = False
) -> None:
    """Draw weights as MAE does: Xavier-uniform, the patch convolution seen as one matrix.

    Biases are 0, cls, register and mask tokens normal; everything else stays as it is.

    Args:
        objective: Or any part of it.
        token_std: Deviation of the tokens.
        split_qkv: Queries, keys and values are a matrix each (MoCo v3), not one of all (MAE).
    """
    for name, module in objective.named_modules():
        if isinstance(module, nn.Linear):
            parts = 3 if split_qkv and name.endswith("qkv") else 1
            for matrix in module.weight.chunk(parts):
                nn.init.xavier_uniform_(matrix)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Conv2d):
            nn.init.xavier_uniform_(module.weight.view(len(module.weight), -1))
    for name, token in objective.named_parameters():
        if name.endswith(("cls_token", "reg_token", "mask_token")):
            nn.init.normal_(token, std=token_std)
