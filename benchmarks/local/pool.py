"""Run a plan on this machine: one worker process at a time, or several."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.local.fork import ForkServer
from benchmarks.local.process import WorkerProcess
from benchmarks.local.resources import Allocation
from benchmarks.local.terminal import Line, Screen, duration
from benchmarks.plan.plan import Cell
from benchmarks.store.folders import Store
from benchmarks.store.spec import not_ready
from benchmarks.suites import get_task
from benchmarks.work.interrupt import Interrupt
from benchmarks.work.outcome import Ended

_REFRESH_SECONDS = 0.25


@dataclass
class _Running:
    process: WorkerProcess
    allocation: Allocation
    line: Line


class Pool:
    """Does the runs of a plan as processes of this machine, one per allocation at a time.

    Args:
        store: Folder of runs.
        screen: Shows progress.
        fresh: Delete what earlier attempts left.
        allocations: Parts of the machine; at least one, all equal if they have no GPUs.
        fork: Load libraries once and fork workers. Not on GPUs: there a run takes hours, so the
            seconds do not count, and a driver does not survive a fork.
    """

    def __init__(
        self,
        store: Store,
        screen: Screen,
        fresh: bool,
        allocations: Sequence[Allocation] = (Allocation(),),
        fork: bool = False,
    ) -> None:
        self._store = store
        self._screen = screen
        self._fresh = fresh
        self._free = list(allocations)
        self._several = len(allocations) > 1
        # A run of several processes has an environment of its own.
        self._fork = fork and all(allocation.processes == 1 for allocation in allocations)
        self._server: ForkServer | None = None
        self._running: list[_Running] = []
        self._not_done: set[str] = set()
        self._interrupt = Interrupt(self._end_at_once)

    def run(self, cells: Sequence[Cell]) -> Iterator[Ended]:
        """Do the runs and yield each as it ends; the others go on if one fails.

        Ends early, with ``stopped`` for each active run, if somebody asks to stop.
        """
        self._interrupt.install()
        waiting = list(cells)
        if self._fork:
            self._server = ForkServer(_libraries(cells))
        titles = _titles(cells)
        try:
            while self._running or (waiting and not self._interrupt.requested):
                if self._interrupt.requested:
                    self._stop()
                yield from self._fill(waiting, titles)
                yield from self._poll()
        finally:
            # Also if the caller does not take the remaining results.
            for running in self._running:
                running.process.stop()

    def _fill(self, waiting: list[Cell], titles: dict[str, str]) -> Iterator[Ended]:
        """Start runs that can start, and end runs that need a run that did not succeed."""
        for cell in list(waiting):
            if self._interrupt.requested or not self._free:
                return
            if self._needed_later(cell, waiting):
                continue
            waiting.remove(cell)
            line = self._screen.begin(titles[cell.request.spec.run_id])
            if cell.request.needs in self._not_done:
                yield self._end(Ended(cell, "blocked", not_ready(cell.request)), line)
                continue
            allocation = self._free.pop(0)
            folder = self._store.prepare(cell.request)
            process = WorkerProcess(
                cell,
                folder,
                self._fresh,
                allocation.environment(),
                allocation.processes,
                self._server,
            )
            self._running.append(_Running(process, allocation, line))

    def _needed_later(self, cell: Cell, waiting: Sequence[Cell]) -> bool:
        unfinished = [*waiting, *(running.process.cell for running in self._running)]
        return any(other.request.spec.run_id == cell.request.needs for other in unfinished)

    def _poll(self) -> Iterator[Ended]:
        """Show the progress of all runs, and free the allocations of those that ended."""
        if not self._running:
            return
        self._running[0].process.wait(_REFRESH_SECONDS)
        for running in list(self._running):
            code = running.process.poll()
            for text in running.process.lines():
                running.line.say(text) if self._several else self._screen.say(text)
            beat = running.process.heartbeat()
            if beat is not None:
                running.line.show(beat)
            if code is not None:
                self._running.remove(running)
                self._free.append(running.allocation)
                yield self._end(running.process.ended(code), running.line)

    def _end(self, ended: Ended, line: Line) -> Ended:
        line.end(_last_line(ended))
        if ended.end != "done":
            self._not_done.add(ended.cell.request.spec.run_id)
        return ended

    def _stop(self) -> None:
        asked = [running for running in self._running if running.process.stop()]
        if asked:
            self._screen.say("Stopping once the state is saved; Ctrl-C again ends at once.")

    def _end_at_once(self) -> None:
        for running in self._running:
            running.process.kill()
        raise KeyboardInterrupt


def _libraries(cells: Sequence[Cell]) -> list[str]:
    tasks = dict.fromkeys(cell.request.spec.task for cell in cells)
    return list(dict.fromkeys(name for task in tasks for name in get_task(task).libraries))


def _titles(cells: Sequence[Cell]) -> dict[str, str]:
    """Return, by run id, a title that differs from those of the other runs."""
    specs = [cell.request.spec for cell in cells]
    several_seeds = len({spec.seed for spec in specs}) > 1
    several_tasks = len({spec.task for spec in specs}) > 1
    titles = {}
    for number, cell in enumerate(cells, 1):
        spec = cell.request.spec
        task = f"{spec.task} " if several_tasks else ""
        seed = f" seed {spec.seed}" if several_seeds else ""
        titles[spec.run_id] = f"[{number}/{len(cells)}] {task}{cell.request.entry}{seed}"
    return titles


def _last_line(ended: Ended) -> str:
    if ended.end == "stopped":
        return "stopped, state saved"
    if ended.end == "busy":
        return "skipped"
    if ended.end == "blocked":
        return f"blocked: {ended.message}"
    if ended.record is None or ended.end == "failed":
        return f"failed: {ended.message}"
    record = ended.record
    value = record.value(record.headline)
    shown = f"{record.headline} {value:.1f}" if value is not None else "done"
    seconds = record.cost.get("seconds")
    took = f"  {duration(seconds)}" if seconds else ""
    return f"{shown}{took}  record {record.run_id}"
