"""MAE as its formulas read, of timm's blocks and plain operators: what our step is compared with.

Attention is written out, every patch is predicted, tokens are gathered in their order and back (He
et al. 2022, section 3). Modules bear the names of facebookresearch/mae, so that weights go over.
"""

from functools import partial

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from backbones.training.objective import Batch
from pretrain.config import PretrainConfig
from pretrain.methods.mae import MAEObjective

_EPS = 1e-6  # of norms and of normalised targets, as in the official code


class PlainMAE(nn.Module):
    """Encoder, decoder and loss, with the weights of one of our objectives."""

    def __init__(self, objective: MAEObjective, config: PretrainConfig) -> None:
        """Take over the weights.

        Args:
            objective: Ours, of the paper's kind: random masks, normalised pixels.
            config: Its recipe.
        """
        super().__init__()
        shape, model = objective.backbone.config, objective.config
        self.patch, self.keep = shape.patch_size, 1 - model.mask_ratio
        side = config.data.img_size // self.patch
        wide, narrow = shape.embed_dim, model.decoder_dim
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, wide, self.patch, self.patch)})
        self.cls_token = nn.Parameter(torch.zeros(1, 1, wide))
        self.pos_embed = nn.Parameter(torch.zeros(1, side * side + 1, wide), requires_grad=False)
        self.blocks = _blocks(shape.num_layers, wide, shape.num_heads)
        self.norm = nn.LayerNorm(wide, eps=_EPS)
        self.decoder_embed = nn.Linear(wide, narrow)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, narrow))
        places = torch.zeros(1, side * side + 1, narrow)
        self.decoder_pos_embed = nn.Parameter(places, requires_grad=False)
        self.decoder_blocks = _blocks(model.decoder_layers, narrow, model.decoder_heads)
        self.decoder_norm = nn.LayerNorm(narrow, eps=_EPS)
        self.decoder_pred = nn.Linear(narrow, self.patch**2 * 3)
        self.load_state_dict(objective.official_state())
        self.to(next(objective.parameters()).dtype)

    def forward(self, batch: Batch) -> Tensor:
        """Return the mean error of masked patches, from "image" and "noise"."""
        images, noise = batch["image"], batch["noise"]
        tokens = self.patch_embed["proj"](images).flatten(2).mT + self.pos_embed[:, 1:]
        count, length, wide = tokens.shape
        kept = int(length * self.keep)
        order = noise.argsort(dim=1)
        back = order.argsort(dim=1)
        visible = tokens.gather(1, order[:, :kept, None].expand(-1, -1, wide))
        first = (self.cls_token + self.pos_embed[:, :1]).expand(count, -1, -1)
        x = self.decoder_embed(self.norm(self.blocks(torch.cat([first, visible], dim=1))))
        masks = self.mask_token.expand(count, length - kept, -1)
        y = torch.cat([x[:, 1:], masks], dim=1)
        y = y.gather(1, back[:, :, None].expand(-1, -1, y.shape[-1]))
        y = torch.cat([x[:, :1], y], dim=1) + self.decoder_pos_embed
        predicted = self.decoder_pred(self.decoder_norm(self.decoder_blocks(y)))[:, 1:]
        error = (predicted - self._targets(images)).square().mean(dim=-1)
        masked = back >= kept
        loss: Tensor = (error * masked).sum() / masked.sum()
        return loss

    def after_update(self) -> None:
        """Do nothing: there is no teacher."""

    def _targets(self, images: Tensor) -> Tensor:
        count, _, height, width = images.shape
        cut = images.view(count, 3, height // self.patch, self.patch, width // self.patch, -1)
        patches = cut.permute(0, 2, 4, 3, 5, 1).reshape(count, -1, self.patch**2 * 3)
        spread = patches.var(dim=-1, keepdim=True) + _EPS
        return (patches - patches.mean(dim=-1, keepdim=True)) / spread.sqrt()


def _blocks(count: int, dim: int, heads: int) -> nn.Sequential:
    blocks = [
        Block(dim, heads, qkv_bias=True, norm_layer=partial(nn.LayerNorm, eps=_EPS))
        for _ in range(count)
    ]
    for block in blocks:
        block.attn.fused_attn = False
    return nn.Sequential(*blocks)
