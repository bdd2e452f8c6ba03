"""Suites: which tasks make up a question, and which entries answer it by default."""

import importlib
import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from backbones.base.errors import UserError
from backbones.base.registry import lookup
from benchmarks import tasks
from benchmarks.by_image.images import ImageFile
from benchmarks.data.roots import DataRoot
from benchmarks.entries import Entry, parse_entries
from benchmarks.task import EXTERNAL, PRETRAIN, Measurement, Task

# Each network fresh, then as methods made for it leave it.
MINI_ENTRIES = ("vit-nano", "mae-nano", "lomar-nano", "swin-nano", "esvit-nano", "resnet-nano")


@dataclass(frozen=True)
class Suite:
    """A question and the tasks that answer it.

    A task joins a suite by an edit here. Until then it is a suite of its own, see ``all_suites``.

    Attributes:
        name: As typed after ``--suite``.
        tasks: Names of its tasks.
        about: One line for ``run.py list``.
        on_request: Names of further tasks that ``--tasks`` may name; the suite does not run them
            by itself.
    """

    name: str
    tasks: tuple[str, ...]
    about: str
    on_request: tuple[str, ...] = ()

    @property
    def choices(self) -> tuple[str, ...]:
        """Every task that ``--tasks`` may name."""
        return (*self.tasks, *self.on_request)

    @property
    def labelled(self) -> bool:
        """Whether some task measures labelled images, so that ``--data NAME=DIR`` may bring any."""
        return any(get_task(name).data_kind == "imagenet" for name in self.tasks)

    def default_entries(self, data: DataRoot, recipe: str | None) -> list[Entry]:
        """Return the entries that run when nobody names any.

        Args:
            data: Where the data lies.
            recipe: The recipe that was asked for, if any.

        Raises:
            UserError: The data are real, where no choice of ours would be the right one.
        """
        if data.mini or recipe == "mini":
            return parse_entries(list(MINI_ENTRIES))
        raise UserError(
            f"With real data ({data.path}) say what to measure, for example --entries "
            "timm:resnet50.a1_in1k or ckpt:FILE?arch=vit-b16&format=mae; `run.py list` names more."
        )


_COCO = ("coco",)
_REGIONS = ("regions",)
_IMAGENET = ("knn", "linear", "lowshot", "finetune", "correspondence")

SUITES = {
    suite.name: suite
    for suite in (
        Suite(
            "coco",
            _COCO,
            "Mask R-CNN on COCO-format data: APbox, APmask and their cost; on request, regions",
            on_request=_REGIONS,
        ),
        Suite(
            "imagenet",
            _IMAGENET,
            "k-NN, linear probe, few labels, fine-tuning and regions on labelled images",
        ),
        Suite(
            "analysis",
            ("correspondence", "attention", "partial"),
            "what regions, heads and single blocks know, with pictures",
        ),
        Suite("all", (*_COCO, *_REGIONS, *_IMAGENET), "both, in one table for each checkpoint"),
    )
}


def all_suites() -> dict[str, Suite]:
    """Return the suites by name, and every task that is in none of them as a suite of its own."""
    known = {PRETRAIN, *(task for suite in SUITES.values() for task in suite.tasks)}
    own = {
        name: Suite(name, (name,), f"the task {name} only")
        for name in task_names()
        if name not in known
    }
    return {**SUITES, **own}


def suite_tasks() -> list[str]:
    """Return the name of every task that a suite measures: all but pretraining."""
    return [name for name in task_names() if name != PRETRAIN]


def get_suite(name: str) -> Suite:
    """Return a suite by name.

    Raises:
        UserError: There is no such suite.
    """
    return lookup("suite", name, all_suites())


def choose_suite(name: str, wanted: Sequence[str]) -> Suite:
    """Return the suite that a person means, with the wanted tasks alone.

    Args:
        name: Of a suite; empty for the first one that has all wanted tasks.
        wanted: Names of tasks; none of them means every task of the suite.

    Raises:
        UserError: There is no such suite or task, or none has all of these tasks.
    """
    suites = all_suites()
    if EXTERNAL in wanted:
        raise UserError(f"--tasks {EXTERNAL}: results files are scored by `run.py score`.")
    for task in wanted:
        lookup("task", task, {known: known for known in suite_tasks()})
    for suite in [get_suite(name)] if name else suites.values():
        if set(wanted) <= set(suite.choices):
            kept = tuple(task for task in suite.choices if task in wanted)
            return replace(suite, tasks=kept or suite.tasks)
    missing = ", ".join(task for task in wanted if name and task not in suites[name].choices)
    why = f"the suite {name} has no {missing}" if name else "no one suite has all of these"
    which = [f"{suite.name} has {', '.join(suite.choices)}" for suite in suites.values()]
    raise UserError(f"--tasks {','.join(wanted)}: {why}; {'; '.join(which)}.")


@cache
def measurement_names() -> tuple[str, ...]:
    """Return the name of everything that records may hold numbers of, tasks included."""
    names = (info.name for info in pkgutil.iter_modules(tasks.__path__) if info.ispkg)
    return tuple(sorted(names))


def task_names() -> tuple[str, ...]:
    """Return the name of every task there is."""
    return tuple(name for name in measurement_names() if name != EXTERNAL)


def get_task(name: str) -> Task:
    """Return the task that ``benchmarks/tasks/NAME/task.py`` defines as ``TASK``.

    Raises:
        UserError: There is no such task.
    """
    task: Task = _defined(lookup("task", name, {known: known for known in task_names()}))
    return task


def get_measurement(name: str) -> Measurement:
    """Return a measurement by name, from its ``task.py`` as tasks are.

    Raises:
        UserError: No measurement has this name.
    """
    known = {known: known for known in measurement_names()}
    measurement: Measurement = _defined(lookup("task", name, known))
    return measurement


@cache
def _defined(name: str) -> Any:
    return importlib.import_module(f"benchmarks.tasks.{name}.task").TASK


def find_measurement(name: str) -> Measurement | None:
    """Return what a record or a table names, None if this version has no such measurement."""
    return get_measurement(name) if name in measurement_names() else None


def find_task(name: str) -> Task | None:
    """Return the task that a plan or a table names, None if this version has no such task."""
    return get_task(name) if name in task_names() else None


def image_file_of(name: str) -> ImageFile | None:
    """Return the file in which runs keep their results by image, None if there is none.

    Args:
        name: Of a task or another measurement, as in a record; this version may lack it.
    """
    found = find_measurement(name)
    return found.image_file if found else None
