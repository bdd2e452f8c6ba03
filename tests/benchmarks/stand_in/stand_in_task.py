"""A task that counts steps instead of training; the environment says how it goes.

STAND_IN_SLEEP: seconds a step. STAND_IN_GATE: a file that step 3 waits for. STAND_IN_HOLD: so many
starts of a run wait in their third step until they are told to stop. STAND_IN_FAIL:
``BACKBONE=HOW``, where HOW is user, crash, memory, exit, kill, fill, fill-late, nan or share (the
same mistake in all processes, the first a while behind).
STAND_IN_UNMEASURED: why it has no APmask. STAND_IN_VERSION: of the task. STAND_IN_LR: a constant of
the recipe. STAND_IN_WORKERS: forked processes beside it, as those of a data loader.
"""

import json
import multiprocessing
import os
import signal
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from backbones.base.errors import PreflightError, StoppedError
from backbones.base.files import cannot_write, write_json_atomically
from backbones.base.monitor import Progress
from backbones.base.reading import reading
from backbones.base.sections import OUTSIDE_IDENTITY
from benchmarks.data.roots import find_coco_root
from benchmarks.task import Facts, Metric, Task, TaskResult, Workload


@dataclass(frozen=True)
class Schedule:
    batch_size: int = 4
    num_steps: int = 10
    watch: int = field(default=0, metadata=OUTSIDE_IDENTITY)


@dataclass(frozen=True)
class Optim:
    lr: float = field(default_factory=lambda: float(os.environ.get("STAND_IN_LR", "0.1")))
    betas: tuple[float, float] = (0.9, 0.999)


@dataclass(frozen=True)
class Config:
    protocol: str = "stand-in/v1"
    schedule: Schedule = field(default_factory=Schedule)
    optim: Optim = field(default_factory=Optim)


class StandInTask(Task):
    name = "coco"
    version = int(os.environ.get("STAND_IN_VERSION", "1"))
    headline = "APbox"
    evaluators = ("one", "two")
    distributed = True
    libraries = ()
    data_kind = "coco"
    columns = ("APbox", "APmask")
    metrics: ClassVar = {"APbox": Metric(), "APmask": Metric(), "AP50box": Metric()}

    def find_data(self, given):
        return find_coco_root(given)

    def read_facts(self, data, cache):
        return Facts("facts-of-" + data.name, 100, 10)

    def recipes(self):
        return {"mini": Config, "long": lambda: Config(schedule=Schedule(num_steps=50))}

    def default_recipe(self, backbone, data):
        return "mini"

    def check(self, config):
        return config

    def workload(self, config, facts, limit_images):
        schedule = config.schedule
        images = schedule.batch_size * schedule.num_steps
        at_once = schedule.batch_size // 2
        return Workload(
            config.protocol, "fp32", schedule.batch_size, schedule.num_steps, images, at_once
        )

    def try_out(self, backbone, checkpoint, folder):
        if os.environ.get("STAND_IN_FAIL") == f"{backbone.name}=crash":
            raise RuntimeError("shapes differ")
        return "counted"

    def run(self, inputs, monitor):
        work = inputs.out_dir
        work.mkdir(parents=True, exist_ok=True)
        if os.environ.get("STAND_IN_FAIL") == f"{inputs.backbone.name}=share":
            time.sleep(0 if int(os.environ["RANK"]) else 7)
            raise PreflightError("The batch cannot be shared out.")
        if int(os.environ.get("RANK", "0")):
            return _follow(work, inputs.config.schedule.num_steps, monitor)
        with _workers(int(os.environ.get("STAND_IN_WORKERS", "0"))):
            return self._count(inputs, monitor, work)

    def take_part(self, inputs, monitor):
        self.run(inputs, monitor)

    def _count(self, inputs, monitor, work):
        monitor.say(f"training {inputs.backbone.name} from step {_saved(work)}")
        num_steps, first = inputs.config.schedule.num_steps, _saved(work)
        held = _begin(work) <= int(os.environ.get("STAND_IN_HOLD", "0"))
        for step in range(first, num_steps):
            _maybe_fail(inputs.backbone.name, step, work)
            _wait_for_permission(step)
            while held and step == first + 2 and not monitor.should_stop():
                time.sleep(0.02)
            time.sleep(float(os.environ.get("STAND_IN_SLEEP", "0")))
            with (work / "steps.txt").open("a") as file:
                file.write(f"{step}\n")
            monitor.progress(Progress("train", step + 1, num_steps, 8.0, {"loss": 1.0}, 0.1))
            write_json_atomically(work / "state.json", step + 1)
            if monitor.should_stop():
                raise StoppedError
        detections = work / "detections.json"
        detections.write_text("[]")
        if os.environ.get("STAND_IN_FAIL") == f"{inputs.backbone.name}=fill-late":
            with suppress(PreflightError):
                _fill_the_disk(work / "fill.bin")
        score = 10.0 + len(inputs.backbone.name) + inputs.seed
        said = os.environ.get("STAND_IN_UNMEASURED")
        bad = os.environ.get("STAND_IN_FAIL", "") == f"{inputs.backbone.name}=nan"
        return TaskResult(
            metrics={"APbox": float("nan") if bad else score, "APmask": None, "AP50box": 2 * score},
            per_class={"ring": {"APbox": score}},
            cost={"images_per_second_train": 8.0, "seconds": 2.0, "gflops": None},
            curves={"step": list(range(1000)), "loss": [1.0] * 1000},
            coverage="all loaded",
            details={"groups": [1, 2], "watch": inputs.config.schedule.watch},
            files=(detections,),
            **({"unmeasured": said} if said else {}),
        )


