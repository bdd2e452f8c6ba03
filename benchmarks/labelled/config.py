"""Sections that the recipes on labelled images share: frozen, plain values."""

from dataclasses import dataclass

from backbones.base.errors import UserError

INTERPOLATIONS = ("bicubic", "bilinear")
PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True)
class CentralViewConfig:
    """The central view of an image, as all evaluations on ImageNet take it.

    The defaults are those of facebookresearch/dino ``eval_knn.py`` and facebookresearch/mae
    ``main_linprobe.py``.

    Attributes:
        img_size: Side of the central crop, in pixels, and what tables of positions are made for.
        resize_to: Length of the short side before the crop, in pixels.
        interpolation: Filter of the resizing, one of ``INTERPOLATIONS``.
        max_corrupt: So many images of a split may be unreadable; they are left out and named.
    """

    img_size: int = 224
    resize_to: int = 256
    interpolation: str = "bicubic"
    max_corrupt: int = 10

    def problems(self) -> list[str]:
        """Return one sentence per impossible value, without its full stop."""
        found = []
        if not 0 < self.img_size <= self.resize_to:
            found.append(
                f"data.img_size = {self.img_size} must be positive and at most data.resize_to = "
                f"{self.resize_to}"
            )
        if self.interpolation not in INTERPOLATIONS:
            found.append(f"data.interpolation must be one of {', '.join(INTERPOLATIONS)}")
        if self.max_corrupt < 0:
            found.append("data.max_corrupt must not be negative")
        return found


@dataclass(frozen=True)
class ExtractionConfig:
    """How images become features.

    Attributes:
        batch_size: Images a forward pass.
        precision: Of the forward pass: "fp32", or "bf16" for autocast; features are kept in fp32.
    """

    batch_size: int = 64
    precision: str = "fp32"

    def problems(self) -> list[str]:
        """Return one sentence per impossible value, without its full stop."""
        found = []
        if self.batch_size < 1:
            found.append("extraction.batch_size must be positive")
        if self.precision not in PRECISIONS:
            found.append(f"extraction.precision must be one of {', '.join(PRECISIONS)}")
        return found


# The mini data's pictures have a side of 93 pixels; in 64 of them a nano backbone sees 2,000 in
# seconds. The ratio of crop to short side is ImageNet's.
MINI_DATA = CentralViewConfig(img_size=64, resize_to=73)


def refuse(problems: list[str]) -> None:
    """Raise where there are problems.

    Raises:
        UserError: Names all of them.
    """
    if problems:
        raise UserError(f"The recipe cannot be run: {'; '.join(problems)}.")
