"""SimMIM: masked pixels regressed from whole backbones (Xie et al. 2022), section 3.

Draws in a batch: "mask" (B, rows, columns), see ``docs/pretraining-draws.md``.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from backbones.base.errors import UserError
from backbones.features import Backbone
from backbones.spec import BackboneSpec, BuildOptions
from backbones.timm_networks.beit import BeitBackbone
from backbones.timm_networks.families import SwinBackbone
from backbones.training.objective import Batch, Objective
from backbones.vit.positions import Grid
from pretrain.config import PretrainConfig, PretrainDataConfig
from pretrain.method import Method
from pretrain.parts.masked.masking import draw_squares
from pretrain.parts.masked.official_simmim import beit_buffers, beit_name, swin_buffers, swin_name
from pretrain.parts.masked.patches import check_grid
from pretrain.parts.masked.substitution import encode_substituted, patch_projection
from pretrain.parts.masked.tokens import TOKEN_STD
from pretrain.parts.official import from_official, to_official, weights_of
from pretrain.parts.views.crop import draw_crop
from pretrain.recipes.simmim import SimMIMConfig

_EPS = 1e-5  # microsoft/SimMIM models/simmim.py: added to the number of masked pixels


@dataclass(frozen=True)
class SimMIMViews:
    """A crop and the mask of its squares.

    Attributes:
        data: Crop.
        config: Mask ratio.
        grid: Rows and columns of squares.
    """

    data: PretrainDataConfig
    config: SimMIMConfig
    grid: Grid

    def __call__(self, image: Image.Image, generator: torch.Generator) -> dict[str, Tensor]:
        """Return "image" (3, H, W) uint8 and "mask" (rows, columns) bool; see ``Views``."""
        resample = Image.Resampling.BILINEAR  # torchvision's default, which SimMIM keeps
        return {
            "image": draw_crop(image, self.data, "crop", generator, resample),
            "mask": draw_squares(self.grid, self.config.mask_ratio, generator),
        }


class SimMIMObjective(Objective):
    """A whole backbone that sees masked tokens, a linear head, the L1 error of the masked pixels.

    Attributes:
        mask_token: (1, 1, channels), takes the place of masked patch embeddings.
        head: A convolution of 1 x 1 from a cell of the last map to its stride**2 * 3 pixels,
            channels slowest (the input order of ``pixel_shuffle``).
    """

    def __init__(self, backbone: Backbone, config: SimMIMConfig) -> None:
        """Add fresh token and head.

        Args:
            backbone: A Swin, a BEiT or a plain ViT.
            config: SimMIM's section.

        Raises:
            UserError: It is some other backbone.
        """
        super().__init__()
        self.backbone = backbone
        projection = patch_projection(backbone)
        if isinstance(backbone, BeitBackbone) and config.share_bias_tables:
            for i in range(1, len(backbone.bias_tables)):
                backbone.bias_tables[i] = backbone.bias_tables[0]
        self.mask_token = nn.Parameter(torch.zeros(1, 1, projection.out_channels))
        nn.init.trunc_normal_(self.mask_token, std=TOKEN_STD)
        self.head = nn.Conv2d(backbone.channels[-1], 3 * backbone.strides[-1] ** 2, kernel_size=1)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return "reconstruction": mean absolute error of masked pixels; see ``Objective``."""
        images = batch["image"]
        mask = _enlarge(batch["mask"], images.shape[-2:])
        error = (self._reconstruct(images, batch["mask"]).to(images.dtype) - images).abs()
        masked = mask[:, None].to(error.dtype)
        loss = (error * masked).sum() / (masked.sum() + _EPS) / images.shape[1]
        return {"reconstruction": loss}

    def no_weight_decay(self) -> frozenset[str]:
        """Return the mask token for Swin, and nothing for ViT, as the official trainer does.

        It means to spare tables of relative positions too, but asks for them by a name that they
        do not bear in pretraining (microsoft/SimMIM, models/simmim.py).
        """
        return frozenset({"mask_token"} if isinstance(self.backbone, SwinBackbone) else ())

    @torch.no_grad()
    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Return input, masked and reconstructed images; see ``Objective``."""
        images = batch["image"]
        mask = _enlarge(batch["mask"], images.shape[-2:])[:, None]
        rebuilt = self._reconstruct(images, batch["mask"]).to(images.dtype)
        grey = images.masked_fill(mask, 0.0)  # normalised images: 0 is the mean colour
        shown = torch.stack([images, grey, torch.where(mask, rebuilt, images)], dim=1)
        return {"input, masked, reconstructed": shown}

    def official_state(self) -> dict[str, Tensor]:
        """Return all weights under the names of microsoft/SimMIM's pretraining model.

        Raises:
            UserError: SimMIM has no such backbone.
        """
        if isinstance(self.backbone, SwinBackbone):
            return to_official(self, swin_name) | swin_buffers(self.backbone)
        return to_official(self, beit_name) | beit_buffers(self._shared_beit())

    def load_official(self, content: Mapping[str, Any]) -> None:
        """Take over an official pretraining checkpoint, encoder and head.

        Args:
            content: The file's; weights under "model", or bare.

        Raises:
            UserError: SimMIM has no such backbone.
            PreflightError: It does not fit, tensor for tensor.
        """
        computed = re.compile(r"\.(relative_position_index|attn_mask)$")
        state = {k: v for k, v in weights_of(content).items() if not computed.search(k)}
        if isinstance(self.backbone, SwinBackbone):
            from_official(self, state, swin_name)
        else:
            self._shared_beit()
            from_official(self, state, beit_name)

    def _shared_beit(self) -> BeitBackbone:
        backbone = self.backbone
        if isinstance(backbone, BeitBackbone):
            first, *others = backbone.bias_tables
            if all(table is first for table in others):
                return backbone
        raise UserError(
            "microsoft/SimMIM has checkpoints of Swin and of BEiT with one shared table of "
            f"relative positions alone, not of this {type(backbone).__name__}."
        )

    def _reconstruct(self, images: Tensor, mask: Tensor) -> Tensor:
        """Return all pixels as predicted, (B, 3, H, W)."""
        stride = self.backbone.strides[0]
        height, width = images.shape[-2:]
        check_grid(height, width, self.backbone.strides[-1])
        tokens = _enlarge(mask, (height // stride, width // stride))
        last = encode_substituted(self.backbone, images, tokens, self.mask_token)
        return F.pixel_shuffle(self.head(last), self.backbone.strides[-1])


def _enlarge(mask: Tensor, size: tuple[int, ...]) -> Tensor:
    """Repeat the cells of (B, rows, columns) to (B, *size), of which they are whole shares."""
    rows, columns = mask.shape[1:]
    if size[0] % rows or size[1] % columns:
        raise ValueError(f"a mask of {rows} x {columns} cells does not divide {size}")
    tall = mask.bool().repeat_interleave(size[0] // rows, dim=1)
    return tall.repeat_interleave(size[1] // columns, dim=2)


def _build(spec: BackboneSpec, config: PretrainConfig) -> SimMIMObjective:
    assert isinstance(config.model, SimMIMConfig)
    _views(spec, config)
    options = BuildOptions(img_size=config.data.img_size, drop_path=config.model.drop_path)
    return SimMIMObjective(spec.build(options), config.model)


def _views(spec: BackboneSpec, config: PretrainConfig) -> SimMIMViews:
    assert isinstance(config.model, SimMIMConfig)
    size, square = config.data.img_size, config.model.square_size
    check_grid(size, size, spec.strides[-1])
    if square % spec.strides[0] or size % square:
        raise UserError(
            f"model.square_size {square} must be a multiple of {spec.name}'s patches of "
            f"{spec.strides[0]} pixels and divide data.img_size {size}."
        )
    return SimMIMViews(config.data, config.model, (size // square, size // square))


METHOD = Method("simmim", SimMIMConfig, _build, _views)
