"""LoMaR: local masked reconstruction (Chen et al. 2022), section 3, and its kin.

Masked patches stay in the sequence as a learned token. With windows and normalised pixels this is
LoMaR; with raw pixels and the L1 distance it is SimMIM's objective in windows; with one window as
large as the image it is the global counterpart of either.

Draws in a batch: "tops", "lefts" (B, W) and "noise" (B, W, K * K), see
``docs/pretraining-draws.md``.
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
from backbones.vit.network import VisionTransformer
from backbones.vit.positions import Grid, sincos_table
from pretrain.config import PretrainConfig, PretrainDataConfig
from pretrain.masked_config import num_masked
from pretrain.method import Method
from pretrain.parts.masked.masking import draw_noise, split_by_noise
from pretrain.parts.masked.patches import check_grid, grid_of, patchify
from pretrain.parts.masked.reconstruction import show_reconstruction
from pretrain.parts.masked.targets import PatchTarget, distance
from pretrain.parts.masked.tokens import (
    embed_masked,
    fix_positions,
    initialise,
    patch_positions,
    plain_vit,
)
from pretrain.parts.masked.windows import draw_windows, pair_windows
from pretrain.parts.official import from_official, to_official, weights_of
from pretrain.parts.views.crop import draw_crop
from pretrain.recipes.lomar import LoMaRConfig


@dataclass(frozen=True)
class LoMaRViews:
    """A crop, the places of its windows and the noise that orders the patches in each.

    Attributes:
        data: Crop.
        config: Windows, sampling, mask ratio, augmentation.
        grid: Rows and columns of patches of the crop.
    """

    data: PretrainDataConfig
    config: LoMaRConfig
    grid: Grid

    def __call__(self, image: Image.Image, generator: torch.Generator) -> dict[str, Tensor]:
        """Return "image" (3, H, W) uint8, "tops", "lefts" (W,) and "noise" (W, K * K)."""
        config, pixels = (
            self.config,
            draw_crop(image, self.data, self.config.augmentation, generator),
        )
        if config.window_size:
            tops, lefts = draw_windows(config.num_windows, self.grid, config.window_size, generator)
        else:
            tops = lefts = torch.zeros(1, dtype=torch.int64)
        window = (config.window_size,) * 2 if config.window_size else self.grid
        kept_first = [
            draw_noise(config.sampling, window, config.mask_ratio, generator) for _ in tops
        ]
        # The smallest values are masked here, as in LoMaR's code, and kept in MAE's.
        return {"image": pixels, "tops": tops, "lefts": lefts, "noise": -torch.stack(kept_first)}


@dataclass(frozen=True)
class _Windows:
    """Windows of a batch as sequences.

    Attributes:
        patches: (R * N,) each place's patch, as a flat index into those of the batch.
        visible: (V,) flat index of the visible places into (R * N).
        masked: (M,) likewise.
        grid: Rows and columns of patches in a window.
    """

    patches: Tensor
    visible: Tensor
    masked: Tensor
    grid: Grid


class LoMaRObjective(Objective):
    """A plain ViT on windows with masked tokens, one linear head, the error of the masked patches.

    Attributes:
        mask_token: (1, 1, embed_dim), stands for every masked patch.
        head: Predicts the target of a patch from its token.
        target: What is predicted.
        unused_positions: The sin-cos table that LoMaR's files carry and its code never adds to
            anything, kept so that they go in and out whole; absent if the backbone adds positions.
    """

    backbone: VisionTransformer
    unused_positions: Tensor | None

    def __init__(self, backbone: VisionTransformer, config: LoMaRConfig, img_size: int) -> None:
        """Add fresh head and token, and draw all weights anew as MAE does.

        Args:
            backbone: A plain ViT; LoMaR's has ``irpe`` and no positions, any other will do.
            config: LoMaR's section.
            img_size: Side in pixels of the images.
        """
        super().__init__()
        shape = backbone.config
        self.config = config
        self.backbone = backbone
        self.target = PatchTarget(config.target, 3 * shape.patch_size**2, config.num_components)
        self.num_first_images = self.target.num_images
        self.mask_token = nn.Parameter(torch.zeros(1, 1, shape.embed_dim))
        self.head = nn.Linear(shape.embed_dim, self.target.num_values)
        table = None
        if backbone.pos_embed is None and shape.embed_dim % 4 == 0:
            grid = check_grid(img_size, img_size, shape.patch_size)
            table = sincos_table(shape.embed_dim, grid, shape.num_prefix_positions)
        self.register_buffer("unused_positions", table)
        initialise(self)
        fix_positions(backbone)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return "reconstruction": mean error of the masked patches; see ``Objective``."""
        patches, grid = self._cut(batch)
        rows = self._rows(batch, grid)
        predicted = self._predict(patches, rows, grid)
        return {
            "reconstruction": distance(
                predicted, self.target(self._masked(patches, rows)), self.config.distance
            )
        }

    def prepare(self, batch: Batch) -> None:
        """Find the principal components, where they are the target; see ``Objective``."""
        self.target.find_components(self._cut(batch)[0])

    @torch.no_grad()
    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Return input, masked and reconstructed windows; see ``Objective``."""
        patches, grid = self._cut(batch)
        rows = self._rows(batch, grid)
        true = self._masked(patches, rows)
        predicted = self._predict(patches, rows, grid).to(true.dtype)
        pixels = self.target.to_pixels(predicted, true)
        cut = patches.flatten(0, 1).index_select(0, rows.patches)
        cut = cut.view(-1, rows.grid[0] * rows.grid[1], cut.shape[-1])
        patch = self.backbone.config.patch_size
        shown = show_reconstruction(cut, rows.masked, pixels, rows.grid, patch)
        by_image = shown.reshape(len(patches), -1, *shown.shape[2:])
        return {"windows: input, masked, reconstructed": by_image}

    def official_state(self) -> dict[str, Tensor]:
        """Return all weights under the names of junchen14/LoMaR's pretraining model."""
        return to_official(self, _official_name)

    def load_official(self, content: Mapping[str, Any]) -> None:
        """Take over an official pretraining checkpoint.

        Args:
            content: The file's; weights under "model", or bare.

        Raises:
            PreflightError: It does not fit, tensor for tensor.
        """
        state = weights_of(content)
        if self.unused_positions is not None and "pos_embed" in state:
            # The table's size is that of whatever images the file was made with; no matter.
            self.unused_positions = torch.empty_like(state["pos_embed"])
        from_official(self, state, _official_name)

    def _cut(self, batch: Batch) -> tuple[Tensor, Grid]:
        """Return the batch's patches, (B, N, patch_size**2 * 3), and their grid."""
        images, patch = batch["image"], self.backbone.config.patch_size
        return patchify(images, patch), grid_of(images, patch)

    def _rows(self, batch: Batch, grid: Grid) -> _Windows:
        config, noise = self.config, batch["noise"].flatten(0, 1)
        size = config.window_size
        if size:
            images, patches = pair_windows(
                batch["tops"], batch["lefts"], size, grid, config.windows
            )
            window = (size, size)
        else:
            images = torch.arange(len(noise), device=noise.device)
            patches = torch.arange(grid[0] * grid[1], device=noise.device).expand(len(noise), -1)
            window = grid
        flat = (images[:, None] * (grid[0] * grid[1]) + patches).reshape(-1)
        masked, visible = split_by_noise(noise, num_masked(noise.shape[1], config.mask_ratio))
        return _Windows(flat, visible, masked, window)

    def _masked(self, patches: Tensor, rows: _Windows) -> Tensor:
        """Return the true pixels of the masked places, (M, P)."""
        return patches.flatten(0, 1).index_select(0, rows.patches[rows.masked])

    def _predict(self, patches: Tensor, rows: _Windows, grid: Grid) -> Tensor:
        """Return predicted values of the masked places, (M, num_values)."""
        vit, places = self.backbone, len(rows.patches)
        pixels = patches.flatten(0, 1).index_select(0, rows.patches[rows.visible])
        filled = self.mask_token.expand(1, places, -1)[0]
        tokens = embed_masked(vit, pixels, rows.visible, filled)
        positions = patch_positions(vit, grid)
        if positions is not None:
            tokens = tokens + positions.index_select(0, rows.patches % patches.shape[1])
        tokens = tokens.view(-1, rows.grid[0] * rows.grid[1], tokens.shape[-1])
        encoded = vit.encode(vit.prepend_prefix(tokens), rows.grid)
        wanted = encoded[:, vit.num_prefix :].flatten(0, 1).index_select(0, rows.masked)
        predicted: Tensor = self.head(vit.norm(wanted))
        return predicted