@contextmanager
def _workers(number):
    workers = [multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,))
               for _ in range(number)]  # fmt: skip
    for worker in workers:
        worker.start()
    try:
        yield
        assert all(worker.is_alive() for worker in workers), "a signal ended a loader worker"
    finally:
        for worker in workers:
            worker.kill()


def _follow(work, num_steps, monitor):
    """Wait as a further rank does, in step with the first."""
    (work / f"rank-{os.environ['RANK']}.pid").write_text(str(os.getpid()))
    while _saved(work) < num_steps:
        if os.environ.get("STAND_IN_FOLLOWER") == "memory":
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        if monitor.should_stop():
            raise StoppedError
        time.sleep(0.02)


def _begin(work: Path) -> int:
    """Return which start of the run this is."""
    starts = work / "starts.txt"
    with starts.open("a") as file:
        file.write("start\n")
    return len(starts.read_text().split())


def _saved(work: Path) -> int:
    state = work / "state.json"
    return json.loads(state.read_text()) if state.exists() else 0


def _wait_for_permission(step: int) -> None:
    gate = os.environ.get("STAND_IN_GATE")
    while gate and step == 3 and not Path(gate).exists():
        time.sleep(0.02)


def _fill_the_disk(path: Path) -> None:
    try:
        with path.open("wb") as file:
            while True:
                file.write(b"x" * 4096)
                file.flush()
    except OSError as error:
        raise cannot_write(path, error) from error


def _maybe_fail(backbone: str, step: int, work: Path) -> None:
    name, _, how = os.environ.get("STAND_IN_FAIL", "").partition("=")
    if name != backbone or step < 5:
        return
    if how == "fill":
        _fill_the_disk(work / "fill.bin")
    if how == "user":
        raise PreflightError("The image 7.jpg is truncated.")
    if how == "crash":
        raise RuntimeError("shapes differ\nand more")
    if how == "memory":
        raise RuntimeError("CUDA out of memory. Tried to allocate")
    if how == "exit":
        raise SystemExit(0)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    _maybe_crash(how)


def _maybe_crash(how: str) -> None:
    if how.isdecimal():
        with reading("/data/7.jpg with its annotations"):
            signal.raise_signal(int(how))


TASK = StandInTask()
