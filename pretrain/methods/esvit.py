"""EsViT: self-distillation of views and of regions (Li et al. 2022), section 3.

Draws in a batch: none but the crops themselves, see ``docs/pretraining-draws.md``.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from backbones.base.errors import UserError
from backbones.spec import BackboneSpec
from backbones.timm_networks.families import SwinBackbone
from backbones.training.objective import Batch, Moment
from pretrain.config import PretrainConfig
from pretrain.method import Method
from pretrain.parts.distilled.crop_pictures import show_crops, show_matches
from pretrain.parts.distilled.distillation import (
    DistillationBranch,
    SelfDistillation,
    build_branches,
)
from pretrain.parts.distilled.matching import Crops, pair_regions
from pretrain.parts.distilled.multicrop import MultiCropViews
from pretrain.parts.distilled.official_distillation import (
    distillation_state,
    esvit_name,
    load_distillation,
)
from pretrain.recipes.esvit import EsViTConfig


class EsViTObjective(SelfDistillation):
    """DINO's loss, and the same between each region and the teacher's region most similar to it."""

    config: EsViTConfig

    def __init__(
        self, student: DistillationBranch, teacher: DistillationBranch, config: EsViTConfig
    ) -> None:
        """See ``SelfDistillation``."""
        super().__init__(student, teacher, config)

    def begin_step(self, moment: Moment) -> None:
        """Set the teacher's temperature, and which losses are computed.

        Before regions join in, the loss of views has the weight 1 (microsoft/esvit
        main_esvit.py: without dense prediction it is DINO's).
        """
        super().begin_step(moment)
        config = self.config
        both = {"view": config.view_weight, "region": config.region_weight}
        waits = self.student.region_head is None or moment.epoch < config.region_start_epoch
        self.weights = {"view": 1.0} if waits else both

    def may_start_fresh(self) -> tuple[str, ...]:
        """Return what a training on views alone has not: region heads and their centre."""
        return ("student.region_head.*", "teacher.region_head.*", "region_center")

    @torch.no_grad()
    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Return the crops and, with region heads, matching regions; see ``Objective``."""
        shown = {"global and local crops": show_crops(batch)}
        if self.student.region_head is None:
            return shown
        large = batch["global"]
        (_, student), (_, teacher) = (
            branch(large, regions=True) for branch in (self.student, self.teacher)
        )
        crops = Crops(num_global=large.shape[1], num_local=0, global_rows=student.shape[2])
        pairs = pair_regions(crops, student.flatten(1, 2), teacher.flatten(1, 2))
        # The first crop's regions come first, and are paired with the second crop.
        match = pairs.match[:, : crops.global_rows] - crops.global_rows
        stride = self.backbone.strides[-1]
        shown["regions of the student, and those of the teacher most similar"] = show_matches(
            large, match, stride
        )
        return shown

    def official_state(self) -> dict[str, Any]:
        """Return student, teacher and centres as microsoft/esvit saves them.

        Raises:
            UserError: The backbone is no Swin.
        """
        self._check_layout()
        return distillation_state(self, esvit_name)

    def load_official(self, content: Mapping[str, Any]) -> None:
        """Take over an official full checkpoint; one of views alone leaves region heads fresh.

        Args:
            content: The file's, with "student" and "teacher".

        Raises:
            UserError: The backbone is no Swin.
            PreflightError: It does not fit, tensor for tensor.
        """
        self._check_layout()
        load_distillation(self, content, esvit_name)

    def _check_layout(self) -> None:
        if not isinstance(self.backbone, SwinBackbone):
            raise UserError(
                "The layout of microsoft/esvit's full checkpoints is known for Swin alone, not "
                f"for this {type(self.backbone).__name__}."
            )


def _build(spec: BackboneSpec, config: PretrainConfig) -> EsViTObjective:
    assert isinstance(config.model, EsViTConfig)
    student, teacher = build_branches(spec, config, regions=config.model.region_weight > 0)
    return EsViTObjective(student, teacher, config.model)


def _views(spec: BackboneSpec, config: PretrainConfig) -> MultiCropViews:
    del spec
    assert isinstance(config.model, EsViTConfig)
    return MultiCropViews(config.data, config.model)


METHOD = Method("esvit", EsViTConfig, _build, _views)
