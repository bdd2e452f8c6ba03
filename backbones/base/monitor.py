"""How long work speaks to whoever watches it, and hears that it should stop."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

# Set by a launcher whose runs are told to save that many seconds before they are ended.
GRACE_SECONDS = "BACKBENCH_GRACE_SECONDS"


@dataclass(frozen=True)
class Progress:
    """Where a phase of a run stands.

    Attributes:
        phase: "train", "evaluate" and the like.
        step: Steps (or images) done, counted from the start of the run, not of this process.
        num_steps: Steps (or images) in all.
        images_per_second: Over the last few steps; 0 while unknown.
        losses: Named losses and their sum "loss"; empty where there is none.
        lr: Highest learning rate of all groups; None where there is none.
    """

    phase: str
    step: int
    num_steps: int
    images_per_second: float = 0.0
    losses: Mapping[str, float] | None = None
    lr: float | None = None


class Monitor(Protocol):
    """What a run is given to report to."""

    def progress(self, progress: Progress) -> None:
        """Take notice of progress; called often, must be cheap."""

    def say(self, text: str) -> None:
        """Show one line that a person should read (a start-up card, a fallback, a warning)."""

    def should_stop(self) -> bool:
        """Tell whether to save and raise ``StoppedError`` at the next step boundary."""


class SilentMonitor:
    """A monitor for library use and tests: hears nothing, never stops."""

    def progress(self, progress: Progress) -> None:
        """Ignore."""

    def say(self, text: str) -> None:
        """Ignore."""

    def should_stop(self) -> bool:
        """Return False."""
        return False


class FollowerMonitor(SilentMonitor):
    """The monitor of every process but the first: it can be stopped and reports nothing."""

    def __init__(self, monitor: Monitor) -> None:
        """Take over ``should_stop`` of ``monitor``, because every process is asked to stop."""
        self.should_stop = monitor.should_stop  # type: ignore[method-assign]


def say_card(monitor: Monitor, card: Mapping[str, Any]) -> None:
    """Show a start-up card: what was decided for the user, a line for each value.

    Args:
        monitor: To show it on.
        card: By topic; a list's values get a line each.
    """
    for name, value in card.items():
        for line in value if isinstance(value, list) else [value]:
            monitor.say(f"{name}: {line}")
