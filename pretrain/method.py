"""What a pretraining method is: views of an image, and an objective over batches of them.

**A batch holds everything random.** The views turn one decoded image and a generator, seeded from
(seed, epoch, index of the image) alone, into a dict of tensors: pixels and draws (mask noise,
window positions, …). The objective is then a function of its parameters and the batch; only
stochastic depth draws more, from torch's generator, which the loop seeds anew for every
micro-batch. Hence losses do not depend on loader workers or on how a batch is shared out, a resumed
run needs no generator state, and whoever wants to compare an objective with another
implementation hands in a batch with draws of their own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal, Protocol

import torch
from PIL import Image
from torch import Tensor

from backbones.base.errors import UserError
from backbones.base.registry import lookup, modules_of
from backbones.spec import BackboneSpec
from backbones.training.objective import Objective
from pretrain.config import MethodConfig, PretrainConfig


class Views(Protocol):
    """What a method makes of one image. Picklable: it goes to loader workers."""

    def __call__(self, image: Image.Image, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the views of one image and every draw the objective will need.

        All images of a run must give the same names and shapes. Pixels are best left uint8
        (..., 3, H, W), values 0 to 255: the loop normalises them on the device.

        Args:
            image: RGB, upright, of any size, also smaller than the crop.
            generator: The only source of randomness.
        """


@dataclass(frozen=True)
class Method:
    """A pretraining method; a module in ``pretrain/methods`` that holds one as METHOD registers it.

    Attributes:
        name: As in ``PretrainConfig.method``.
        config_type: Of the method's own section, ``PretrainConfig.model``.
        build: Makes the objective, backbone included, with fresh weights drawn from torch's
            generator. Raises ``UserError`` where backbone and config do not go together.
        views: Makes the views. Raises ``UserError`` likewise.
        layout: Of the backbones it works with.
        needs_classes: Whether batches need "label"; ``data.num_classes`` is then known.
        couples_images: Whether an image's loss depends on the others that are seen with it, over
            all processes (negatives, batch statistics). Micro-batches one after another then
            are not what one large batch is.
    """

    name: str
    config_type: type[MethodConfig]
    build: Callable[[BackboneSpec, PretrainConfig], Objective]
    views: Callable[[BackboneSpec, PretrainConfig], Views]
    layout: Literal["plain", "hierarchical", "any"] = "any"
    needs_classes: bool = False
    couples_images: bool = False

    def check(self, spec: BackboneSpec, config: PretrainConfig) -> None:
        """Refuse a backbone or a config that the method cannot work with.

        Raises:
            UserError: With the reason.
        """
        if self.layout not in ("any", spec.layout):
            raise UserError(
                f"{self.name} works with {self.layout} backbones, and {spec.name} is "
                f"{spec.layout}; choose another backbone or method."
            )
        if not isinstance(config.model, self.config_type):
            raise UserError(
                f"The recipe {config.protocol} holds a {type(config.model).__name__} where "
                f"{self.name} needs a {self.config_type.__name__}."
            )


@cache
def methods() -> dict[str, Method]:
    """Return every method by name."""
    found = [module.METHOD for module in modules_of("pretrain.methods")]
    return {method.name: method for method in found}


def get_method(name: str) -> Method:
    """Return a method by name.

    Raises:
        UserError: There is no such method.
    """
    return lookup("pretraining method", name, methods())
