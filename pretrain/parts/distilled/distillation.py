"""Self-distillation: a student learns, view by view, what its own running mean says of others."""

from dataclasses import replace

import torch
from fvcore.common.param_scheduler import CosineParamScheduler
from torch import Tensor, nn

from backbones.base.distributed import mean_over_ranks
from backbones.features import Backbone
from backbones.spec import BackboneSpec, BuildOptions
from backbones.training.objective import Batch, Moment, Objective
from backbones.training.schedules import warm_temperature
from backbones.vit.network import VisionTransformer
from backbones.vit.positions_rule import NUDGED
from pretrain.config import PretrainConfig
from pretrain.distillation_config import DistillationConfig
from pretrain.parts.distilled.matching import Crops, pair_regions, pair_views
from pretrain.parts.distilled.projection_head import ProjectionHead
from pretrain.parts.distilled.prototype_loss import Agreement, Pairs, Targets, prototype_loss
from pretrain.parts.distilled.regions import encode_regions, pooled_channels

# Names of a loss's head in the branches, and of its centre in the objective.
_HEADS = {"view": "head", "region": "region_head"}

_CENTERS = {"view": "view_center", "region": "region_center"}


class DistillationBranch(nn.Module):
    """Student or teacher.

    Attributes:
        backbone: Sees crops.
        head: On pooled features.
        region_head: On regions; None without region loss.
    """

    region_head: ProjectionHead | None

    def __init__(
        self, backbone: Backbone, channels: int, config: DistillationConfig, *, regions: bool
    ) -> None:
        """Add fresh heads.

        Args:
            backbone: Of either layout.
            channels: Of its last map.
            config: Says how heads are made.
            regions: Whether there is a region head.
        """
        super().__init__()
        self.backbone = backbone
        self.head = ProjectionHead(pooled_channels(backbone), config)
        self.region_head = ProjectionHead(channels, config) if regions else None

    def forward(self, crops: Tensor, *, regions: bool) -> tuple[Tensor, Tensor | None]:
        """Return features of crops of one size.

        Args:
            crops: (B, V, 3, H, W).
            regions: Whether regions are wanted.

        Returns:
            Pooled (B, V, D), and regions (B, V, N, C) or None.
        """
        images = crops.flatten(0, 1)
        if not regions:
            return _by_image(self.backbone(images).pooled, crops), None
        pooled, cells = encode_regions(self.backbone, images)
        return _by_image(pooled, crops), _by_image(cells, crops)

    def head_of(self, loss: str) -> ProjectionHead:
        """Return the head behind the loss "view" or "region"."""
        head: ProjectionHead = getattr(self, _HEADS[loss])
        return head


