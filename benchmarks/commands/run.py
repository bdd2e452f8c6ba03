"""``run.py [run]``: plan, run, record, and show the leaderboard."""

import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from backbones.base.wording import command
from benchmarks import output
from benchmarks.commands.executors import (
    advice,
    check_batches,
    check_flags,
    has_gpus,
    make_executor,
    preview,
)
from benchmarks.commands.outlook import outlook
from benchmarks.commands.plan_view import plan_lines, plan_table
from benchmarks.data.collections import parse_sets
from benchmarks.data.roots import refuse_unused
from benchmarks.entries import parse_entries
from benchmarks.local.terminal import Screen
from benchmarks.options import HowToRun, RunOptions
from benchmarks.plan.assemble import PlanRequest, assemble
from benchmarks.plan.plan import Cell, chosen, make_plan
from benchmarks.plan.weights import first_weights
from benchmarks.store.collections import remember
from benchmarks.store.folders import Store
from benchmarks.store.killed_writes import planning_noted, remove_killed_writes
from benchmarks.store.spec import RunRequest
from benchmarks.suites import choose_suite
from benchmarks.text_table import terminal_width
from benchmarks.work.contract import STOPPED as INTERRUPTED
from benchmarks.work.outcome import Ended
from benchmarks.work.starts import find_start

SOME_FAILED, CANNOT_SERVE = 3, 4


Report = Callable[[HowToRun, Store, Sequence[Cell], Sequence[Ended]], int]


def main(options: RunOptions) -> int:
    """Run the command.

    Raises:
        UserError: The request is wrong, or cannot be served; nothing has been run then.
    """
    store = Store(options.out)
    if not options.dry_run:
        store.check_writable()
    given, collection = parse_sets(options.data)
    faults: dict[str, str] = {}
    with facts_cache(options, store) as cache:
        requests = assemble(_order(options, store, given), cache, faults)
    usable = {name: path for name, path in given.items() if name not in faults}
    refuse_unused(usable, (request.data for request in requests))
    if not options.dry_run:
        remember(store.root, collection, requests, faults)
    for name, why in faults.items():
        output.note(output.clean(f"--data {name} is left out: {why}"))
    code = carry_out(options, store, requests, partial(show_results, left_out=faults))
    return SOME_FAILED if faults and not code else code


@contextmanager
def facts_cache(options: HowToRun, store: Store) -> Iterator[Path]:
    """Give the folder that facts of data are remembered in; ``--rerun all`` finds it empty.

    Args:
        options: How to run.
        store: Folder of runs.
    """
    if options.dry_run and options.rerun != "all":
        yield store.cache
    elif options.dry_run:
        with TemporaryDirectory() as folder:
            yield Path(folder)
    else:
        if options.rerun == "all":
            store.forget()
        with planning_noted(store):
            yield store.cache


def carry_out(
    options: HowToRun, store: Store, requests: Sequence[RunRequest], reporter: Report
) -> int:
    """Plan, run and report requests; return the exit code.

    Args:
        options: How to execute the runs.
        store: Folder of runs.
        requests: The runs.
        reporter: Shows the outcome and returns the exit code.
    """
    check_flags(options)
    # Standard output is kept for what a program reads: one JSON document, or the script.
    for_programs = options.json or (options.executor == "print" and not options.dry_run)
    say, stream = (output.note, sys.stderr) if for_programs else (output.line, sys.stdout)
    gpu = has_gpus(options)
    scan = store.scan()
    cells = make_plan(requests, store, scan, gpu)
    todo = chosen(cells, options.rerun)
    check_batches(options, todo)
    plan = [*plan_table(cells, terminal_width(stream)), *plan_lines(cells, todo, gpu)]
    plan += advice(options, todo)
    for text in [*plan, *outlook(options, todo, gpu)]:
        say(text)
    if options.dry_run or options.json:
        # Below a table they are named anyway.
        output.left_out(scan.rejected)
    if options.dry_run:
        for text in preview(options, store, todo):
            say(text)
        if options.json:
            output.document({"exit_code": 0, "cells": [facts(cell) for cell in cells]})
        return 0
    remove_killed_writes(store, scan.unfinished)
    ended = _run(options, store, todo)
    if any(end.end in ("submitted", "unsubmitted") for end in ended):
        return _report_submitted(options, cells, ended)
    if len(ended) < len(todo) or any(end.end == "stopped" for end in ended):
        output.note(f"Interrupted; nothing is lost. This goes on:\n  {_command()}")
        return INTERRUPTED
    return reporter(options, store, cells, ended)


def _order(options: RunOptions, store: Store, given: Mapping[str, Path]) -> PlanRequest:
    suite = choose_suite(options.suite, options.tasks)
    entries, recipe = list(options.entries), options.recipe
    start = find_start(store, options.init_from, options.plugins) if options.init_from else None
    if start is not None:
        entries = entries or ([start.entry] if start.entry else [])
        recipe = recipe or start.recipe
    return PlanRequest(
        suite=suite,
        entries=parse_entries(entries),
        recipe=recipe,
        overrides=options.overrides,
        seeds=options.seeds,
        data=given,
        plugins=options.plugins,
        evaluator=options.evaluator,
        limit_images=options.limit_images,
        start=start,
    )


def _run(options: HowToRun, store: Store, todo: Sequence[Cell]) -> list[Ended]:
    if not todo:
        return []
    screen = Screen(sys.stderr if options.json else sys.stdout)
    return list(make_executor(options, store, screen, todo).run(todo))


