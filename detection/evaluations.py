"""Evaluations during training: when they are due, and the curve that they make."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from backbones.base.monitor import Monitor
from backbones.training.reporter import ScalarWriter
from backbones.training.schedules import Plan
from detection.config import EvaluationConfig

Metrics = Mapping[str, float | None]
# A series NAME of a curve "evaluation/NAME" lies over "evaluation/step", losses over "step".
_PREFIX = "evaluation/"
_KEPT = ("APbox", "APmask")
# Under which a state's notes hold what evaluations found.
_NOTES = "evaluated"


def period(config: EvaluationConfig, plan: Plan) -> int:
    """Return the steps between two evaluations during training, 0 for none."""
    if not config.every_epochs:
        return 0
    return max(1, round(config.every_epochs * plan.num_images / plan.batch_size))


def told(every: int, plan: Plan) -> str:
    """Say when a detector is evaluated."""
    count = (plan.num_steps - 1) // every if every else 0
    times = f"every {every} steps of training, {count} times, and " if count else ""
    return f"{times}at the end"


class Evaluations:
    """The evaluations of a run, over all its starts; a ``Pause`` of the training loop.

    Attributes:
        name: For people.
        curve: Columns "evaluation/step", "evaluation/APbox" and, with masks, "evaluation/APmask";
            empty without any.
        seconds: They took, which are none of training's.
    """

    name = "evaluation"

    def __init__(
        self,
        every: int,
        look: Callable[[], Metrics],
        num_steps: int,
        monitor: Monitor,
        writer: ScalarWriter | None = None,
    ) -> None:
        """Set up.

        Args:
            every: Steps between two evaluations; 0 for none.
            look: Returns the metrics of the detector as it is; every process calls it.
            num_steps: Of the whole training.
            monitor: Hears of each evaluation.
            writer: For curves in TensorBoard.
        """
        self._every = every
        self._look = look
        self._num_steps = num_steps
        self._monitor = monitor
        self._writer = writer
        self.curve: dict[str, list[float]] = {}
        self.seconds = 0.0

    def due(self, step: int) -> bool:
        """Tell whether to evaluate when ``step`` steps are done and more are to come."""
        at_all = self._every > 0 and step > 0 and step % self._every == 0
        return at_all and step not in self.curve.get(f"{_PREFIX}step", [])

    def run(self, step: int) -> None:
        """Evaluate, and take the point down.

        Raises:
            StoppedError: The monitor wanted to stop meanwhile.
            UserError: The detections are no finite numbers.
        """
        start = time.perf_counter()
        values = self.add(step, self._look())
        self.seconds += time.perf_counter() - start
        found = ", ".join(f"{n.removeprefix(_PREFIX)} {v:.1f}" for n, v in values.items())
        self._monitor.say(f"after step {step} of {self._num_steps}: {found}")

    def add(self, step: int, metrics: Metrics) -> dict[str, float]:
        """Take a point down and return its values by name of series.

        Without ground truth of a kind, which is so in all evaluations of a run, there is none.
        """
        found = {name: metrics.get(name) for name in _KEPT}
        values = {f"{_PREFIX}{name}": v for name, v in found.items() if v is not None}
        for name, value in {f"{_PREFIX}step": step, **values}.items():
            self.curve.setdefault(name, []).append(value)
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)
        return values

    def notes(self) -> dict[str, Any]:
        """Return the points and the time, as plain values."""
        return {_NOTES: {"curve": self.curve, "seconds": self.seconds}}

    def restore(self, notes: Mapping[str, Any]) -> None:
        """Take over the points and the time of an earlier start."""
        found = notes.get(_NOTES, {})
        self.curve = found.get("curve", {})
        self.seconds = found.get("seconds", 0.0)