def _official_name(name: str) -> str:
    if name == "unused_positions":
        return "pos_embed"
    if name.startswith("head."):
        return "encoder_pred." + name.removeprefix("head.")
    return name.removeprefix("backbone.")


def _build(spec: BackboneSpec, config: PretrainConfig) -> LoMaRObjective:
    assert isinstance(config.model, LoMaRConfig)
    vit = plain_vit(spec.build(BuildOptions(img_size=config.data.img_size)), "lomar")
    _refuse_empty(_views(spec, config))
    return LoMaRObjective(vit, config.model, config.data.img_size)


def _views(spec: BackboneSpec, config: PretrainConfig) -> LoMaRViews:
    assert isinstance(config.model, LoMaRConfig)
    size = config.data.img_size
    grid = check_grid(size, size, spec.strides[0])
    return LoMaRViews(config.data, config.model, grid)


def _refuse_empty(views: LoMaRViews) -> None:
    size, grid = views.config.window_size, views.grid
    if size > min(grid):
        raise UserError(
            f"A window of {size} x {size} patches does not fit into {grid[0]} x {grid[1]}; make "
            "model.window_size smaller or data.img_size larger."
        )
    length = size**2 or grid[0] * grid[1]
    masked = num_masked(length, views.config.mask_ratio)
    if not 0 < masked < length:
        raise UserError(
            f"model.mask_ratio {views.config.mask_ratio:g} masks {masked} of a window's {length} "
            "patches; some must be masked, and some not."
        )


METHOD = Method("lomar", LoMaRConfig, _build, _views, layout="plain")
