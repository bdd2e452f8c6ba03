"""Global and local crops of an image, distorted each in its own way.

Draws in a batch: "global" (B, 2, 3, H, W) and, with local crops, "local" (B, L, 3, h, w).
"""

from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor

from pretrain.config import PretrainDataConfig
from pretrain.distillation_config import DistillationConfig
from pretrain.parts.views.crop import draw_view
from pretrain.parts.views.photometric import DINO_GLOBAL_1, DINO_GLOBAL_2, DINO_LOCAL


@dataclass(frozen=True)
class MultiCropViews:
    """Two global crops and some local ones.

    Attributes:
        data: Global crops.
        config: Local crops.
    """

    data: PretrainDataConfig
    config: DistillationConfig

    def __call__(self, image: Image.Image, generator: torch.Generator) -> dict[str, Tensor]:
        """Return "global" (2, 3, H, W) and "local" (L, 3, h, w), uint8; see ``Views``."""
        config = self.config
        first, second, local = (
            replace(
                photometric,
                jitter=config.jitter,
                grey_probability=config.grey_probability,
                blur_radius=config.blur_radius,
            )
            for photometric in (DINO_GLOBAL_1, DINO_GLOBAL_2, DINO_LOCAL)
        )
        large = [
            draw_view(image, self.data, photometric, generator) for photometric in (first, second)
        ]
        near = replace(self.data, img_size=config.local_size, crop_scale=config.local_scale)
        small = [draw_view(image, near, local, generator) for _ in range(config.num_local_crops)]
        views = {"global": torch.stack(large)}
        return views | {"local": torch.stack(small)} if small else views
