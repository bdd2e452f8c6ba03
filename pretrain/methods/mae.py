"""MAE: masked autoencoder (He et al. 2022), section 3.

Draws in a batch: "noise" (B, N), see ``docs/pretraining-draws.md``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from backbones.base.errors import UserError
from backbones.spec import BackboneSpec, BuildOptions
from backbones.training.objective import Batch, Objective
from backbones.vit.config import ViTConfig
from backbones.vit.network import VisionTransformer
from backbones.vit.positions import Grid
from pretrain.config import PretrainConfig, PretrainDataConfig
from pretrain.masked_config import num_visible
from pretrain.method import Method
from pretrain.parts.masked.decoder import Decoder
from pretrain.parts.masked.masking import draw_noise, split_by_noise
from pretrain.parts.masked.patches import check_grid, grid_of, patchify
from pretrain.parts.masked.reconstruction import show_reconstruction
from pretrain.parts.masked.targets import PatchTarget, distance
from pretrain.parts.masked.tokens import (
    embed_masked,
    embed_rows,
    fix_positions,
    initialise,
    patch_positions,
    plain_vit,
)
from pretrain.parts.official import from_official, to_official, weights_of
from pretrain.parts.views.crop import draw_crop
from pretrain.recipes.mae import MAEConfig


@dataclass(frozen=True)
class MAEViews:
    """A crop, and the noise that orders its patches.

    Attributes:
        data: Crop.
        config: Sampling, mask ratio, augmentation.
        grid: Rows and columns of patches of the crop.
    """

    data: PretrainDataConfig
    config: MAEConfig
    grid: Grid

    def __call__(self, image: Image.Image, generator: torch.Generator) -> dict[str, Tensor]:
        """Return "image" (3, H, W) uint8 and "noise" (N,); see ``Views``."""
        config = self.config
        return {
            "image": draw_crop(image, self.data, config.augmentation, generator),
            "noise": draw_noise(config.sampling, self.grid, config.mask_ratio, generator),
        }


class MAEObjective(Objective):
    """A plain ViT on the visible patches, a decoder on all, the error of the masked ones.

    Attributes:
        decoder: Predicts the target of the masked patches.
        mask_token: Of the backbone, (1, 1, embed_dim), with ``mask_tokens_in_encoder``; else None.
        target: What is predicted.
    """

    backbone: VisionTransformer

    def __init__(self, backbone: VisionTransformer, config: MAEConfig, img_size: int) -> None:
        """Add fresh decoder and tokens, and draw all weights anew as MAE does.

        Args:
            backbone: A plain ViT.
            config: MAE's section.
            img_size: Side in pixels that the decoder's positions are made for.
        """
        super().__init__()
        shape = backbone.config
        patch = shape.patch_size
        self.config = config
        self.backbone = backbone
        self.target = PatchTarget(config.target, 3 * patch**2, config.num_components)
        self.num_first_images = self.target.num_images
        inside = config.mask_tokens_in_encoder
        self.mask_token = nn.Parameter(torch.zeros(1, 1, shape.embed_dim)) if inside else None
        decoder_shape = ViTConfig(
            embed_dim=config.decoder_dim,
            num_layers=config.decoder_layers,
            num_heads=config.decoder_heads,
            patch_size=patch,
            cls_token=shape.cls_token,
            num_registers=shape.num_registers,
            pooling="mean",
        )
        side = check_grid(img_size, img_size, patch)[0]
        self.decoder = Decoder(
            decoder_shape, shape.embed_dim, self.target.num_values, side, fills=not inside
        )
        initialise(self)
        fix_positions(backbone)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return "reconstruction": mean error of the masked patches; see ``Objective``."""
        patches, grid = self._cut(batch)
        predicted, masked = self._predict(patches, batch["noise"], grid)
        target = self.target(patches.flatten(0, 1).index_select(0, masked))
        return {"reconstruction": distance(predicted, target, "l2")}

    def prepare(self, batch: Batch) -> None:
        """Find the principal components, where they are the target; see ``Objective``."""
        self.target.find_components(self._cut(batch)[0])

    @torch.no_grad()
    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Return input, masked and reconstructed images; see ``Objective``."""
        patches, grid = self._cut(batch)
        predicted, masked = self._predict(patches, batch["noise"], grid)
        true = patches.flatten(0, 1).index_select(0, masked)
        pixels = self.target.to_pixels(predicted.to(true.dtype), true)
        patch = self.backbone.config.patch_size
        shown = show_reconstruction(patches, masked, pixels, grid, patch)
        return {"input, masked, reconstructed": shown}

    def official_state(self) -> dict[str, Tensor]:
        """Return all weights under the names of facebookresearch/mae's pretraining model."""
        return to_official(self, _official_name)

    def load_official(self, content: Mapping[str, Any]) -> None:
        """Take over an official pretraining checkpoint, encoder and decoder.

        Args:
            content: The file's; weights under "model", or bare.

        Raises:
            PreflightError: It does not fit, tensor for tensor.
        """
        state = weights_of(content)
        from_official(self, state, _official_name)

    def _cut(self, batch: Batch) -> tuple[Tensor, Grid]:
        """Return the batch's patches, (B, N, patch_size**2 * 3), and their grid."""
        images, patch = batch["image"], self.backbone.config.patch_size
        return patchify(images, patch), grid_of(images, patch)

    def _predict(self, patches: Tensor, noise: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
        """Return predictions of the masked patches, (B * M, values), and flat index (B * M,)."""
        vit, length = self.backbone, patches.shape[1]
        count = num_visible(length, self.config.mask_ratio)
        visible, masked = split_by_noise(noise, count)
        pixels = patches.flatten(0, 1).index_select(0, visible)
        positions = patch_positions(vit, grid)
        if self.mask_token is not None:
            filled = self.mask_token.expand(len(patches), length, -1).flatten(0, 1)
            tokens = embed_masked(vit, pixels, visible, filled).view(len(patches), length, -1)
            tokens = tokens if positions is None else tokens + positions
            encoded = vit.norm(vit.encode(vit.prepend_prefix(tokens), grid))
            return self.decoder(encoded, None, masked, grid), masked
        tokens = embed_rows(vit, pixels)
        if positions is not None:
            tokens = tokens + positions.index_select(0, visible % length)
        tokens = tokens.view(len(patches), count, -1)
        encoded = vit.norm(vit.encode(vit.prepend_prefix(tokens)))
        return self.decoder(encoded, visible, masked, grid), masked


def _official_name(name: str) -> str:
    if name == "decoder.mask_token":
        return "mask_token"
    if name.startswith("decoder."):
        return "decoder_" + name.removeprefix("decoder.")
    return name.removeprefix("backbone.")


def _build(spec: BackboneSpec, config: PretrainConfig) -> MAEObjective:
    assert isinstance(config.model, MAEConfig)
    size = config.data.img_size
    vit = plain_vit(spec.build(BuildOptions(img_size=size)), "mae")
    if vit.config.irpe and not config.model.mask_tokens_in_encoder:
        raise UserError(
            f"mae drops patches, and {spec.name} has relative positions, which need a whole grid; "
            "take a vit-* backbone without them, or set model.mask_tokens_in_encoder."
        )
    _refuse_empty(_grid(spec, config), config.model.mask_ratio)
    return MAEObjective(vit, config.model, size)


def _views(spec: BackboneSpec, config: PretrainConfig) -> MAEViews:
    assert isinstance(config.model, MAEConfig)
    return MAEViews(config.data, config.model, _grid(spec, config))


def _grid(spec: BackboneSpec, config: PretrainConfig) -> Grid:
    size = config.data.img_size
    return check_grid(size, size, spec.strides[0])


def _refuse_empty(grid: Grid, mask_ratio: float) -> None:
    length = grid[0] * grid[1]
    visible = num_visible(length, mask_ratio)
    if not 0 < visible < length:
        raise UserError(
            f"model.mask_ratio {mask_ratio:g} leaves {visible} of {length} patches visible; some "
            "must be, and some not."
        )


METHOD = Method("mae", MAEConfig, _build, _views, layout="plain")
