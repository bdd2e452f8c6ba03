"""Send progress to an experiment tracker, in addition to TensorBoard's files.

Everything a tracker does happens in a thread of its own: one that is absent, raises, or hangs says
so in one line at most, and the run neither fails nor waits for it.
"""

import importlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import util
from typing import Protocol

from msgspec.structs import asdict

from backbones.base.errors import PreflightError
from backbones.base.monitor import Progress
from benchmarks.store.folders import RunFolder
from benchmarks.store.record import MetricValue
from benchmarks.store.spec import RunRequest

TRACK = "BACKBENCH_TRACK"
_PROJECT = "backbench"
_EVERY_SECONDS = 5.0
# How long a run waits for its tracker at its end, and when it has to leave.
_END_PATIENCE_SECONDS, _LEAVING_PATIENCE_SECONDS = 30.0, 2.0


class Tracker(Protocol):
    """A run as a tracker knows it; any call may raise."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Take values of a step down."""

    def end(self, metrics: Mapping[str, float]) -> None:
        """Take the results down, empty where there are none, and close the run."""


class Tracking:
    """Sends a run's progress and results to its tracker.

    Args:
        make: Starts the tracker.
        name: Name of the tracker.
        say: Called with a sentence if it fails.
    """

    def __init__(self, make: Callable[[], Tracker], name: str, say: Callable[[str], None]) -> None:
        self._make = make
        self._name = name
        self._say = say
        self._newest: Progress | None = None
        self._metrics: dict[str, float] = {}
        self._patience = _LEAVING_PATIENCE_SECONDS
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._track, daemon=True)
        self._thread.start()

    def progress(self, progress: Progress) -> None:
        """Take notice of a step; what has no losses is left to the heartbeat."""
        if progress.losses:
            self._newest = progress

    def result(self, metrics: Mapping[str, MetricValue]) -> None:
        """Take notice of the results, as a record holds them, once that is written."""
        self._patience = _END_PATIENCE_SECONDS
        found = {name: entry.value for name, entry in metrics.items()}
        self._metrics = {name: value for name, value in found.items() if value is not None}

    def close(self) -> None:
        """Let the tracker finish; the run ends without it if it does not in time."""
        self._end.set()
        self._thread.join(self._patience)
        if self._thread.is_alive():
            self._say(f"{self._name} does not answer; the run ends without its last values.")

    def _track(self) -> None:
        try:
            tracker = self._make()
            logged: Progress | None = None
            ending = False
            while not ending:
                ending = self._end.wait(_EVERY_SECONDS)
                newest = self._newest
                if newest is not None and newest is not logged:
                    tracker.log(_values(newest), newest.step)
                    logged = newest
            tracker.end(self._metrics)
        # Whatever it is, SystemExit included, it is the tracker's own affair.
        except BaseException as error:
            text = (str(error).splitlines() or [""])[0]
            self._say(f"Tracking with {self._name} ended ({type(error).__name__}: {text[:200]}); "
                      "the run goes on.")  # fmt: skip


class _Untracked:
    def progress(self, progress: Progress) -> None:
        """Ignore."""

    def result(self, metrics: Mapping[str, MetricValue]) -> None:
        """Ignore."""


@contextmanager
def tracked(
    request: RunRequest, folder: RunFolder, say: Callable[[str], None]
) -> Iterator[Tracking | _Untracked]:
    """Track a run with the tracker that the environment names, if it names one.

    Args:
        request: The run.
        folder: Folder of the run.
        say: Called with a sentence if the tracker fails.
    """
    name = os.environ.get(TRACK, "")
    if name not in TRACKERS:
        yield _Untracked()
        return
    tracking = Tracking(lambda: TRACKERS[name](request, folder), name, say)
    try:
        yield tracking
    finally:
        tracking.close()


def choose_tracker(name: str) -> None:
    """Make this process and those it starts track with ``name``; empty leaves things as they are.

    Raises:
        PreflightError: It is not installed.
    """
    if not name:
        return
    if util.find_spec(name) is None:
        raise PreflightError(f"--track {name}: it is not installed; pip install {name}.")
    os.environ[TRACK] = name


class _Wandb:
    """Weights & Biases, https://docs.wandb.ai/ref/python/; a requeued run stays one there."""

    def __init__(self, request: RunRequest, folder: RunFolder) -> None:
        wandb = importlib.import_module("wandb")
        folder.work.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project=_PROJECT,
            id=request.spec.run_id,
            name=_title(request),
            group=request.suite,
            config=asdict(request.spec),
            dir=str(folder.work),
            resume="allow",
        )

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Take values of a step down."""
        # wandb drops a step of its own that is behind the last; each phase begins at 1, and a run
        # that goes on from a saved state repeats a few (https://wandb.me/define-metric).
        phase = next(iter(values)).partition("/")[0]
        self._run.define_metric(f"{phase}/*", step_metric=f"{phase}/step")
        self._run.log({**values, f"{phase}/step": step})

    def end(self, metrics: Mapping[str, float]) -> None:
        """Take the results down and close the run."""
        self._run.summary.update(dict(metrics))
        self._run.finish()


class _Mlflow:
    """MLflow, https://mlflow.org/docs/latest/python_api/; which run it is stands in a file."""

    def __init__(self, request: RunRequest, folder: RunFolder) -> None:
        self._mlflow = importlib.import_module("mlflow")
        note = folder.path / "mlflow.txt"
        self._mlflow.set_experiment(_PROJECT)
        known = note.read_text("utf-8") if note.exists() else None
        run = self._mlflow.start_run(run_id=known, run_name=_title(request))
        if known is None:
            note.write_text(run.info.run_id, "utf-8")
            spec = {key: value for key, value in asdict(request.spec).items() if key != "recipe"}
            self._mlflow.log_params({**spec, "recipe": request.recipe, "suite": request.suite})

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Take values of a step down."""
        self._mlflow.log_metrics(dict(values), step=step)

    def end(self, metrics: Mapping[str, float]) -> None:
        """Take the results down and close the run."""
        if metrics:
            self._mlflow.log_metrics(dict(metrics))
        self._mlflow.end_run()


TRACKERS: Mapping[str, Callable[[RunRequest, RunFolder], Tracker]] = {
    "wandb": _Wandb,
    "mlflow": _Mlflow,
}


def _title(request: RunRequest) -> str:
    return f"{request.spec.task} {request.entry} seed {request.spec.seed}"


def _values(progress: Progress) -> dict[str, float]:
    values = {f"{progress.phase}/{name}": value for name, value in (progress.losses or {}).items()}
    values[f"{progress.phase}/images_per_second"] = progress.images_per_second
    if progress.lr is not None:
        values[f"{progress.phase}/lr"] = progress.lr
    return values
