"""What the configs of self-distillation have in common."""

from dataclasses import dataclass

from pretrain.config import MethodConfig
from pretrain.masked_config import at_least, one_of

BRANCHES = ("teacher", "student")
_SHARES = ("momentum", "center_momentum", "grey_probability")


@dataclass(frozen=True)
class DistillationConfig(MethodConfig):
    """Crops, heads, temperatures, momenta. Defaults are those of DINO (its main_dino.py).

    The two global crops are ``data.img_size`` and ``data.crop_scale``.

    Attributes:
        num_local_crops: Beside two global ones; may be 0.
        local_size: Side of a local crop in pixels.
        local_scale: Range of its area as a share of the image's.
        jitter: Of all crops: brightness, contrast, saturation, hue, see
            ``pretrain.parts.views.photometric.Photometric``.
        grey_probability: Likewise, of losing all colour.
        blur_radius: Of the crops that are blurred, in pixels.
        num_prototypes: Outputs of a head.
        head_layers: Linear layers of a head in front of the prototypes.
        hidden_dim: Between them.
        bottleneck_dim: Behind them.
        norm_last_layer: Prototypes keep the length 1, else it is trained.
        freeze_last_layer_epochs: In the first so many epochs prototypes stay as they are.
        momentum: Of the teacher at the start; rises to 1 along a half cosine.
        student_temperature: Divides the student's logits.
        teacher_temperature: Divides the teacher's, after the warm-up.
        warmup_teacher_temperature: Likewise, in the first epoch.
        warmup_teacher_epochs: Over which the one becomes the other, epoch by epoch.
        center_momentum: Of the running mean of the teacher's logits.
        drop_path: Stochastic depth of the student alone.
        saved: "teacher" or "student": whose backbone is the run's checkpoint. The official
            evaluations take the teacher.
    """

    num_local_crops: int = 8
    local_size: int = 96
    local_scale: tuple[float, float] = (0.05, 0.4)
    jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.2, 0.1)
    grey_probability: float = 0.2
    blur_radius: tuple[float, float] = (0.1, 2.0)
    num_prototypes: int = 65536
    head_layers: int = 3
    hidden_dim: int = 2048
    bottleneck_dim: int = 256
    norm_last_layer: bool = True
    freeze_last_layer_epochs: int = 1
    momentum: float = 0.996
    student_temperature: float = 0.1
    teacher_temperature: float = 0.04
    warmup_teacher_temperature: float = 0.04
    warmup_teacher_epochs: int = 0
    center_momentum: float = 0.9
    drop_path: float = 0.1
    saved: str = "teacher"

    def problems(self) -> list[str]:
        """Return one sentence per impossible value."""
        low, high = self.local_scale
        counts = ("local_size", "num_prototypes", "head_layers", "hidden_dim", "bottleneck_dim")
        found = [
            one_of("model.saved", self.saved, BRANCHES),
            at_least("model.num_local_crops", self.num_local_crops, 0),
            at_least("model.freeze_last_layer_epochs", self.freeze_last_layer_epochs, 0),
            at_least("model.warmup_teacher_epochs", self.warmup_teacher_epochs, 0),
            *(at_least(f"model.{name}", getattr(self, name), 1) for name in counts),
            *(_within_1(f"model.{n}", getattr(self, n)) for n in _SHARES),
        ]
        if not 0 < low <= high <= 1:
            found.append("model.local_scale must rise within (0, 1]")
        if not (min(self.jitter) >= 0 and self.jitter[3] <= 0.5):
            found.append("model.jitter must hold values from 0 up, the last at most 0.5")
        if not 0 <= self.blur_radius[0] <= self.blur_radius[1]:
            found.append("model.blur_radius must rise from 0 or above")
        temperatures = (
            self.student_temperature,
            self.teacher_temperature,
            self.warmup_teacher_temperature,
        )
        if not min(temperatures) > 0:
            found.append("the temperatures of model must be above 0")
        if not 0 <= self.drop_path < 1:
            found.append(f"model.drop_path must lie in [0, 1), not at {self.drop_path:g}")
        return [problem for problem in found if problem]


def _within_1(name: str, value: float) -> str:
    return "" if 0 <= value <= 1 else f"{name} must lie in [0, 1], not at {value:g}"
