"""Suites: which tasks make up a question, and which entries answer it by default. No torch."""

import importlib
import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

from backbones.base.errors import UserError
from backbones.base.registry import lookup
from benchmarks import tasks
from benchmarks.data.roots import DataRoot
from benchmarks.entries import Entry, parse_entries
from benchmarks.task import Task

# Each network fresh, then as methods made for it leave it.
MINI_ENTRIES = ("vit-nano", "mae-nano", "lomar-nano", "swin-nano", "esvit-nano", "resnet-nano")


@dataclass(frozen=True)
class Suite:
    """A question and the tasks that answer it; membership is a deliberate edit.

    Attributes:
        name: As typed.
        tasks: Names of its tasks.
        about: One line for ``run.py list``.
        labelled: Some task measures labelled images, so ``--data NAME=DIR`` may bring any.
    """

    name: str
    tasks: tuple[str, ...]
    about: str
    labelled: bool = False

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
_IMAGENET = ("knn", "linear", "lowshot", "finetune", "correspondence")

SUITES = {
    suite.name: suite
    for suite in (
        Suite("coco", _COCO, "Mask R-CNN on COCO-format data: APbox, APmask and their cost"),
        Suite(
            "imagenet",
            _IMAGENET,
            "k-NN, linear probe, few labels, fine-tuning and regions on labelled images",
            labelled=True,
        ),
        Suite(
            "analysis",
            ("correspondence", "attention", "partial"),
            "what regions, heads and single blocks know, with pictures",
            labelled=True,
        ),
        Suite("all", (*_COCO, *_IMAGENET), "both, in one table for each checkpoint", labelled=True),
    )
}


def get_suite(name: str) -> Suite:
    """Return a suite by name.

    Raises:
        UserError: There is no such suite.
    """
    return lookup("suite", name, SUITES)


def choose_suite(name: str, wanted: Sequence[str]) -> Suite:
    """Return the suite that a person means, with the wanted tasks alone.

    Args:
        name: Of a suite; empty for the first one that has all wanted tasks.
        wanted: Names of tasks; none of them means every task of the suite.

    Raises:
        UserError: There is no such suite or task, or none has all of these tasks.
    """
    known = {task: task for suite in SUITES.values() for task in suite.tasks}
    for task in wanted:
        lookup("task", task, known)
    for suite in [get_suite(name)] if name else SUITES.values():
        if set(wanted) <= set(suite.tasks):
            kept = tuple(task for task in suite.tasks if task in wanted)
            return replace(suite, tasks=kept or suite.tasks)
    missing = ", ".join(task for task in wanted if name and task not in SUITES[name].tasks)
    why = f"the suite {name} has no {missing}" if name else "no one suite has all of these"
    suites = [f"{suite.name} has {', '.join(suite.tasks)}" for suite in SUITES.values()]
    raise UserError(f"--tasks {','.join(wanted)}: {why}; {'; '.join(suites)}.")


def task_names() -> list[str]:
    """Return the name of every task there is."""
    return sorted(info.name for info in pkgutil.iter_modules(tasks.__path__))


@cache
def get_task(name: str) -> Task:
    """Return the task that ``benchmarks/tasks/NAME.py`` defines as ``TASK``.

    Raises:
        UserError: There is no such task.
    """
    known = {known: known for known in task_names()}
    module = importlib.import_module(f"benchmarks.tasks.{lookup('task', name, known)}")
    task: Task = module.TASK
    return task
