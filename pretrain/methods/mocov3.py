"""MoCo v3: queries of one view find the key of the other (Chen, Xie, He 2021), section 3.

Draws in a batch: none but the crops themselves, see ``docs/pretraining-draws.md``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from fvcore.common.param_scheduler import CosineParamScheduler
from PIL import Image
from torch import Tensor, nn

from backbones.base.distributed import gather_rows, rank, world_size
from backbones.base.errors import PreflightError, UserError
from backbones.features import Backbone
from backbones.spec import BackboneSpec, BuildOptions
from backbones.timm_networks.backbone import NET
from backbones.timm_networks.families import ResNetBackbone
from backbones.training.objective import Batch, Moment, Objective
from backbones.vit.network import VisionTransformer
from pretrain.config import PretrainConfig, PretrainDataConfig
from pretrain.method import Method
from pretrain.parts.distilled.regions import pooled_channels
from pretrain.parts.masked.patches import check_grid
from pretrain.parts.masked.tokens import fix_positions, initialise
from pretrain.parts.official import from_official, to_official
from pretrain.parts.views.crop import draw_view
from pretrain.parts.views.photometric import MOCOV3_VIEW_1, MOCOV3_VIEW_2
from pretrain.recipes.mocov3 import MoCoV3Config

_CLS_STD = 1e-6  # facebookresearch/moco-v3, vits.py
# What its trainer's DistributedDataParallel puts in front of names.
_WRAPPED = "module."


@dataclass(frozen=True)
class MoCoV3Views:
    """Two crops, distorted each in its own way.

    Attributes:
        data: Crop.
    """

    data: PretrainDataConfig

    def __call__(self, image: Image.Image, generator: torch.Generator) -> dict[str, Tensor]:
        """Return "views" (2, 3, H, W) uint8; see ``Views``."""
        resample = Image.Resampling.BILINEAR  # torchvision's default, which MoCo v3 keeps
        views = [
            draw_view(image, self.data, photometric, generator, resample)
            for photometric in (MOCOV3_VIEW_1, MOCOV3_VIEW_2)
        ]
        return {"views": torch.stack(views)}


class ContrastiveBranch(nn.Module):
    """A backbone and its projector: of the queries, or of the keys.

    Attributes:
        backbone: Sees whole views.
        projector: On pooled features.
    """

    def __init__(self, backbone: Backbone, config: MoCoV3Config) -> None:
        """Draw a ViT's weights as MoCo v3 does, and add a fresh projector."""
        super().__init__()
        self.backbone = backbone
        if isinstance(backbone, VisionTransformer):
            initialise(backbone, token_std=_CLS_STD, split_qkv=True)
            nn.init.zeros_(backbone.patch_embed.proj.bias)
            fix_positions(backbone, rows_first=True)
            if config.freeze_patches:
                backbone.patch_embed.requires_grad_(False)
        widths = [config.hidden_dim] * (config.projector_layers - 1)
        sizes = [pooled_channels(backbone), *widths, config.output_dim]
        self.projector = _mlp(sizes, normalise_output=True)

    def forward(self, images: Tensor) -> Tensor:
        """Return the projection (B, output_dim) of images (B, 3, H, W)."""
        out: Tensor = self.projector(self.backbone(images).pooled)
        return out


