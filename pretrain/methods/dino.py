"""DINO: self-distillation with no labels (Caron et al. 2021), section 3.

Draws in a batch: none but the crops themselves, see ``docs/pretraining-draws.md``.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from backbones.spec import BackboneSpec
from backbones.training.objective import Batch
from pretrain.config import PretrainConfig
from pretrain.method import Method
from pretrain.parts.distilled.crop_pictures import show_crops
from pretrain.parts.distilled.distillation import SelfDistillation, build_branches
from pretrain.parts.distilled.multicrop import MultiCropViews
from pretrain.parts.distilled.official_distillation import (
    dino_name,
    distillation_state,
    load_distillation,
)
from pretrain.recipes.dino import DINOConfig


class DINOObjective(SelfDistillation):
    """Every crop of the student against both global crops of the teacher, but itself."""

    @torch.no_grad()
    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Return the crops; see ``Objective``."""
        return {"global and local crops": show_crops(batch)}

    def official_state(self) -> dict[str, Any]:
        """Return student, teacher and centre as facebookresearch/dino saves them."""
        return distillation_state(self, dino_name)

    def load_official(self, content: Mapping[str, Any]) -> None:
        """Take over an official full checkpoint.

        Args:
            content: The file's, with "student" and "teacher".

        Raises:
            PreflightError: It does not fit, tensor for tensor.
        """
        load_distillation(self, content, dino_name)


def _build(spec: BackboneSpec, config: PretrainConfig) -> DINOObjective:
    assert isinstance(config.model, DINOConfig)
    student, teacher = build_branches(spec, config, regions=False)
    return DINOObjective(student, teacher, config.model)


def _views(spec: BackboneSpec, config: PretrainConfig) -> MultiCropViews:
    del spec
    assert isinstance(config.model, DINOConfig)
    return MultiCropViews(config.data, config.model)


METHOD = Method("dino", DINOConfig, _build, _views)
