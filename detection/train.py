"""Training from the newest saved state to the end of the plan."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from detectron2.engine import HookBase, hooks
from detectron2.utils.events import TensorboardXWriter
from torch import nn

from backbones.base.distributed import any_rank, barrier, rank, world_size
from backbones.base.errors import StoppedError
from backbones.base.monitor import Monitor, Progress
from backbones.training.journal import Journal
from backbones.training.state import StateFolder, TrainingState, collect, restore
from detection.evaluations import Evaluated, EvaluationPlan, Evaluator
from detection.schedule import Plan
from detection.trainer import Batch, Trainer, Training

# Folder of its files, within the run's.
TENSORBOARD = "tensorboard"
_TENSORBOARD_STEPS = 20
# Under which a state's notes hold what evaluations found.
_EVALUATED = "evaluated"
# Ranks agree on stopping by a collective, which is not worth its wait in every step.
_STOP_STEPS = 10


@dataclass(frozen=True)
class Trained:
    """How a training went.

    Attributes:
        curve: Columns "step", "lr", "loss" and one per named loss; means between two points.
        images_per_second: Over all devices, without warming up and saving; None when too short.
        seconds: Spent on steps, over all starts of the run.
        evaluated: What evaluations on the way found.
    """

    curve: dict[str, list[float]]
    images_per_second: float | None
    seconds: float
    evaluated: Evaluated


class _Reporter(HookBase):
    """Tells the monitor, and keeps the journal."""

    def __init__(self, monitor: Monitor, plan: Plan, notes: dict[str, Any]) -> None:
        self._monitor = monitor
        self._plan = plan
        self.journal = Journal(plan.num_steps, plan.batch_size, notes)

    def before_step(self) -> None:
        """Start the clock."""
        self.journal.begin_step()

    def after_step(self) -> None:
        """Take time and losses down."""
        self.journal.end_step()
        step = self.trainer.iter + 1
        lr = self._plan.lr * self._plan.factor(self.trainer.iter)
        self.journal.take_down(step, lr, self.trainer.latest)
        self._monitor.progress(
            Progress(
                phase="train",
                step=step,
                num_steps=self._plan.num_steps,
                images_per_second=self.journal.recent_images_per_second,
                losses=self.trainer.latest,
                lr=lr,
            )
        )


class _Saver(HookBase):
    """Saves the state from time to time, at the end, and when the run has to stop."""

    def __init__(
        self,
        training: Training,
        states: StateFolder,
        monitor: Monitor,
        notes: Callable[[], dict[str, Any]],
    ) -> None:
        self._training = training
        self._states = states
        self._monitor = monitor
        self._notes = notes
        schedule = training.config.schedule
        self._every = max(1, schedule.checkpoint_images // schedule.batch_size)
        self._saved = 0

    def after_step(self) -> None:
        """Save, and stop where that is wanted.

        Raises:
            StoppedError: The monitor wants the run to stop; the state is saved.
        """
        step = self.trainer.iter + 1
        finished = step == self.trainer.max_iter
        alone = world_size() == 1
        asked = (alone or step % _STOP_STEPS == 0) and any_rank(self._monitor.should_stop())
        if finished or asked or step % self._every == 0:
            self._save(step)
        if asked and not finished:
            self.leave(step, f"Stopped after step {step} of {self.trainer.max_iter}; saved.")

    def leave(self, step: int, sentence: str) -> None:
        """Stop all processes with the state of ``step``, which is the one they are in, saved.

        Raises:
            StoppedError: Always.
        """
        if self._saved != step:
            self._save(step)
        # Whoever started the processes ends the others soon after one of them has left.
        barrier()
        raise StoppedError(sentence)

    def _save(self, step: int) -> None:
        self.trainer.settle()
        if rank() == 0:
            tensors = collect(self._training.detector, self._training.optimizer)
            self._states.save(TrainingState(step, tensors, self._notes()))
        self._saved = step


def train(
    training: Training,
    wrap: Callable[[nn.Module], nn.Module],
    batches_from: Callable[[int], Iterator[Batch]],
    monitor: Monitor,
    looks: EvaluationPlan | None = None,
) -> Trained:
    """Train to the end of the plan, going on from the newest saved state.

    Args:
        training: What to train.
        wrap: Wraps the detector for distributed training.
        batches_from: This rank's micro-batches from a step on.
        monitor: Told of progress; asked whether to stop.
        looks: Evaluations on the way; None for none.

    Raises:
        StoppedError: The monitor wanted to stop; the state is saved.
        UserError: A loss is no finite number, or the folder holds another run's state.
        PreflightError: The state cannot be written.
    """
    states = StateFolder(training.folder / "states", training.identity)
    state = states.newest(monitor.say)
    if state is not None:
        restore(training.detector, training.optimizer, state.tensors)
        monitor.say(f"Going on from step {state.step} of {training.plan.num_steps}.")
    start, notes = (state.step, state.notes) if state is not None else (0, {})
    reporter = _Reporter(monitor, training.plan, notes)
    evaluated = Evaluated(**notes.get(_EVALUATED, {}))
    if start < training.plan.num_steps:
        batches = batches_from(start)
        trainer = Trainer(training, wrap(training.detector), batches)
        writers = [TensorboardXWriter(str(training.folder / TENSORBOARD))] if rank() == 0 else []
        saver = _Saver(
            training,
            states,
            monitor,
            lambda: {**reporter.journal.notes(), _EVALUATED: vars(evaluated)},
        )
        if looks is not None:
            # First of all, so that the clock of a step starts behind it.
            trainer.register_hooks([Evaluator(looks, evaluated, monitor, saver.leave)])
        trainer.register_hooks(
            [reporter, hooks.PeriodicWriter(writers, period=_TENSORBOARD_STEPS), saver]
        )
        trainer.train(start, training.plan.num_steps)
    journal = reporter.journal
    return Trained(journal.curve, journal.images_per_second, journal.seconds, evaluated)
