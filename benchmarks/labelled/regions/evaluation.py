"""Test images before a frozen backbone, one batch after another, for a look at single regions."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from backbones.base import devices
from backbones.base.cores import loader_workers
from backbones.base.errors import PreflightError, StoppedError
from backbones.base.monitor import Monitor, Progress
from backbones.base.workers import make_in_workers
from backbones.timing.alone import Rehearsal, time_alone
from backbones.timing.conditions import Rates
from backbones.training.pixels import Pixels
from backbones.training.state import StateFolder, TrainingState
from backbones.training.stream import refuse_too_many
from benchmarks.labelled.features.extract import freeze
from benchmarks.labelled.features.frozen import identity_of
from benchmarks.labelled.features.views import CentralView, Show, ViewBatch
from benchmarks.labelled.regions.config import RegionConfig
from benchmarks.labelled.scores import about_unreadable
from benchmarks.labelled.sets.folders import open_labelled
from benchmarks.task import TaskInputs
from pretrain.data.images import Subset

Views = TypeVar("Views")
# Between two saved states: so much is looked at again after a run was killed.
_STATE_SECONDS = 60.0


@dataclass(frozen=True)
class Seen:
    """A batch of readable images.

    Attributes:
        numbers: (B,) in the split.
        drawn: Of these, the places in the batch of those that are to be drawn.
        views: uint8 (B, V, 3, S, S).
    """

    numbers: list[int]
    drawn: list[int]
    views: Tensor


class RegionEvaluation:
    """A backbone, and test images evenly spread over their split.

    What the images came to is saved now and then, so that a run which stopped goes on behind the
    last batch.

    Attributes:
        frozen: The backbone.
        saved: What an earlier process had collected; empty at first.
        pixels: Normalises on its device.
        unreadable: By number, where images lie that cannot be read, and why.
    """

    def __init__(self, inputs: TaskInputs, monitor: Monitor) -> None:
        """Build the backbone and choose the images.

        Raises:
            UserError: The folder holds the state of another run.
            PreflightError: Weights or images cannot serve.
        """
        self._start = time.perf_counter()
        config: RegionConfig = inputs.config
        self._config = config
        self._monitor = monitor
        self._timed = inputs.timed
        images = open_labelled(inputs.data, inputs.cache, inputs.limit_images)
        self._val = images.val
        count = min(config.look.num_images or len(self._val), len(self._val))
        self.numbers = _spread(len(self._val), count)
        self._drawn = {self.numbers[i] for i in _spread(count, config.look.num_pictures)}
        self.frozen = freeze(inputs.backbone, inputs.checkpoint, config.data.img_size, inputs.seed)
        monitor.say(self.frozen.coverage.sentence())
        self.pixels = Pixels(inputs.backbone, self.frozen.device)
        identity = identity_of(inputs, self.frozen, images.fingerprint)
        self._states = StateFolder(inputs.out_dir / "look", identity)
        state = self._states.newest(monitor.say) or TrainingState(0, {}, {"unreadable": {}})
        self._first, self.saved = state.step, state.tensors
        self.unreadable = {int(number): text for number, text in state.notes["unreadable"].items()}

    def batches(
        self,
        what: str,
        collected: Callable[[], dict[str, Tensor]],
        second: Callable[[Show], Callable[[Sequence[int]], Any]] | None = None,
    ) -> Iterator[Seen]:
        """Yield the images that are left, those that cannot be read left out.

        Args:
            what: For messages.
            collected: Returns all that the images so far came to, to be found in ``saved`` later.
            second: Wraps what makes the central views so that it gives second ones beside; None
                for one view.

        Raises:
            PreflightError: Too many images cannot be read, or none can.
            StoppedError: The monitor asked to stop; what was collected is saved.
        """
        make, keys = self._work(second)
        count, todo = len(self.numbers), keys[self._first :]
        made = make_in_workers(make, todo, loader_workers())
        saved_at = time.perf_counter()
        for number, (key, found) in enumerate(zip(todo, made, strict=True), self._first):
            stop = self._monitor.should_stop()
            if stop or time.perf_counter() - saved_at > _STATE_SECONDS:
                self._save(number, collected())
                saved_at = time.perf_counter()
            if stop:
                raise StoppedError
            yield self._readable(key, found)
            self._monitor.progress(Progress(what, number + 1, len(keys)))
        if len(self.unreadable) == count:
            raise PreflightError(f"Not one of the test images of {self._val.name} can be read.")

    def ready(self, views: Tensor) -> Tensor:
        """Return uint8 views normalised, on the backbone's device."""
        return self.pixels.ready({"pixels": views})["pixels"]

    def warnings(self) -> list[str]:
        """Return what a reader of the numbers should know."""
        return about_unreadable(list(self.unreadable.values()), "test")

    def cost(self) -> dict[str, float | None]:
        """Return what the run cost so far."""
        seconds = time.perf_counter() - self._start
        return {
            "images_per_second_test": len(self.numbers) / seconds,
            "parameters_millions": self.frozen.parameters_millions,
            "peak_memory_gib": devices.peak_memory_gib(),
            "seconds": seconds,
        }

    def rates(
        self,
        look: Callable[[Seen], object],
        second: Callable[[Show], Callable[[Sequence[int]], Any]] | None = None,
    ) -> Rates:
        """Return the speed of the look at a batch, timed alone; nothing where a run is not timed.

        Args:
            look: What is done with a batch; its results are not used.
            second: As for ``batches``.
        """
        if not self._timed:
            return Rates()

        def first_batch() -> Rehearsal:
            make, keys = self._work(second)
            seen = self._readable(keys[0], make(keys[0]))
            return Rehearsal(lambda: look(seen), len(seen.numbers))

        return time_alone({"images_per_second_test": first_batch}, self._monitor)

    def _save(self, finished: int, collected: dict[str, Tensor]) -> None:
        """Keep what the first batches came to."""
        tensors = {name: value.cpu().contiguous() for name, value in collected.items()}
        unreadable = {str(number): text for number, text in self.unreadable.items()}
        self._states.save(TrainingState(finished, tensors, {"unreadable": unreadable}))

    def _work(
        self, second: Callable[[Show], Callable[[Sequence[int]], Any]] | None
    ) -> tuple[Callable[[Sequence[int]], Any], list[range]]:
        """Return what makes the views of a batch, and the batches, as places in ``numbers``."""
        show = Show(Subset(self._val, self.numbers), CentralView.of(self._config.data))
        size, count = self._config.extraction.batch_size, len(self.numbers)
        keys = [range(at, min(at + size, count)) for at in range(0, count, size)]
        return show if second is None else second(show), keys

    def _readable(self, key: range, found: Any) -> Seen:
        """Return the n images of a batch that could be read, views (n, V, 3, S, S)."""
        shown: ViewBatch
        shown, *others = found if isinstance(found, tuple) else (found,)
        self.unreadable |= {self.numbers[key[at]]: text for at, text in shown.unreadable.items()}
        refuse_too_many(self.unreadable, self._config.data.max_corrupt)
        good = [at for at in range(len(key)) if at not in shown.unreadable]
        numbers = [self.numbers[key[at]] for at in good]
        views = torch.stack([shown.pixels, *others], dim=1)[good]
        return Seen(numbers, [i for i, n in enumerate(numbers) if n in self._drawn], views)


def _spread(length: int, count: int) -> list[int]:
    """Return ``count`` numbers below ``length``, at most all of them, evenly spread."""
    places = (np.arange(min(count, length)) + 0.5) * length / max(1, min(count, length))
    return [int(place) for place in places]
