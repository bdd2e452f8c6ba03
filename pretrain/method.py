"""What a pretraining method is: views of an image, and an objective over batches of them.

**A batch holds everything random.** The views turn one decoded image and a generator, seeded from
(seed, epoch, index of the image) alone, into a dict of tensors: pixels and draws (mask noise,
window positions, …). The objective is then a function of its parameters and the batch; only
stochastic depth draws more, from torch's generator, which the loop seeds anew for every
micro-batch. Hence losses do not depend on loader workers or on how a batch is shared out, a resumed
run needs no generator state, and whoever wants to compare an objective with another
implementation hands in a batch with draws of their own.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Protocol

import torch
from PIL import Image
from torch import Tensor, nn

from backbones.errors import UserError
from backbones.features import Backbone
from backbones.registry import lookup, modules_of
from backbones.spec import BackboneSpec
from pretrain.config import MethodConfig, PretrainConfig

# Views by name, stacked over the batch; "index" (B,), the images' places in the data set; "label"
# (B,) where the images have classes. What views gave as uint8 pixels (..., 3, H, W) arrives
# normalised, as float.
Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Moment:
    """Where in a run a step stands.

    Attributes:
        step: Updates done before it.
        num_steps: Updates in all.
        epoch: Passes over the images done before it, with fraction.
    """

    step: int
    num_steps: int
    epoch: float

    @property
    def progress(self) -> float:
        """Share of the run done before the step, 0 to below 1."""
        return self.step / self.num_steps


class Objective(nn.Module, ABC):
    """A backbone with all that its pretraining needs: heads, teacher, centres, the loss.

    ``forward`` may be called several times a step, once per micro-batch, on several processes; it
    must not change state that the next call reads. What is learnt from the whole batch without
    gradients (centres, teacher) is gathered in ``forward`` and applied in ``after_update``, with
    ``backbones.distributed`` where processes have to agree. All state belongs in parameters and
    persistent buffers, so that saving the state dict saves everything.

    Parameters that no gradient reaches must have ``requires_grad`` off.

    Attributes:
        backbone: What gets saved: the student or the teacher, as the method demands.
        num_first_images: So many images does ``prepare`` want to see; 0 for no call.
    """

    backbone: Backbone
    num_first_images: int = 0

    @abstractmethod
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return named losses, scalars, each the mean over the batch; their sum is minimised.

        Args:
            batch: See ``Batch``; pixels normalised, on the objective's device.
        """

    def prepare(self, batch: Batch) -> None:
        """See the first images of the run, once before the first step, also of a resumed run.

        All processes are shown the same ones, whatever the batch sizes; so what is made of them
        (target statistics …) needs no agreement. A saved state takes its place afterwards.

        Args:
            batch: ``num_first_images`` images, as for ``forward``.
        """

    def begin_step(self, moment: Moment) -> None:
        """Get ready for the step: temperatures, a momentum update that precedes the forward."""

    def before_update(self, moment: Moment) -> None:
        """See all gradients of the step, complete and not yet clipped; drop some if need be."""

    def after_update(self, moment: Moment) -> None:
        """Follow the update: move teacher and centres. ``moment`` is still that of the step."""

    def no_weight_decay(self) -> frozenset[str]:
        """Return names of parameters that decay spares, beside what ``optim.spared`` says."""
        return frozenset()

    def lr_factors(self) -> Mapping[str, float]:
        """Return factors of the learning rate by parameter name; 1 where none is named."""
        return {}

    def metrics(self) -> dict[str, Tensor]:
        """Return scalars of the last forward worth a curve that are no losses (entropies …)."""
        return {}

    @torch.no_grad()
    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Return pictures of the first images of a batch, for people.

        Args:
            batch: As for ``forward``; a few images.

        Returns:
            By title, (rows, columns, 3, H, W), normalised like the batch's pixels: one row an
            image, for instance input, masked, reconstructed.
        """
        del batch
        return {}

    def official_state(self) -> dict[str, Any]:
        """Return all weights in the layout of the method's official pretraining files.

        Returns:
            Tensors by official name, or, where such a file holds several networks, dicts of
            those.

        Raises:
            UserError: There is no official layout.
        """
        raise UserError(f"There is no official layout for {type(self).__name__}.")

    def load_official(self, content: Mapping[str, Any]) -> None:
        """Take over an official pretraining file, heads and all.

        Args:
            content: What the file holds.

        Raises:
            UserError: There is no official layout.
            PreflightError: It does not fit, tensor for tensor.
        """
        del content
        raise UserError(f"There is no official layout for {type(self).__name__}.")

    def may_start_fresh(self) -> tuple[str, ...]:
        """Return shell patterns of state names that an earlier run's weights need not hold."""
        return ()


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
