"""EsViT as its formulas read, of timm's Swin and plain operators: what our step is compared with.

Attention is timm's own, all logits exist at once, losses go crop by crop, clipping and the teacher
tensor by tensor (Li et al. 2022, section 3; Caron et al. 2021, algorithm 1).
"""

from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from timm.models.swin_transformer import SwinTransformerBlock
from torch import Tensor, nn

from backbones.training.objective import Batch
from pretrain.config import PretrainConfig
from pretrain.methods.esvit import EsViTObjective
from pretrain.parts.distilled.distillation import DistillationBranch
from pretrain.parts.distilled.projection_head import ProjectionHead


class PlainEsViT(nn.Module):
    """Student, teacher and losses, with the very modules of one of our objectives."""

    def __init__(self, objective: EsViTObjective, config: PretrainConfig) -> None:
        """Take over the weights, and give the networks timm's blocks back.

        Args:
            objective: Ours, on a Swin; not to be used any more.
            config: Its recipe.
        """
        super().__init__()
        del config
        self.student, self.teacher = objective.student, objective.teacher
        self.config = objective.config
        self.with_regions = objective.student.region_head is not None
        for module in self.modules():
            if isinstance(module, SwinTransformerBlock):
                module.__class__ = SwinTransformerBlock
        self.centers = [objective.view_center.clone()]
        if objective.region_center is not None:
            self.centers.append(objective.region_center.clone())

    def forward(self, batch: Batch) -> Tensor:
        """Return the weighted sum of the losses, from "global" and "local"."""
        model = self.config
        large = list(batch["global"].unbind(1))
        small = list(batch["local"].unbind(1)) if "local" in batch else []
        with torch.no_grad():
            taught = self._see(self.teacher, [large])
        seen = self._see(self.student, [large, small])
        goals = [
            [((logits - center) / model.teacher_temperature).softmax(dim=-1) for logits in level]
            for level, center in zip(taught[1:], self.centers, strict=True)
        ]
        views, regions, pairs = [], [], 0
        for mine, other in product(range(len(large)), range(len(large) + len(small))):
            if mine == other:
                continue
            pairs += 1
            views.append(self._distance(goals[0][mine], seen[1][other]))
            if self.with_regions:
                with torch.no_grad():
                    like = (
                        F.normalize(seen[0][other], dim=-1)
                        @ F.normalize(taught[0][mine], dim=-1).mT
                    )
                    best = like.argmax(dim=2, keepdim=True)
                goal = goals[1][mine].gather(1, best.expand(-1, -1, goals[1][mine].shape[-1]))
                regions.append(self._distance(goal, seen[2][other]))
        self._follow(taught[1:])
        loss = torch.stack(views).sum() / pairs
        if not regions:
            return loss
        return model.view_weight * loss + model.region_weight * torch.stack(regions).sum() / pairs

    @torch.no_grad()
    def after_update(self) -> None:
        """Move the teacher towards the student."""
        momentum = self.config.momentum
        pairs = zip(self.teacher.parameters(), self.student.parameters(), strict=True)
        for theirs, ours in pairs:
            theirs.mul_(momentum).add_((1 - momentum) * ours)

    def _see(self, branch: DistillationBranch, groups: list[list[Tensor]]) -> list[list[Tensor]]:
        """Return, crop by crop, regions (B, N, C), logits of views and, if wanted, of regions."""
        net: Any = branch.backbone.net
        cells: list[Tensor] = []
        for crops in groups:
            if crops:
                maps: Tensor = net.forward_features(torch.cat(crops))
                cells += maps.flatten(1, 2).chunk(len(crops))
        pooled = torch.cat([crop.mean(dim=1) for crop in cells])
        found = [cells, list(_logits(branch.head, pooled).chunk(len(cells)))]
        if branch.region_head is not None:
            rows = torch.cat([crop.flatten(0, 1) for crop in cells])
            sizes = [crop.shape[0] * crop.shape[1] for crop in cells]
            parts = torch.split(_logits(branch.region_head, rows), sizes)
            shaped = zip(parts, cells, strict=True)
            found.append([part.view(*crop.shape[:2], -1) for part, crop in shaped])
        return found

    def _distance(self, goal: Tensor, logits: Tensor) -> Tensor:
        """Return the mean cross-entropy."""
        found = (logits / self.config.student_temperature).log_softmax(dim=-1)
        return -(goal * found).sum(dim=-1).mean()

    @torch.no_grad()
    def _follow(self, taught: list[list[Tensor]]) -> None:
        for index, level in enumerate(taught):
            mean = torch.cat(level).flatten(0, -2).mean(dim=0)
            kept = self.config.center_momentum
            self.centers[index] = self.centers[index] * kept + mean * (1 - kept)


def _logits(head: ProjectionHead, features: Tensor) -> Tensor:
    return F.linear(head(features), head.last_layer())
