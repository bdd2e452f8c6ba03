"""Supervised classification with today's augmentation, the baseline of all pretraining.

Cross-entropy as in DeiT (Touvron et al. 2021, section 6). Draws in a batch: "share" (B,) and "box"
(B, 4), see ``docs/pretraining-draws.md``.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from timm.data.auto_augment import rand_augment_transform
from torch import Tensor, nn

from backbones.base.errors import UserError
from backbones.features import Backbone
from backbones.spec import BackboneSpec, BuildOptions
from backbones.training.objective import Batch, Objective
from pretrain.config import PretrainConfig, PretrainDataConfig
from pretrain.method import Method
from pretrain.parts.distilled.regions import pooled_channels
from pretrain.parts.views.crop import draw_box, draw_crop
from pretrain.parts.views.mixing import draw_mixing, mirrored, mix
from pretrain.parts.views.photometric import happens
from pretrain.recipes.supervised import SupervisedConfig

_HEAD_STD = 0.02  # timm's and DeiT's truncated normal
# Share and ratio of the erased rectangle: Zhong et al. 2020, section 4; timm data/random_erasing.py
_ERASED = PretrainDataConfig(crop_scale=(0.02, 1 / 3), crop_ratio=(0.3, 1 / 0.3))


@dataclass(frozen=True)
class SupervisedViews:
    """A crop, distorted, and the draws that mix it with another.

    Attributes:
        data: Crop.
        config: Augmentation.
        mean: Of pixels, by channel, as shares of 255.
        std: Their deviation, likewise.
        operations: RandAugment's choice; empty without it.
    """

    data: PretrainDataConfig
    config: SupervisedConfig
    mean: tuple[float, ...]
    std: tuple[float, ...]
    operations: tuple[Any, ...] = field(init=False)

    def __post_init__(self) -> None:
        config, operations = self.config, []
        if config.rand_magnitude and config.rand_operations:
            fill = tuple(round(255 * value) for value in self.mean)
            policy = f"rand-m{config.rand_magnitude}-mstd{config.rand_magnitude_std:g}-inc1"
            operations = rand_augment_transform(policy, {"img_mean": fill}).ops
        object.__setattr__(self, "operations", tuple(operations))

    def __call__(self, image: Image.Image, generator: torch.Generator) -> dict[str, Tensor]:
        """Return "image" (3, H, W) uint8, "share" () and "box" (4,); see ``Views``."""
        config, size = self.config, self.data.img_size
        pixels = draw_crop(image, self.data, "crop", generator)
        if self.operations:
            pixels = self._distort(pixels, generator)
        if happens(config.erase, generator):
            pixels = self._erase(pixels, generator)
        return {"image": pixels, **draw_mixing(config.mixup, config.cutmix, size, generator)}

    def _distort(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """Apply some of RandAugment's operations (Cubuk et al. 2020), as in timm, to (3, H, W)."""
        count = (self.config.rand_operations,)
        drawn = torch.randint(len(self.operations), count, generator=generator).tolist()
        with _seeded(int(torch.randint(2**62, (), generator=generator))):
            image = Image.fromarray(pixels.permute(1, 2, 0).numpy())
            for number in drawn:
                image = self.operations[number](image)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()

    def _erase(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """Fill a rectangle of (3, H, W) pixels with noise as bright and as varied as images are."""
        height, width = pixels.shape[1:]
        left, top, right, bottom = draw_box(width, height, _ERASED, generator)
        noise = torch.randn(3, bottom - top, right - left, generator=generator)
        mean, std = (torch.tensor(values)[:, None, None] for values in (self.mean, self.std))
        filled = pixels.clone()
        filled[:, top:bottom, left:right] = (255 * (mean + std * noise)).round().clamp(0, 255)
        return filled


class SupervisedObjective(Objective):
    """A backbone and a linear classifier.

    Attributes:
        head: On vectors that ``classify`` makes of images.
    """

    def __init__(
        self,
        backbone: Backbone,
        head: nn.Linear,
        config: SupervisedConfig,
        head_std: float = _HEAD_STD,
    ) -> None:
        """Make the head fresh.

        Args:
            backbone: Any.
            head: From vectors to classes.
            config: Label smoothing.
            head_std: Of the truncated normal that its weights are drawn from.
        """
        super().__init__()
        self.backbone = backbone
        self.config = config
        self.head = head
        nn.init.trunc_normal_(self.head.weight, std=head_std)
        nn.init.zeros_(self.head.bias)
        self._top1 = torch.zeros(())

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return "classes": the cross-entropy of both labels of mixed images; see ``Objective``."""
        partners = mirrored(len(batch["image"]), self.part, batch["image"].device)
        images, own = mix(batch["image"], batch["share"], batch["box"], partners)
        label, other = batch["label"], batch["label"][partners]
        logits = self.classify(images)
        self._top1 = 100 * (logits.detach().argmax(dim=1) == torch.where(own >= 0.5, label, other))
        loss = own * self._entropy(logits, label) + (1 - own) * self._entropy(logits, other)
        return {"classes": loss.mean()}

    def classify(self, images: Tensor) -> Tensor:
        """Return the logits of normalised images, (B, num_classes)."""
        logits: Tensor = self.head(self.backbone(images).pooled)
        return logits

    def no_weight_decay(self) -> frozenset[str]:
        """Return what the backbone spares: tokens, tables of positions."""
        return frozenset(f"backbone.{name}" for name in self.backbone.no_weight_decay())

    def metrics(self) -> dict[str, Tensor]:
        """Return "top1", in percent: how often the label with the larger part is found."""
        return {"top1": self._top1.float().mean()}

    @torch.no_grad()
    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Return the images as they are seen; see ``Objective``."""
        return {"as seen": mix(batch["image"], batch["share"], batch["box"])[0][:, None]}

    def _entropy(self, logits: Tensor, label: Tensor) -> Tensor:
        """Return the smoothed cross-entropy of (B, C) logits with (B,) labels, (B,)."""
        smoothing = self.config.label_smoothing
        return F.cross_entropy(logits, label, label_smoothing=smoothing, reduction="none")


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed Python's generator, from which timm draws, and put its state back."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


def _build(spec: BackboneSpec, config: PretrainConfig) -> SupervisedObjective:
    assert isinstance(config.model, SupervisedConfig)
    if config.data.num_classes < 1:
        raise UserError("supervised needs data.num_classes, or images with classes to count.")
    options = BuildOptions(img_size=config.data.img_size, drop_path=config.model.drop_path)
    backbone = spec.build(options)
    head = nn.Linear(pooled_channels(backbone), config.data.num_classes)
    return SupervisedObjective(backbone, head, config.model)


def _views(spec: BackboneSpec, config: PretrainConfig) -> SupervisedViews:
    assert isinstance(config.model, SupervisedConfig)
    return SupervisedViews(config.data, config.model, spec.mean, spec.std)


METHOD = Method("supervised", SupervisedConfig, _build, _views, needs_classes=True)
