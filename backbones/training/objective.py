"""The ``Objective`` contract: a module that turns a batch into named losses."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from backbones.base.errors import UserError
from backbones.features import Backbone
from backbones.training.draws import Draws

# Views by name, stacked over the batch; "index" (B,), the images' places in the data set; "label"
# (B,) where the images have classes. What views gave as uint8 pixels (..., 3, H, W) arrives
# normalised, as float. Outside pretraining, loader and objective may agree on other content.
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
    ``backbones.base.distributed`` where processes have to agree. All state belongs in parameters
    and persistent buffers, so that saving the state dict saves everything.

    Parameters that no gradient reaches must have ``requires_grad`` off.

    Attributes:
        backbone: What gets saved: the student or the teacher, as the method demands.
        num_first_images: So many images does ``prepare`` want to see; 0 for no call.
        shares_statistics: Whether batch normalisation uses the statistics of all processes' images;
            False leaves every norm as it was built.
        draws: Set by the loop where a batch is several of the recipe's micro-batches, or a part of
            one; else None.
        part: Images of the recipe's micro-batch, set by the loop. What couples the images of a
            micro-batch (mixup) stays within groups of this size; 0 takes the whole batch.
    """

    backbone: Backbone
    num_first_images: int = 0
    shares_statistics: bool = True
    draws: Draws | None = None
    part: int = 0

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

    def encoders(self) -> tuple[Backbone, ...]:
        """Return the networks that begin with the weights of ``--init-from``.

        The trained backbone, and the teacher that starts as its copy where a method has one.
        """
        return (self.backbone,)

    def may_start_fresh(self) -> tuple[str, ...]:
        """Return shell patterns of state names that an earlier run's weights need not hold."""
        return ()
