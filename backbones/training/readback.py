"""Losses on their way from the device: read now and then, checked, written down."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

import torch
from torch import Tensor, nn

from backbones.base.distributed import gather, mean_over_ranks
from backbones.base.errors import UserError
from backbones.training.reporter import Reporter
from backbones.training.state import StateFolder

_INDICES_SHOWN = 64


@dataclass(frozen=True)
class PendingLosses:
    """Losses of a step that still lie on the device.

    Attributes:
        step: From 0.
        names: Of the losses, then of the metrics.
        num_losses: How many of them are losses.
        values: In the same order.
        indices: Of this process's images.
    """

    step: int
    names: Sequence[str]
    num_losses: int
    values: Tensor
    indices: Sequence[int]


class Readback:
    """Collects losses and reads them together, since every reading waits for the device."""

    def __init__(self, states: StateFolder, reporter: Reporter) -> None:
        """Set up.

        Args:
            states: To name the last good one when a loss is no number.
            reporter: Told of every step.
        """
        self._states = states
        self._reporter = reporter
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
            if not torch.isfinite(torch.tensor(losses)).all():
                self._refuse(known, losses)
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

    def _refuse(self, known: PendingLosses, losses: list[float]) -> NoReturn:
        indices = [index for part in gather(known.indices) for index in part]
        shown = ", ".join(map(str, indices[:_INDICES_SHOWN]))
        more = f" and {len(indices) - _INDICES_SHOWN} more" if len(indices) > _INDICES_SHOWN else ""
        named = ", ".join(f"{n} = {v}" for n, v in zip(known.names, losses, strict=False))
        raise self._error(
            f"The loss is no finite number at step {known.step + 1} ({named}; images {shown}{more})"
        )

    def _error(self, what: str) -> UserError:
        good = self._states.newest_file()
        kept = f"The last good state is {good}" if good else "No state was saved before"
        return UserError(
            f"{what}. {kept}. Lower optim.base_lr, set optim.clip or use schedule.precision=fp32, "
            "with --set."
        )
