"""The loop: batches to losses to updates, on any device, resumed exactly."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import Any, NoReturn, Protocol

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from backbones.base.devices import arithmetic_of
from backbones.base.distributed import any_rank, barrier, rank, world_size
from backbones.base.errors import StoppedError
from backbones.base.monitor import Monitor, SilentMonitor
from backbones.timing.alone import Rehearsal
from backbones.training.config import OptimSettings, RuntimeConfig, ScheduleSettings
from backbones.training.fitted import Fitted
from backbones.training.journal import WARMING_STEPS
from backbones.training.objective import Batch, Moment, Objective
from backbones.training.optim import clip_gradients, set_rates
from backbones.training.preparation import draws_of, made_ready
from backbones.training.readback import PendingLosses, Readback
from backbones.training.reporter import Reporter, ScalarWriter
from backbones.training.schedules import Plan
from backbones.training.settle import memory_reached
from backbones.training.state import (
    StateFolder,
    TrainingState,
    collect,
    random_seed,
    restore,
    seed_generators,
)
from backbones.training.stream import Loaded, Share, refuse_too_many

# Ranks agree on stopping by a collective, which is not worth its wait in every step.
_STOP_STEPS = 10


class Pause(Protocol):
    """What all processes do together between two steps, such as an evaluation.

    It comes before the next step. So a run that was stopped before it, or within it, makes up for
    it when it goes on; and its time does not count as training time.

    Attributes:
        name: For people: "evaluation".
    """

    name: str

    def due(self, step: int) -> bool:
        """Tell whether to pause now that ``step`` steps are done and at least one is left."""

    def run(self, step: int) -> None:
        """Do it, losses and weights being checked.

        Raises:
            StoppedError: The monitor wants the run to stop.
        """

    def notes(self) -> dict[str, Any]:
        """Return what has to survive a restart, as plain values."""

    def restore(self, notes: Mapping[str, Any]) -> None:
        """Go on from the notes of an earlier start, of which ``notes()`` is a part if any."""


@dataclass(frozen=True)
class Training:
    """What a training is made of.

    Attributes:
        objective: On its device, not wrapped.
        optimizer: Over its trainable parameters.
        plan: Rates and length in steps.
        share: This process's share of each step.
        seed_key: All random draws of a forward depend on it, on the step and on the micro-batch's
            number in the global batch, and on nothing else.
        ready: Turns what the loader made into what the objective takes, on its device.
        optim: For the bound on gradients.
        schedule: For precision and the time between states.
        runtime: How the work is done.
        max_corrupt: So many different images may be unreadable.
        phase: What the run is doing, in a word for people.
        bound: The setting that bounds gradients, which a message about NaN names.
        pause: What is done between steps, if anything.
        fewer: Images to hold at once where memory runs out, see ``training.settle``.
    """

    objective: Objective
    optimizer: Optimizer
    plan: Plan
    share: Share
    seed_key: tuple[int | str, ...]
    ready: Callable[[Batch], Batch]
    optim: OptimSettings
    schedule: ScheduleSettings
    runtime: RuntimeConfig
    max_corrupt: int = 0
    phase: str = "pretrain"
    bound: str = "optim.clip"
    pause: Pause | None = None
    fewer: int | None = None


@dataclass(frozen=True)
class Hook:
    """Something that is done after certain steps, on the first process, losses being checked.

    Attributes:
        due: Told how many steps are done.
        run: Likewise.
    """

    due: Callable[[int], bool]
    run: Callable[[int], None]


def fit(
    training: Training,
    states: StateFolder,
    batches_from: Callable[[int], Iterator[Loaded]],
    monitor: Monitor,
    hooks: Sequence[Hook] = (),
    writer: ScalarWriter | None = None,
) -> Fitted:
    """Train to the end of the plan, going on from the newest saved state.

    Args:
        training: What to train.
        states: Where states lie.
        batches_from: This process's micro-batches from a step on.
        monitor: Told of progress; asked whether to stop.
        hooks: What else is to be done after steps.
        writer: For curves in TensorBoard.

    Raises:
        StoppedError: The monitor wanted to stop; the state is saved.
        UserError: A loss is no finite number, or the folder holds another run's state.
        PreflightError: A state cannot be written, or too many images cannot be read, or a GPU ran
            out of memory (``DeviceFullError``).
    """
    state = states.newest(monitor.say)
    start = 0
    if state is not None:
        restore(training.objective, training.optimizer, state.tensors)
        monitor.say(f"Going on from step {state.step} of {training.plan.num_steps}.")
        start = state.step
    notes = state.notes if state is not None else {}
    reporter = Reporter(training.plan, notes, monitor, writer, training.phase)
    loop = _Loop(training, states, reporter, monitor)
    loop.arithmetic += notes.get("arithmetic", [])
    loop.unreadable.update({int(k): v for k, v in notes.get("unreadable", {}).items()})
    if training.pause is not None:
        training.pause.restore(notes)
    if start < training.plan.num_steps:
        with memory_reached(training.share.micro_size, training.fewer):
            loop.run(start, batches_from(start), hooks)
    return Fitted(
        curve=reporter.journal.curve,
        images_per_second=reporter.journal.images_per_second,
        wait_share=reporter.wait_share,
        seconds=reporter.journal.seconds,
        speed=reporter.sentence(),
        unreadable=tuple(loop.unreadable.values()),
        arithmetic=tuple(loop.arithmetic),
        rehearse=lambda: loop.rehearse(batches_from),
    )


class _Loop:
    """Runs steps. State between two of them is in the objective, the optimizer and the reporter."""

    def __init__(
        self, training: Training, states: StateFolder, reporter: Reporter, monitor: Monitor
    ) -> None:
        self._training = training
        self._states = states
        self._reporter = reporter
        self._monitor = monitor
        self._device = next(training.objective.parameters()).device
        self._draws = draws_of(
            training.objective,
            training.schedule.batch_size_per_device,
            training.share.micro_size,
            self._device,
        )
        self._module = made_ready(training.objective, training.runtime, self._device)
        self._readback = Readback(states, reporter, _remedy(training))
        self._idle = True
        self._saved = -1
        self.unreadable: dict[int, str] = {}
        self.arithmetic: list[str] = []

    def run(self, start: int, stream: Iterator[Loaded], hooks: Sequence[Hook]) -> None:
        """Run the steps from ``start`` to the end."""
        training = self._training
        training.objective.train()
        own = arithmetic_of(self._device)
        if own not in self.arithmetic:
            self.arithmetic.append(own)
        read_every = 1 if self._device.type == "cpu" else training.runtime.read_every
        for step in range(start, training.plan.num_steps):
            self._pause(step)
            self._reporter.journal.begin_step()
            self._step(step, stream)
            if (step + 1) % read_every == 0 or step - start == WARMING_STEPS - 1:
                self._read()
            self._reporter.end_step(step + 1)
            self._after(step + 1, hooks)

    def rehearse(self, batches_from: Callable[[int], Iterator[Loaded]]) -> Rehearsal:
        """Return the last step with the images of the first, of which nothing is noted or told."""
        training, share = self._training, self._training.share
        loaded = list(islice(batches_from(0), share.micro_batches))
        self._monitor = SilentMonitor()
        self._reporter = Reporter(training.plan, {}, self._monitor, None, training.phase)
        self._readback = Readback(self._states, self._reporter, _remedy(training))

        def step() -> None:
            self._step(training.plan.num_steps - 1, iter(loaded))
            self._read()

        training.objective.train()
        return Rehearsal(step, share.micro_batches * share.micro_size)

    def _pause(self, step: int) -> None:
        """Do what all processes do between steps, where it is due.

        Raises:
            StoppedError: The monitor wants the run to stop; the state is saved.
        """
        pause = self._training.pause
        if pause is None or not pause.due(step):
            return
        self._check(step)
        try:
            pause.run(step)
        except StoppedError:
            self._stop(step, f"Stopped in the {pause.name} after step {step}; saved.")

    def _step(self, step: int, stream: Iterator[Loaded]) -> None:
        """Make one update from all micro-batches of this process."""
        training, plan = self._training, self._training.plan
        moment = Moment(step, plan.num_steps, plan.epoch(step))
        set_rates(
            training.optimizer, plan.lr_at(moment.progress), plan.weight_decay_at(moment.progress)
        )
        training.optimizer.zero_grad(set_to_none=True)
        training.objective.begin_step(moment)
        self._readback.add(self._backward(step, stream))
        if self._device.type == "cpu":
            self._read()
        training.objective.before_update(moment)
        clip_gradients(training.optimizer, training.optim)
        training.optimizer.step()
        training.objective.after_update(moment)

    def _backward(self, step: int, stream: Iterator[Loaded]) -> PendingLosses:
        """Add up the gradients of all micro-batches."""
        share = self._training.share
        losses: dict[str, Tensor] = {}
        metrics: dict[str, Tensor] = {}
        images: list[int | str] = []
        for micro in range(share.micro_batches):
            loaded = self._next(stream)
            images += loaded.images
            ready = self._training.ready(loaded.batch)
            with self._synced_with_last(micro), self._seeded(step, share.number(micro)):
                found = self._forward(step, ready, loaded.images)
                loss = torch.stack([value.float() for value in found.values()]).sum()
                (loss / share.micro_batches).backward()  # type: ignore[no-untyped-call]
            if self._draws is not None:
                self._draws.forget()
            _add(losses, found, share.micro_batches)
            _add(metrics, self._training.objective.metrics(), share.micro_batches)
        values = torch.stack([*losses.values(), *(m.to(loss.device) for m in metrics.values())])
        return PendingLosses(step, [*losses, *metrics], len(losses), values, images)

    def _seeded(self, step: int, number: int) -> AbstractContextManager[Any]:
        """Seed what a forward draws from, as the recipe's micro-batches would each be seeded."""
        key = self._training.seed_key
        if self._draws is None:
            seed_generators(*key, step, number)
            return nullcontext()
        numbers = self._draws.numbers(number)
        seed_generators(*key, step, numbers[0])
        return self._draws.seeded([random_seed(*key, step, one) for one in numbers], number)

    def _forward(self, step: int, batch: Batch, images: Sequence[int | str]) -> dict[str, Tensor]:
        """Return the losses; an objective's own alarm at NaN becomes a sentence."""
        try:
            with self._autocast():
                found: dict[str, Tensor] = self._module(batch)
        except FloatingPointError as error:
            raise self._readback.diverged(step, str(error).rstrip("."), images) from error
        return found

    def _next(self, stream: Iterator[Loaded]) -> Loaded:
        """Return the next micro-batch, and note how long it took and what could not be read."""
        start = time.perf_counter()
        loaded = next(stream)
        if self._idle:
            # One micro-batch stands for all of its step.
            waited = time.perf_counter() - start
            self._reporter.waited(waited * self._training.share.micro_batches)
            self._idle = self._device.type == "cpu"
        for index, text in loaded.unreadable.items():
            if index not in self.unreadable:
                self.unreadable[index] = text
                self._monitor.say(f"Skipped an image that cannot be read: {text}")
        refuse_too_many(self.unreadable, self._training.max_corrupt)
        return loaded

    def _read(self) -> None:
        if self._readback.read():
            self._idle = True

    def _after(self, step: int, hooks: Sequence[Hook]) -> None:
        """Save, run hooks and stop where that is due.

        Raises:
            StoppedError: The monitor wants the run to stop; the state is saved.
            UserError: A weight is no finite number.
        """
        plan, schedule = self._training.plan, self._training.schedule
        finished = step == plan.num_steps
        alone = world_size() == 1
        asked = (alone or step % _STOP_STEPS == 0) and any_rank(self._monitor.should_stop())
        save_every = max(1, schedule.state_images // schedule.batch_size)
        due = [hook for hook in hooks if hook.due(step)]
        saves = finished or asked or step % save_every == 0
        if due or saves:
            self._check(step)
        for hook in due if rank() == 0 else []:
            hook.run(step)
        if saves:
            self._save(step)
        if asked and not finished:
            self._stop(step, f"Stopped after step {step} of {plan.num_steps}; saved.")

    def _check(self, step: int) -> None:
        """Refuse losses and weights that are no finite numbers."""
        self._read()
        self._readback.check_weights(step, self._training.objective)

    def _stop(self, step: int, sentence: str) -> NoReturn:
        """End the training on all processes, with the state of ``step`` saved."""
        if self._saved != step:
            self._save(step)
        # Whoever started the processes ends the others soon after one of them has left.
        barrier()
        raise StoppedError(sentence)

    def _save(self, step: int) -> None:
        self._saved = step
        if rank() > 0:
            return
        tensors = collect(self._training.objective, self._training.optimizer)
        notes = self._reporter.notes()
        notes |= {"unreadable": self.unreadable, "arithmetic": self.arithmetic}
        if self._training.pause is not None:
            notes |= self._training.pause.notes()
        self._states.save(TrainingState(step, tensors, notes))

    def _autocast(self) -> AbstractContextManager[Any]:
        if self._training.schedule.precision == "bf16":
            return torch.autocast(self._device.type, torch.bfloat16)
        return nullcontext()

    def _synced_with_last(self, micro: int) -> AbstractContextManager[Any]:
        """Exchange gradients only with the last micro-batch."""
        last = micro == self._training.share.micro_batches - 1
        if isinstance(self._module, DistributedDataParallel) and not last:
            return self._module.no_sync()
        return nullcontext()


def _remedy(training: Training) -> str:
    """Say what to do about losses or weights that are no finite numbers."""
    plan = training.plan
    lower = f"Lower optim.base_lr (the learning rate is {plan.lr:g} at batch {plan.batch_size})"
    if training.schedule.precision == "fp32":
        return f"{lower} or set {training.bound}, with --set."
    return f"{lower}, set {training.bound} or use schedule.precision=fp32, with --set."


def _add(sums: dict[str, Tensor], values: dict[str, Tensor], parts: int) -> None:
    """Add each value's share of a mean over ``parts``."""
    for name, value in values.items():
        part = value.detach().float() / parts
        sums[name] = sums[name] + part if name in sums else part