class MoCoV3Objective(Objective):
    """Student, its predictor, a teacher that follows the student, a contrast over the batch.

    Queries come from the student through the predictor, keys from the teacher. Batch norms see each
    view by itself, over all processes. The teacher's running statistics are its own.

    Attributes:
        student: Trained by gradients.
        teacher: Running mean of the student's parameters.
        predictor: On the student's projections.
    """

    def __init__(
        self, student: ContrastiveBranch, teacher: ContrastiveBranch, config: MoCoV3Config
    ) -> None:
        """Make the teacher equal to the student.

        Args:
            student: Freshly built.
            teacher: Of the same shape.
            config: Temperature, momentum, sizes.
        """
        super().__init__()
        self.config = config
        self.student = student
        self.teacher = teacher
        teacher.load_state_dict(student.state_dict())
        teacher.requires_grad_(False)
        sizes = [config.output_dim, config.hidden_dim, config.output_dim]
        self.predictor = _mlp(sizes, normalise_output=config.normalise_output)
        self._momentum = CosineParamScheduler(config.momentum, 1.0)

    @property
    def backbone(self) -> Backbone:  # type: ignore[override]
        """The student's, which the official evaluations take."""
        return self.student.backbone

    def encoders(self) -> tuple[Backbone, ...]:
        """Return the backbones of student and teacher; see ``Objective``."""
        return self.student.backbone, self.teacher.backbone

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return "contrast": both views' InfoNCE, times 2 T each; see ``Objective``.

        Args:
            batch: "views" (B, 2, 3, H, W).
        """
        first, second = batch["views"].unbind(dim=1)
        queries = [self.predictor(self.student(view)) for view in (first, second)]
        with torch.no_grad():
            keys = [self.teacher(view) for view in (first, second)]
        there = self._contrast(queries[0], keys[1])
        return {"contrast": there + self._contrast(queries[1], keys[0])}

    @torch.no_grad()
    def begin_step(self, moment: Moment) -> None:
        """Move the teacher towards the student, before it makes the step's keys."""
        theirs: list[Tensor] = list(self.teacher.parameters())
        ours: list[Tensor] = list(self.student.parameters())
        torch._foreach_lerp_(theirs, ours, 1 - self._momentum(moment.progress))

    @torch.no_grad()
    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Return the two views; see ``Objective``."""
        return {"two views": batch["views"]}

    def official_state(self) -> dict[str, Any]:
        """Return all weights as facebookresearch/moco-v3 saves them.

        Raises:
            UserError: It has no such backbone.
        """
        state = to_official(self, self._official_name)
        return {"state_dict": {_WRAPPED + name: tensor for name, tensor in state.items()}}

    def load_official(self, content: Mapping[str, Any]) -> None:
        """Take over an official pretraining checkpoint, both networks and the predictor.

        Args:
            content: The file's; weights under "state_dict".

        Raises:
            UserError: MoCo v3 has no such backbone.
            PreflightError: It does not fit, tensor for tensor.
        """
        found = content.get("state_dict")
        if not isinstance(found, Mapping):
            raise PreflightError('The file has no "state_dict", as MoCo v3\'s checkpoints have.')
        state = {name.removeprefix(_WRAPPED): tensor for name, tensor in found.items()}
        from_official(self, state, self._official_name)

    def _contrast(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Return 2 T times the cross-entropy of finding each query's own key among all keys.

        Args:
            queries: (B, D), this process's.
            keys: (B, D), the other view's.
        """
        temperature = self.config.temperature
        q, k = (F.normalize(_at_least_single(rows), dim=1) for rows in (queries, keys))
        own = rank() * len(q) + torch.arange(len(q), device=q.device)
        with torch.autocast(q.device.type, enabled=False):
            logits = q @ gather_rows(k).T / temperature
            return 2 * temperature * F.cross_entropy(logits, own)

    def _official_name(self, name: str) -> str:
        branch, _, rest = name.partition(".")
        if branch == "predictor":
            return name
        network = {"student": "base_encoder", "teacher": "momentum_encoder"}[branch]
        part, _, rest = rest.partition(".")
        if part == "projector":
            return f"{network}.{self._official_head()}.{rest}"
        return f"{network}.{rest.removeprefix(NET)}"

    def _official_head(self) -> str:
        """Return the classifier's name, whose place the projector takes."""
        if isinstance(self.backbone, VisionTransformer):
            return "head"
        if isinstance(self.backbone, ResNetBackbone):
            return "fc"
        raise UserError(
            "facebookresearch/moco-v3 has checkpoints of ViT and ResNet alone, not of this "
            f"{type(self.backbone).__name__}."
        )


def _at_least_single(values: Tensor) -> Tensor:
    """Return values of any shape in float32 or a wider type, shape kept."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _mlp(sizes: list[int], *, normalise_output: bool) -> nn.Sequential:
    """Return linear layers without bias, each with a batch norm, and ReLU between them.

    The last norm has neither scale nor shift (facebookresearch/moco-v3, moco/builder.py).
    """
    layers: list[nn.Module] = []
    for number, (before, behind) in enumerate(pairwise(sizes), start=2):
        layers.append(nn.Linear(before, behind, bias=False))
        if number < len(sizes):
            layers += [nn.BatchNorm1d(behind), nn.ReLU(inplace=True)]
        elif normalise_output:
            layers.append(nn.BatchNorm1d(behind, affine=False))
    return nn.Sequential(*layers)


def _build(spec: BackboneSpec, config: PretrainConfig) -> MoCoV3Objective:
    model = config.model
    assert isinstance(model, MoCoV3Config)
    _views(spec, config)
    options = BuildOptions(img_size=config.data.img_size)
    student, teacher = (ContrastiveBranch(spec.build(options), model) for _ in range(2))
    return MoCoV3Objective(student, teacher, model)


def _views(spec: BackboneSpec, config: PretrainConfig) -> MoCoV3Views:
    if spec.layout == "plain":
        check_grid(config.data.img_size, config.data.img_size, spec.strides[-1])
    return MoCoV3Views(config.data)


def _training_views(spec: BackboneSpec, config: PretrainConfig) -> MoCoV3Views:
    """Return the views, for a training whose batch norms have statistics to take.

    Not asked in ``_build``: one process exports what several have trained.
    """
    size, processes = config.schedule.batch_size_per_device, world_size()
    if size * processes < 2:
        raise UserError(
            "The batch norms of mocov3's heads need at least 2 images at once, over all processes, "
            f"and schedule.batch_size_per_device {size} on one process gives {size}; raise it with "
            "--set."
        )
    return _views(spec, config)


METHOD = Method("mocov3", MoCoV3Config, _build, _training_views, couples_images=True)
