"""What all ways to run a plan have in common."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from benchmarks.plan.plan import Cell
from benchmarks.store.record import RunRecord
from benchmarks.work.contract import FAILED

End = Literal["done", "failed", "stopped", "busy", "lost", "blocked", "submitted", "unsubmitted"]


@dataclass(frozen=True)
class Ended:
    """What became of one run of the plan, as far as this command saw it.

    Attributes:
        cell: The run.
        end: "lost" is a process that vanished, its saved state is gone on from; "blocked" was not
            started, because a run it needs is not done; "submitted" goes on without this command;
            "unsubmitted" is a run that Slurm's queue has no place for.
        message: Why, where it is not done.
        record: The outcome, if one was written.
        exit_code: Exit code of a command with only this run.
    """

    cell: Cell
    end: End
    message: str = ""
    record: RunRecord | None = None
    exit_code: int = FAILED


class Executor(Protocol):
    """A way to run a plan."""

    def run(self, cells: Sequence[Cell]) -> Iterator[Ended]:
        """Do or submit the runs, needed ones first, and yield each as soon as its end is known.

        Args:
            cells: The runs; a run that needs another one comes after it.
        """
