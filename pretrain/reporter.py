"""What a training tells: progress, curve, speed, and whether it waits for images."""

import time
from typing import Any, Protocol

from backbones.monitor import Monitor, Progress
from pretrain.schedules import Plan

# Points of a training curve; enough for a plot, few enough for a record.
CURVE_POINTS = 200

# Steps of a process that do not count for its speed: allocators and kernels warm up.
WARMING_STEPS = 3

# From these shares of the time on, waiting for images is worth a hint, and the word "bound".
_WORTH_A_HINT = 0.1
LOADER_BOUND = 0.5


class ScalarWriter(Protocol):
    """The part of TensorBoard's SummaryWriter that is used here."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> Any:
        """Note a value."""


class Reporter:
    """Tells the monitor, and keeps the curve and the times, over all starts of a run.

    Attributes:
        curve: Columns "step", "lr", "loss" and one per named loss or metric; means between two
            points.
        seconds: Spent on steps.
    """

    def __init__(
        self, plan: Plan, notes: dict[str, Any], monitor: Monitor, writer: ScalarWriter | None
    ) -> None:
        """Go on from the ``notes`` of an earlier start, empty for none."""
        self._plan = plan
        self._monitor = monitor
        self._writer = writer
        self._every = max(1, plan.num_steps // CURVE_POINTS)
        self.curve: dict[str, list[float]] = notes.get("curve", {})
        self._window: dict[str, float] = notes.get("window", {})
        self.seconds: float = notes.get("seconds", 0.0)
        self._timed: list[float] = notes.get("timed", [0, 0.0])
        self._waits: list[float] = notes.get("waits", [0, 0.0])
        self._latest: dict[str, float] = {}
        self._recent = 0.0
        self._steps_here = 0
        self._start = 0.0

    def notes(self) -> dict[str, Any]:
        """Return what has to survive a restart."""
        return {
            "curve": self.curve,
            "window": self._window,
            "seconds": self.seconds,
            "timed": self._timed,
            "waits": self._waits,
        }

    @property
    def images_per_second(self) -> float:
        """Speed over all timed steps, 0 without any."""
        steps, seconds = self._timed
        return self._plan.batch_size * steps / seconds if seconds else 0.0

    @property
    def wait_share(self) -> float:
        """Share of the time that the device has nothing to do because no images are there.

        A wait counts where the device had done all its work when it began; elsewhere the
        loader has time until the device has caught up.
        """
        waits, waited = self._waits
        steps, seconds = self._timed
        if not waits or not seconds:
            return 0.0
        return min(1.0, waited / waits / (seconds / steps))

    def begin_step(self) -> None:
        """Start the clock."""
        self._start = time.perf_counter()

    def waited(self, seconds: float) -> None:
        """Count the wait for the images of one step, which an idle device had to share."""
        if self._steps_here >= WARMING_STEPS:
            self._waits = [self._waits[0] + 1, self._waits[1] + seconds]

    def read(self, step: int, values: dict[str, float]) -> None:
        """Take down losses and metrics of the step that made ``step`` steps done."""
        self._latest = values
        for name, value in values.items():
            self._window[name] = self._window.get(name, 0.0) + value / self._every
        if step % self._every:
            return
        lr = self._plan.lr_at((step - 1) / self._plan.num_steps)
        for name, value in {"step": step, "lr": lr, **self._window}.items():
            self.curve.setdefault(name, []).append(value)
            if self._writer is not None and name != "step":
                self._writer.add_scalar(f"train/{name}", value, step)
        self._window = {}

    def end_step(self, step: int) -> None:
        """Stop the clock and tell the monitor; ``step`` steps are done."""
        seconds = time.perf_counter() - self._start
        self.seconds += seconds
        if self._steps_here >= WARMING_STEPS:
            self._timed = [self._timed[0] + 1, self._timed[1] + seconds]
        self._steps_here += 1
        self._recent = 0.9 * self._recent + 0.1 * seconds if self._recent else seconds
        self._monitor.progress(
            Progress(
                phase="pretrain",
                step=step,
                num_steps=self._plan.num_steps,
                images_per_second=self._plan.batch_size / self._recent,
                losses=self._latest,
                lr=self._plan.lr_at((step - 1) / self._plan.num_steps),
            )
        )

    def sentence(self) -> str:
        """Return speed and what bounds it, for people."""
        if not self._timed[1]:
            return "too short to be timed."
        bound = ", bound by the loader" if self.wait_share >= LOADER_BOUND else ""
        hint = ": more cores or loader processes would help"
        return (
            f"{self.images_per_second:.1f} images/s{bound}; {100 * self.wait_share:.0f} % of the "
            f"time went by waiting for images{hint if self.wait_share >= _WORTH_A_HINT else ''}."
        )
