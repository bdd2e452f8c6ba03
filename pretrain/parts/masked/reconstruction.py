"""Pictures of masked images: the input, what the network saw of it, what it made of that."""

import torch
from torch import Tensor

from backbones.vit.positions import Grid
from pretrain.parts.masked.patches import unpatchify


def show_reconstruction(
    patches: Tensor, masked: Tensor, predicted: Tensor, grid: Grid, patch_size: int
) -> Tensor:
    """Return a row of three images for every one: input, masked, reconstructed.

    Args:
        patches: (B, N, P) true pixels.
        masked: (M,) flat index into the (B * N) patches, of the masked ones.
        predicted: (M, P) their predicted pixels.
        grid: Rows and columns of patches.
        patch_size: Side of a patch.

    Returns:
        (B, 3, 3, H, W), masked patches grey in the second, predicted in the third.
    """
    flat = patches.flatten(0, 1)
    grey = flat.index_fill(0, masked, 0.0)  # normalised images: 0 is the mean colour
    filled = flat.index_copy(0, masked, predicted.to(flat.dtype))
    shown = [unpatchify(x.view_as(patches), grid, patch_size) for x in (flat, grey, filled)]
    return torch.stack(shown, dim=1)
