"""What the configs of self-distillation have in common."""

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from backbones.base.values import (
    RISING,
    Below1,
    Count,
    CountOrZero,
    Layers,
    NotNegative,
    Positive,
    Probability,
    ShareRange,
)
from pretrain.config import MethodConfig

# A hue can be turned by half a circle at most.
Jitter = Annotated[
    tuple[NotNegative, NotNegative, NotNegative, Annotated[float, Meta(ge=0, le=0.5)]],
    Meta(description="a list of 4 numbers of at least 0, the last (hue) at most 0.5"),
]


@dataclass(frozen=True)
class DistillationConfig(MethodConfig):
    """Crops, heads, temperatures, momenta. Defaults are those of DINO (its main_dino.py).

    The two global crops are ``data.img_size`` and ``data.crop_scale``.

    Attributes:
        num_local_crops: Number of local crops, in addition to the two global ones.
        local_size: Side of a local crop in pixels.
        local_scale: Range of a local crop's area as a share of the image's.
        jitter: Largest change of brightness, contrast, saturation and hue of every crop, see
            ``pretrain.parts.views.photometric.Photometric``.
        grey_probability: Probability that a crop loses all colour.
        blur_radius: Range of the blur's radius in pixels, for crops that are blurred.
        num_prototypes: Outputs of a head.
        head_layers: Linear layers of a head before the prototypes.
        hidden_dim: Width of the head's hidden layers.
        bottleneck_dim: Width of the head's last layer before the prototypes.
        norm_last_layer: Keep the length of prototypes at 1; else it is trained.
        freeze_last_layer_epochs: Number of first epochs in which prototypes are not trained.
        momentum: Momentum of the teacher at the start; rises to 1 along a half cosine.
        student_temperature: Divides the student's logits.
        teacher_temperature: Divides the teacher's logits after the warmup.
        warmup_teacher_temperature: Divides the teacher's logits in the first epoch.
        warmup_teacher_epochs: Epochs over which the teacher's temperature goes from
            ``warmup_teacher_temperature`` to ``teacher_temperature``, once per epoch.
        center_momentum: Momentum of the running mean of the teacher's logits.
        drop_path: Stochastic depth of the student; the teacher has none.
        saved: "teacher" or "student": whose backbone is the run's checkpoint. The official
            evaluations take the teacher.
    """

    num_local_crops: CountOrZero = 8
    local_size: Count = 96
    local_scale: ShareRange = (0.05, 0.4)
    jitter: Jitter = (0.4, 0.4, 0.2, 0.1)
    grey_probability: Probability = 0.2
    blur_radius: Annotated[tuple[NotNegative, NotNegative], RISING] = (0.1, 2.0)
    num_prototypes: Count = 65536
    head_layers: Layers = 3
    hidden_dim: Count = 2048
    bottleneck_dim: Count = 256
    norm_last_layer: bool = True
    freeze_last_layer_epochs: CountOrZero = 1
    momentum: Probability = 0.996
    student_temperature: Positive = 0.1
    teacher_temperature: Positive = 0.04
    warmup_teacher_temperature: Positive = 0.04
    warmup_teacher_epochs: CountOrZero = 0
    center_momentum: Probability = 0.9
    drop_path: Below1 = 0.1
    saved: Literal["teacher", "student"] = "teacher"