class SelfDistillation(Objective):
    """Student and teacher, centres, the loss of views and, if asked for, that of regions.

    Attributes:
        student: Trained by gradients; sees all crops.
        teacher: Running mean of the student; sees the global crops.
        view_center: (K,), running mean of the teacher's logits of views.
        region_center: (K,), of regions; None without region heads.
        teacher_temperature: Of the step; ``begin_step`` sets it.
        weights: Of the losses that are computed in the step, "view" and perhaps "region".
    """

    view_center: Tensor
    region_center: Tensor | None

    def __init__(
        self, student: DistillationBranch, teacher: DistillationBranch, config: DistillationConfig
    ) -> None:
        """Make the teacher equal to the student.

        Args:
            student: Freshly built.
            teacher: Of the same shape.
            config: Temperatures, momenta.
        """
        super().__init__()
        self.config = config
        self.student = student
        self.teacher = teacher
        teacher.load_state_dict(student.state_dict())
        teacher.requires_grad_(False)
        center = torch.zeros(config.num_prototypes)
        with_regions = student.region_head is not None
        self.register_buffer("view_center", center)
        self.register_buffer("region_center", center.clone() if with_regions else None)
        self.weights: dict[str, float] = {"view": 1.0}
        self.teacher_temperature = config.warmup_teacher_temperature
        self._momentum = CosineParamScheduler(config.momentum, 1.0)
        self._means: dict[str, list[Tensor]] = {name: [] for name in _HEADS}
        self._found: dict[str, Agreement] = {}
        self.begin_step(Moment(0, 1, 0.0))

    @property
    def backbone(self) -> Backbone:  # type: ignore[override]
        """The teacher's or the student's, as the config says."""
        branch = self.teacher if self.config.saved == "teacher" else self.student
        return branch.backbone

    def encoders(self) -> tuple[Backbone, ...]:
        """Return the backbones of student and teacher; see ``Objective``."""
        return self.student.backbone, self.teacher.backbone

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return "view" and, with region heads, "region", weighted; see ``Objective``.

        Args:
            batch: "global" (B, 2, 3, H, W) and, where there are local crops, "local"
                (B, L, 3, h, w).
        """
        large, small = batch["global"], batch.get("local")
        wanted = "region" in self.weights
        with torch.no_grad():
            taught, taught_regions = self.teacher(large, regions=wanted)
        sizes = [large] if small is None else [large, small]
        found = [self.student(crops, regions=wanted) for crops in sizes]
        pooled = torch.cat([views for views, _ in found], dim=1)
        crops = Crops(large.shape[1], pooled.shape[1] - large.shape[1])
        losses = {"view": self._loss("view", pooled, taught, pair_views(crops, pooled))}
        if taught_regions is not None:
            parts = [regions for _, regions in found if regions is not None]
            crops = replace(crops, global_rows=parts[0].shape[2], local_rows=parts[-1].shape[2])
            regions = torch.cat([part.flatten(1, 2) for part in parts], dim=1)
            targets = taught_regions.flatten(1, 2)
            pairs = pair_regions(crops, regions, targets)
            losses["region"] = self._loss("region", regions, targets, pairs)
        elif self.student.region_head is not None:
            losses["region"] = _touch(self.student.region_head)
        return losses

    def metrics(self) -> dict[str, Tensor]:
        """Return what the last loss of views, and of regions, is made of, both in nats.

        "view_entropy" is the teacher's: ln K where it prefers no prototype, 0 where it knows but
        one. "view_divergence" is how far the student's distribution is from the teacher's, and
        all that gradients can lower; unweighted, they add up to the loss. Regions that wait have
        zeros, as their loss has.
        """
        values: dict[str, Tensor] = {}
        for name, head in _HEADS.items():
            if getattr(self.student, head) is not None:
                loss, entropy = self._found.get(name) or (self.view_center.new_zeros(()),) * 2
                values |= {f"{name}_entropy": entropy, f"{name}_divergence": loss - entropy}
        return values

    def begin_step(self, moment: Moment) -> None:
        """Set the teacher's temperature."""
        config = self.config
        self.teacher_temperature = warm_temperature(
            config.warmup_teacher_temperature,
            config.teacher_temperature,
            config.warmup_teacher_epochs,
            moment.epoch,
        )

    def before_update(self, moment: Moment) -> None:
        """Drop gradients: of the prototypes in the first epochs, of a head that waits."""
        if int(moment.epoch) < self.config.freeze_last_layer_epochs:
            for name in self.weights:
                _drop_gradients(self.student.head_of(name).last_layer)
        if "region" not in self.weights and self.student.region_head is not None:
            _drop_gradients(self.student.region_head)

    @torch.no_grad()
    def after_update(self, moment: Moment) -> None:
        """Move the centres by this step's logits, then the teacher towards the student.

        The mean of logits is the logit of the mean; so the teacher's mean unit vector is all
        that has to be kept and agreed on.
        """
        for name in self.weights:
            mean = mean_over_ranks(torch.stack(self._means[name]).mean(dim=0))
            self._means[name].clear()
            center: Tensor = getattr(self, _CENTERS[name])
            logits = self.teacher.head_of(name).last_layer() @ mean
            center.lerp_(logits, 1 - self.config.center_momentum)
        theirs: list[Tensor] = list(self.teacher.parameters())
        ours: list[Tensor] = list(self.student.parameters())
        torch._foreach_lerp_(theirs, ours, 1 - self._momentum(moment.progress))

    def _loss(self, name: str, features: Tensor, taught: Tensor, pairs: Pairs) -> Tensor:
        """Return one loss, weighted, and note the teacher's mean.

        Args:
            name: "view" or "region".
            features: (B, R, C), the student's.
            taught: (B, T, C), the teacher's.
            pairs: What is compared.
        """
        head, teacher_head = self.student.head_of(name), self.teacher.head_of(name)
        with torch.no_grad():
            goals = teacher_head(taught)
            center: Tensor = getattr(self, _CENTERS[name])
            if self.training:
                self._means[name].append(goals.flatten(0, 1).to(center.dtype).mean(dim=0))
            targets = Targets(goals, teacher_head.last_layer(), center, self.teacher_temperature)
        temperature = self.config.student_temperature
        found = prototype_loss(head(features), head.last_layer(), temperature, targets, pairs)
        self._found[name] = Agreement(found.loss.detach(), found.entropy)
        return self.weights[name] * found.loss


def _by_image(rows: Tensor, crops: Tensor) -> Tensor:
    """Return (B * V, ...) as (B, V, ...)."""
    return rows.reshape(*crops.shape[:2], *rows.shape[1:])


def _touch(module: nn.Module) -> Tensor:
    """Return a zero () that depends on all parameters: several processes expect every gradient."""
    trained = [parameter.sum() for parameter in module.parameters() if parameter.requires_grad]
    return 0.0 * torch.stack(trained).sum()


def _drop_gradients(module: nn.Module) -> None:
    for parameter in module.parameters():
        parameter.grad = None


def build_branches(
    spec: BackboneSpec, config: PretrainConfig, *, regions: bool
) -> tuple[DistillationBranch, DistillationBranch]:
    """Return student and teacher with fresh weights.

    Args:
        spec: Of the backbone.
        config: The recipe; its model section is a ``DistillationConfig``.
        regions: Whether they have region heads.
    """
    model = config.model
    assert isinstance(model, DistillationConfig)
    rates = (model.drop_path, 0.0)
    options = [BuildOptions(img_size=config.data.img_size, drop_path=rate) for rate in rates]
    student, teacher = (
        DistillationBranch(_placed(spec.build(option)), spec.channels[-1], model, regions=regions)
        for option in options
    )
    return student, teacher


def _placed(backbone: Backbone) -> Backbone:
    """Return a backbone that stretches its positions over local crops as DINO's ViT does."""
    if isinstance(backbone, VisionTransformer):
        backbone.position_rule = NUDGED
    return backbone
