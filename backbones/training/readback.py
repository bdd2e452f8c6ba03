"""Losses on their way from the device: read now and then, checked, written down."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor, nn

from backbones.base.distributed import gather, mean_over_ranks
from backbones.base.errors import UserError
from backbones.base.wording import first_of
from backbones.training.reporter import Reporter
from backbones.training.state import StateFolder

_IMAGES_SHOWN = 64


@dataclass(frozen=True)
class PendingLosses:
    """Losses of a step that still lie on the device.

    Attributes:
        step: From 0.
        names: Of the losses, then of the metrics.
        num_losses: How many of them are losses.
        values: In the same order.
        images: Indices or ids of this process's images.
    """

    step: int
    names: Sequence[str]
    num_losses: int
    values: Tensor
    images: Sequence[int | str]


class Readback:
    """Collects losses and reads them together, since every reading waits for the device."""

    def __init__(self, states: StateFolder, reporter: Reporter, remedy: str) -> None:
        """Set up.

        Args:
            states: To name the last good one when a loss is no number.
            reporter: Told of every step.
            remedy: What to do then, as a sentence.
        """
        self._states = states
        self._reporter = reporter
        self._remedy = remedy
        self._unread: list[PendingLosses] = []

    def add(self, unread: PendingLosses) -> None:
        """Take a step's losses, without waiting for them."""
        self._unread.append(unread)

    def read(self) -> bool:
        """Read all losses since the last reading, on all processes at once.

        Returns:
            Whether there were any, so that the device has done all its work.

        Raises:
            UserError: One is not a finite number.
        """
        unread, self._unread = self._unread, []
        if not unread:
            return False
        rows = mean_over_ranks(torch.stack([u.values for u in unread])).tolist()
        for known, row in zip(unread, rows, strict=True):
            losses = row[: known.num_losses]
            if not _finite(losses):
                images = [image for part in gather(known.images) for image in part]
                raise self._not_finite(known.step, _named(known, losses), images)
            self._reporter.read(
                known.step + 1, {"loss": sum(losses), **dict(zip(known.names, row, strict=True))}
            )
        return True

    def check_weights(self, step: int, module: nn.Module) -> None:
        """Look at what no loss has seen yet: the weights that the last update made.

        Args:
            step: So many steps are done.
            module: Whose parameters they are.

        Raises:
            UserError: One of them is no finite number.
        """
        weights = dict(module.named_parameters())
        with torch.no_grad():
            largest = torch._foreach_norm(list(weights.values()), float("inf"))
            lost = ~torch.stack([value.float() for value in largest]).isfinite()
        if lost.any():
            name = list(weights)[int(lost.int().argmax())]
            raise self._error(f"The update of step {step} left {name} with infinite numbers or NaN")

    def diverged(self, step: int, what: str, images: Sequence[int | str]) -> UserError:
        """Return the error for a forward that met NaN or infinity before there was a loss.

        It speaks of the first step whose losses, not yet read, explain that, if there is one. It
        looks at this process alone, because the others are not here to agree with.

        Args:
            step: Of the forward, from 0.
            what: The forward found.
            images: Of its micro-batch.
        """
        for known in self._unread:
            losses = known.values[: known.num_losses].tolist()
            if not _finite(losses):
                return self._not_finite(known.step, _named(known, losses), known.images)
        return self._not_finite(step, what, images)

    def _not_finite(self, step: int, what: str, images: Sequence[int | str]) -> UserError:
        shown = first_of(images, _IMAGES_SHOWN)
        return self._error(
            f"The loss is no finite number at step {step + 1} ({what}; images {shown})"
        )

    def _error(self, what: str) -> UserError:
        good = self._states.newest_file()
        kept = f"The last good state is {good}" if good else "No state was saved before"
        return UserError(f"{what}. {kept}. {self._remedy}")


def _finite(losses: list[float]) -> bool:
    return all(map(isfinite, losses))


def _named(known: PendingLosses, losses: list[float]) -> str:
    return ", ".join(f"{n} = {v}" for n, v in zip(known.names, losses, strict=False))
