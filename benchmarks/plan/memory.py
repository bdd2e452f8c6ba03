"""About how much memory a training needs, before anything has been measured.

An order of magnitude, meant to tell 5 GiB from 50: weights with their gradients and two moments,
and what a backward pass needs of a transformer's blocks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from backbones.spec import BackboneSpec

# Weights, gradients and AdamW's two moments, in single precision.
_BYTES_A_PARAMETER = 16
# Parameters of a transformer block are 12 D^2 (Kaplan et al. 2020, table 1).
_BLOCK = 12
# Bytes that a block keeps of a token and channel in 16 bits, with attention that keeps no matrix
# (Korthikanti et al. 2022, "Reducing activation recomputation", equation 2 without its last term).
_KEPT = 34
# In a hierarchy a stage halves the side and doubles the channels; most blocks are in the third.
_THIRD_STAGE = 2


@dataclass(frozen=True)
class Need:
    """Memory of a training, in bytes.

    Attributes:
        fixed: Whatever the number of images.
        each: Of an image that is held.
    """

    fixed: float
    each: float

    def gib(self, images: int) -> float:
        """Return the GiB that ``images`` held at once need."""
        return (self.fixed + images * self.each) / 2**30


def need_of(backbone: BackboneSpec, recipe: Mapping[str, Any], precision: str) -> Need | None:
    """Return about what a training needs, None where the recipe does not say a size.

    Args:
        backbone: The network.
        recipe: Its values as a record keeps them.
        precision: "fp32" or "bf16".
    """
    size = recipe.get("data", {}).get("img_size")
    if not isinstance(size, int):
        return None
    width, tokens = backbone.channels[0], (size / backbone.strides[0]) ** 2
    if backbone.layout == "hierarchical":
        width, tokens = width * 2**_THIRD_STAGE, tokens / 4**_THIRD_STAGE
    parameters = _BLOCK * backbone.num_layers * width**2
    kept = _KEPT * (1 if precision == "bf16" else 2) * backbone.num_layers * tokens * width
    return Need(_BYTES_A_PARAMETER * parameters, kept * views_of(recipe))


def views_of(recipe: Mapping[str, Any]) -> float:
    """Return how many views of an image are trained on, in images of the recipe's size.

    Args:
        recipe: Its values as a record keeps them.
    """
    model, size = recipe.get("model", {}), recipe.get("data", {}).get("img_size")
    if "num_local_crops" in model:
        share = (float(model["local_size"]) / float(size)) ** 2
        return 2 + float(model["num_local_crops"]) * share
    return 2.0 if recipe.get("method") == "mocov3" else 1.0
