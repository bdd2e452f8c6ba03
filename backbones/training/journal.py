"""The curve and the clock of a training, kept over all its starts."""

import time
from collections.abc import Mapping
from typing import Any

# Points of a training curve; enough for a plot, few enough for a record.
CURVE_POINTS = 200

# Steps of a process that do not count for its speed: allocators and kernels warm up.
WARMING_STEPS = 3


class Journal:
    """What is noted of a training while it runs.

    Attributes:
        curve: Columns "step", "lr" and one per named value; means between two points.
        seconds: Spent on steps.
        steps_here: Steps that this process has done.
    """

    def __init__(self, num_steps: int, batch_size: int, notes: Mapping[str, Any]) -> None:
        """Go on from the notes of an earlier start.

        Args:
            num_steps: Of the whole training.
            batch_size: Images a step, over all processes.
            notes: What ``notes()`` returned then; empty for none.
        """
        self._batch_size = batch_size
        self._every = max(1, num_steps // CURVE_POINTS)
        self.curve: dict[str, list[float]] = notes.get("curve", {})
        self._window: dict[str, float] = notes.get("window", {})
        self.seconds: float = notes.get("seconds", 0.0)
        self._timed: list[float] = notes.get("timed", [0, 0.0])
        self.steps_here = 0
        self._recent = 0.0
        self._start = 0.0

    def notes(self) -> dict[str, Any]:
        """Return what has to survive a restart, as plain values."""
        return {
            "curve": self.curve,
            "window": self._window,
            "seconds": self.seconds,
            "timed": self._timed,
        }

    @property
    def seconds_per_step(self) -> float:
        """Mean over all timed steps, 0 without any."""
        steps, seconds = self._timed
        return seconds / steps if steps else 0.0

    @property
    def images_per_second(self) -> float | None:
        """Speed over all timed steps, None without any."""
        return self._batch_size / self.seconds_per_step if self.seconds_per_step else None

    @property
    def recent_images_per_second(self) -> float:
        """Speed over the last steps, 0 before the first."""
        return self._batch_size / self._recent if self._recent else 0.0

    def begin_step(self) -> None:
        """Start the clock."""
        self._start = time.perf_counter()

    def end_step(self) -> None:
        """Stop the clock."""
        seconds = time.perf_counter() - self._start
        self.seconds += seconds
        if self.steps_here >= WARMING_STEPS:
            self._timed = [self._timed[0] + 1, self._timed[1] + seconds]
        self.steps_here += 1
        self._recent = 0.9 * self._recent + 0.1 * seconds if self._recent else seconds

    def take_down(self, step: int, lr: float, values: Mapping[str, float]) -> dict[str, float]:
        """Note the values of the step that made ``step`` steps done.

        Returns:
            The point of the curve that this completes, empty if none.
        """
        for name, value in values.items():
            self._window[name] = self._window.get(name, 0.0) + value / self._every
        if step % self._every:
            return {}
        point = {"step": step, "lr": lr, **self._window}
        for name, value in point.items():
            self.curve.setdefault(name, []).append(value)
        self._window = {}
        return point
