"""How a training went."""

from collections.abc import Callable
from dataclasses import dataclass

from backbones.timing.alone import Rehearsal


@dataclass(frozen=True)
class Fitted:
    """How a training went.

    Attributes:
        curve: Columns "step", "lr", "loss" and one per named loss or metric.
        images_per_second: Over all devices, without warming up and saving; None when too short.
        wait_share: Share of the time that the device waited for images.
        seconds: Spent on steps, over all starts of the run.
        speed: The same, for people.
        unreadable: Where each unreadable image lies, and why it could not be read.
        arithmetic: What each start computed with, different ones once; see ``arithmetic_of``.
        rehearse: Prepares one more step, on images that lie in memory, to be repeated for its time
            once the weights are not needed any more: it changes them.
    """

    curve: dict[str, list[float]]
    images_per_second: float | None
    wait_share: float
    seconds: float
    speed: str
    unreadable: tuple[str, ...]
    arithmetic: tuple[str, ...]
    rehearse: Callable[[], Rehearsal]

    def warnings(self) -> tuple[str, ...]:
        """Return what a reader of the numbers has to know of the starts of the run."""
        if len(self.arithmetic) < 2:
            return ()
        return (
            f"the parts of this training were computed with {' and with '.join(self.arithmetic)}, "
            "which round differently, so an uninterrupted run of the seed ends with other numbers",
        )