def show_results(
    options: HowToRun,
    store: Store,
    cells: Sequence[Cell],
    ended: Sequence[Ended],
    left_out: Mapping[str, str] | None = None,
) -> int:
    """Show the leaderboard and what is not done; return the exit code.

    Args:
        options: How the runs were executed.
        store: Folder of runs.
        cells: The plan.
        ended: Runs that ended.
        left_out: Why data sets were left out, by name.
    """
    # A plan is shown without them, and faster.
    from benchmarks.commands.leaderboard import show
    from benchmarks.leaderboard.formats.sheets import to_json
    from benchmarks.leaderboard.shown import shown_tables

    scan = store.scan()
    code = exit_code(cells, ended)
    if options.json:
        now = make_plan([cell.request for cell in cells], store, scan)
        tables = to_json(shown_tables(scan, store))
        content: dict[str, Any] = {"exit_code": code or (SOME_FAILED if left_out else 0)}
        if left_out:
            content |= {"left_out": dict(left_out)}
        content |= {"cells": [facts(cell) for cell in now], "leaderboard": tables}
        output.document(content)
        return code
    show(scan, store, "table")
    if ended:
        output.line(_next_steps(options, cells))
    print_failures(ended)
    return code


def _next_steps(options: HowToRun, cells: Sequence[Cell]) -> str:
    """Return where the records are, and the commands that a person probably wants next."""
    where = ["--out", options.out] if options.out != Path("runs") else []
    entries = list(dict.fromkeys(cell.request.entry for cell in cells))
    steps = [command("leaderboard", "--html", "board.html", *where)]
    if len(entries) > 1:
        steps.insert(0, command("compare", *entries[:2], *where))
    return f"records: {options.out}; next: {', '.join(steps)}"


def print_failures(ended: Sequence[Ended]) -> None:
    """Print a line for every run that is not done, with the reason."""
    several = len({end.cell.request.data.name for end in ended}) > 1
    for end in ended:
        if end.end != "done":
            request = end.cell.request
            name = f"{request.entry} on {request.data.name}" if several else request.entry
            output.note(output.clean(f"{name}, seed {request.spec.seed}: {end.message}"))


def _report_submitted(options: HowToRun, cells: Sequence[Cell], ended: Sequence[Ended]) -> int:
    """Print where runs were submitted that this command does not wait for; return the exit code."""
    submitted = {e.cell.request.spec.run_id: e.message for e in ended if e.end == "submitted"}
    left = [end for end in ended if end.end == "unsubmitted"]
    code = (SOME_FAILED if submitted else CANNOT_SERVE) if left else 0
    if options.json:
        content = {"exit_code": code, "cells": [facts(cell) for cell in cells]}
        not_in = [end.cell.request.spec.run_id for end in left]
        output.document({**content, "submitted": submitted, "unsubmitted": not_in})
    elif options.executor == "slurm" and submitted:
        # In the order of their submission, which numbers as text would not keep.
        jobs = dict.fromkeys(message.partition("_")[0] for message in submitted.values())
        status, board = (command(name, "--out", options.out) for name in ("status", "leaderboard"))
        output.line(
            f"submitted {len(submitted)} runs ({', '.join(jobs)}); {status} and {board} say how "
            "far they are"
        )
    print_failures([end for end in ended if end.end not in ("submitted", "unsubmitted")])
    if left:
        output.note(
            f"{len(left)} of {len(ended)} runs are not submitted: {left[0].message}. Run the same "
            "command again when some of your jobs have ended, or add --wait."
        )
    return code


def exit_code(cells: Sequence[Cell], ended: Sequence[Ended]) -> int:
    """Return 0, 3 if some runs failed, or the failure's own code if no run succeeded.

    A request of which no part could be served for a reason the user can fix is a wrong request,
    not a sweep with casualties.
    """
    touched = {end.cell.request.spec.run_id for end in ended}
    left = [cell for cell in cells if cell.request.spec.run_id not in touched]
    failed = [end for end in ended if end.end in ("failed", "lost", "blocked")]
    kept = [end for end in ended if end.end == "done"] + [c for c in left if c.state == "done"]
    codes = {end.exit_code for end in failed}
    if not kept and len(codes) == 1:
        return codes.pop()
    if failed or any(cell.state == "failed" for cell in left):
        return SOME_FAILED
    return CANNOT_SERVE if any(end.end == "busy" for end in ended) else 0


def facts(cell: Cell) -> dict[str, Any]:
    """Return a cell as plain JSON values."""
    request = cell.request
    metrics = cell.record.metrics if cell.record else {}
    return {
        "run_id": request.spec.run_id,
        "entry": request.entry,
        "task": request.spec.task,
        "data": request.data.name,
        "recipe": request.recipe,
        "protocol": request.protocol,
        "seed": request.spec.seed,
        "state": cell.state,
        "note": cell.note,
        "weights": request.source,
        "weights_notes": [*first_weights(request), *request.weights_notes],
        "num_steps": request.num_steps,
        "num_images": request.num_images,
        "estimated_seconds": cell.estimate.device_seconds if cell.estimate else None,
        "estimated_from": cell.estimate.basis if cell.estimate else None,
        "metrics": {name: value.value for name, value in metrics.items()},
    }


def _command() -> str:
    program = Path(sys.argv[0]).name
    start = ["python", sys.argv[0]] if program.endswith(".py") else [program]
    return shlex.join([*start, *sys.argv[1:]])
