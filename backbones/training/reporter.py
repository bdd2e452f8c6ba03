"""What a training tells: progress, curve, speed, and whether it waits for images."""

from typing import Any, Protocol

from backbones.base.monitor import Monitor, Progress
from backbones.training.journal import WARMING_STEPS, Journal
from backbones.training.schedules import Plan

# From these shares of the time on, waiting for images is worth a hint, and the word "bound".
_WORTH_A_HINT = 0.1
LOADER_BOUND = 0.5


class ScalarWriter(Protocol):
    """The part of TensorBoard's SummaryWriter that is used here."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> Any:
        """Note a value."""


class Reporter:
    """Tells the monitor, and keeps the journal, over all starts of a run.

    Attributes:
        journal: Curve and clock.
    """

    def __init__(
        self,
        plan: Plan,
        notes: dict[str, Any],
        monitor: Monitor,
        writer: ScalarWriter | None,
        phase: str,
    ) -> None:
        """Go on from the ``notes`` of an earlier start, empty for none."""
        self.journal = Journal(plan.num_steps, plan.batch_size, notes)
        self._plan = plan
        self._monitor = monitor
        self._writer = writer
        self._phase = phase
        self._waits: list[float] = notes.get("waits", [0, 0.0])
        self._latest: dict[str, float] = {}

    def notes(self) -> dict[str, Any]:
        """Return what has to survive a restart."""
        return self.journal.notes() | {"waits": self._waits}

    @property
    def wait_share(self) -> float:
        """Share of the time that the device has nothing to do because no images are there.

        A wait counts where the device had done all its work when it began; elsewhere the
        loader has time until the device has caught up.
        """
        waits, waited = self._waits
        seconds = self.journal.seconds_per_step
        if not waits or not seconds:
            return 0.0
        return min(1.0, waited / waits / seconds)

    def waited(self, seconds: float) -> None:
        """Count the wait for the images of one step, which an idle device had to share."""
        if self.journal.steps_here >= WARMING_STEPS:
            self._waits = [self._waits[0] + 1, self._waits[1] + seconds]

    def read(self, step: int, values: dict[str, float]) -> None:
        """Take down losses and metrics of the step that made ``step`` steps done."""
        self._latest = values
        lr = self._plan.lr_at((step - 1) / self._plan.num_steps)
        point = self.journal.take_down(step, lr, values)
        for name, value in point.items():
            if self._writer is not None and name != "step":
                self._writer.add_scalar(f"train/{name}", value, step)

    def end_step(self, step: int) -> None:
        """Stop the clock and tell the monitor; ``step`` steps are done."""
        self.journal.end_step()
        self._monitor.progress(
            Progress(
                phase=self._phase,
                step=step,
                num_steps=self._plan.num_steps,
                images_per_second=self.journal.recent_images_per_second,
                losses=self._latest,
                lr=self._plan.lr_at((step - 1) / self._plan.num_steps),
            )
        )

    def sentence(self) -> str:
        """Return speed and what bounds it, for people."""
        speed = self.journal.images_per_second
        if speed is None:
            return "too short to be timed."
        bound = ", bound by the loader" if self.wait_share >= LOADER_BOUND else ""
        hint = ": more cores or loader processes would help"
        return (
            f"{speed:.1f} images/s{bound}; "
            f"{100 * self.wait_share:.0f} % of the time went by waiting for images"
            f"{hint if self.wait_share >= _WORTH_A_HINT else ''}."
        )
