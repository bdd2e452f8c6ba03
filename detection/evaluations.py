"""Evaluations during training: when they are due, and the curve that they make."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from detectron2.engine import HookBase
from detectron2.utils.events import EventStorage, TensorboardXWriter

from backbones.base.errors import StoppedError
from backbones.base.monitor import Monitor
from detection.config import EvaluationConfig
from detection.schedule import Plan

Metrics = Mapping[str, float | None]
# A series NAME of a curve "evaluation/NAME" lies over "evaluation/step", losses over "step".
_PREFIX = "evaluation/"
_KEPT = ("APbox", "APmask")


@dataclass(frozen=True)
class EvaluationPlan:
    """How a training is looked at on its way.

    Attributes:
        every: Steps between two looks; 0 for none.
        look: Returns the metrics of the detector as it is; every process calls it.
    """

    every: int
    look: Callable[[], Metrics]

    def due(self, step: int) -> bool:
        """Tell whether to look when ``step`` steps are done and more are to come."""
        return self.every > 0 and step > 0 and step % self.every == 0


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


@dataclass
class Evaluated:
    """What the evaluations of a run found, over all its starts; plain values.

    Attributes:
        curve: Columns "evaluation/step", "evaluation/APbox" and, with masks, "evaluation/APmask";
            empty without any.
        seconds: They took, which are none of training's.
    """

    curve: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = 0.0

    def knows(self, step: int) -> bool:
        """Tell whether there is a point for ``step`` already."""
        return step in self.curve.get(f"{_PREFIX}step", [])

    def add(self, step: int, metrics: Metrics) -> dict[str, float]:
        """Take a point down and return its values by name of series.

        Without ground truth of a kind, which is so in all evaluations of a run, there is none.
        """
        found = {name: metrics.get(name) for name in _KEPT}
        values = {f"{_PREFIX}{name}": v for name, v in found.items() if v is not None}
        for name, value in {f"{_PREFIX}step": step, **values}.items():
            self.curve.setdefault(name, []).append(value)
        return values


class Evaluator(HookBase):
    """Evaluates before the step that follows one at which that is due.

    So a run that goes on from the state of such a step, because it was stopped before or within
    the evaluation, makes up for it.
    """

    def __init__(
        self,
        looks: EvaluationPlan,
        evaluated: Evaluated,
        monitor: Monitor,
        leave: Callable[[int, str], None],
    ) -> None:
        """Set up.

        Args:
            looks: When, and how.
            evaluated: Gets the points.
            monitor: Hears of each.
            leave: Saves the state of a step and ends the training, with a sentence.
        """
        self._looks = looks
        self._evaluated = evaluated
        self._monitor = monitor
        self._leave = leave

    def before_step(self) -> None:
        """Evaluate where that is due.

        Raises:
            StoppedError: The monitor wanted to stop meanwhile; the state is saved.
            UserError: A loss, or the detections, are no finite numbers.
        """
        step = self.trainer.iter
        if not self._looks.due(step) or self._evaluated.knows(step):
            return
        self.trainer.settle()
        start = time.perf_counter()
        try:
            metrics = self._looks.look()
        except StoppedError:
            self._leave(step, f"Stopped in the evaluation after step {step}; saved.")
            raise
        values = self._evaluated.add(step, metrics)
        self._evaluated.seconds += time.perf_counter() - start
        self.trainer.storage.put_scalars(cur_iter=step, smoothing_hint=False, **values)
        found = ", ".join(f"{n.removeprefix(_PREFIX)} {v:.1f}" for n, v in values.items())
        self._monitor.say(f"after step {step} of {self.trainer.max_iter}: {found}")


def write_last(folder: Path, step: int, values: Mapping[str, float]) -> None:
    """Write the last point of the curve to TensorBoard's files, when training is over."""
    with EventStorage(step) as storage:
        storage.put_scalars(cur_iter=step, smoothing_hint=False, **values)
        writer = TensorboardXWriter(str(folder))
        writer.write()
        writer.close()
