"""Rotation prediction: by which of four quarter turns is the image turned?"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from backbones.features import Backbone
from backbones.spec import BackboneSpec, BuildOptions
from backbones.training.objective import Batch, Objective
from pretrain.config import PretrainConfig, PretrainDataConfig
from pretrain.method import Method
from pretrain.parts.distilled.regions import pooled_channels
from pretrain.parts.views.crop import draw_crop
from pretrain.recipes.rotation import RotationConfig


@dataclass(frozen=True)
class RotationViews:
    """A crop, turned. Every draw comes from the generator and goes into the batch."""

    data: PretrainDataConfig

    def __call__(self, image: Image.Image, generator: torch.Generator) -> dict[str, Tensor]:
        """Return "image" (3, H, W) uint8 and "turns" () int64, 0 to 3."""
        turns = torch.randint(4, (), generator=generator)
        pixels = draw_crop(image, self.data, "crop", generator)
        return {"image": torch.rot90(pixels, int(turns), dims=(1, 2)).contiguous(), "turns": turns}


class RotationObjective(Objective):
    """A backbone and a linear classifier of four turns."""

    def __init__(self, backbone: Backbone) -> None:
        """Make the classifier fresh."""
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(pooled_channels(backbone), 4)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return "turns": the cross-entropy, a mean over the batch."""
        logits = self.head(self.backbone(batch["image"]).pooled)
        return {"turns": F.cross_entropy(logits, batch["turns"])}

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Return the images as they are seen, (B, 1, 3, H, W)."""
        return {"as seen": batch["image"][:, None]}


def _build(spec: BackboneSpec, config: PretrainConfig) -> RotationObjective:
    assert isinstance(config.model, RotationConfig)
    options = BuildOptions(img_size=config.data.img_size, drop_path=config.model.drop_path)
    return RotationObjective(spec.build(options))


def _views(spec: BackboneSpec, config: PretrainConfig) -> RotationViews:
    del spec
    return RotationViews(config.data)


METHOD = Method("rotation", RotationConfig, _build, _views)
