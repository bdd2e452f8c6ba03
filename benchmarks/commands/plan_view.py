"""A plan as text: what is done, what would run, and what that costs."""

from collections import Counter
from collections.abc import Sequence

from benchmarks.data.roots import VARIABLES
from benchmarks.local.terminal import duration
from benchmarks.output import clean
from benchmarks.plan.plan import Cell
from benchmarks.plan.weights import FIRST_WEIGHTS, PROTOCOL
from benchmarks.text_table import Column, text_table

_COLUMNS = (
    Column("task", "task", priority=1),
    Column("entry", "entry"),
    Column("data", "data"),
    Column("recipe", "recipe"),
    Column("seed", "seed", numeric=True),
    Column("state", "state"),
    Column("steps", "steps", numeric=True, priority=3),
    Column("images", "images", numeric=True, priority=4),
    Column("time", "est. time", numeric=True, priority=2),
    Column("run", "run"),
    Column("note", "note", below=True),
)


def plan_table(cells: Sequence[Cell], width: int | None = None) -> list[str]:
    """Return the plan as lines, one for each run; an empty plan has none.

    Args:
        cells: The plan.
        width: In characters; None takes that of standard output.
    """
    if not cells:
        return []
    rows = [
        {
            "task": cell.request.spec.task,
            "entry": cell.request.entry,
            "data": cell.request.data.name,
            "recipe": cell.request.recipe,
            "seed": str(cell.request.spec.seed),
            "state": cell.state,
            "steps": f"{cell.request.num_steps:,}",
            "images": f"{cell.request.num_images:,}",
            "time": _time(cell),
            "run": cell.request.spec.run_id,
            "note": cell.note,
        }
        for cell in cells
    ]
    several = len({(row["task"], row["data"]) for row in rows}) > len({r["task"] for r in rows})
    columns = [column for column in _COLUMNS if several or column.key != "data"]
    return text_table(columns, rows, width)


def plan_lines(cells: Sequence[Cell], todo: Sequence[Cell], gpu: bool) -> list[str]:
    """Return what a person must know before it starts: data, weights, counts, cost.

    Args:
        cells: The plan.
        todo: Those of its cells that would run.
        gpu: Whether the runs get GPUs.
    """
    return [*_data_lines(cells), _counts(cells, todo), *_cost(todo, gpu), *_hints(cells, todo)]


def _time(cell: Cell) -> str:
    """Return the time of a run on one device; one that is guessed is marked."""
    if cell.estimate is None:
        return "unknown"
    mark = "" if cell.estimate.basis == "measured" else "~"
    return mark + duration(cell.estimate.device_seconds)


def _data_lines(cells: Sequence[Cell]) -> list[str]:
    roots = dict.fromkeys(cell.request.data for cell in cells)
    lines = [f"data: {clean(str(root.path))} ({root.origin})" for root in roots if not root.mini]
    notes = dict.fromkeys(note for cell in cells for note in cell.request.notes)
    lines += [
        clean(note) if note.startswith((FIRST_WEIGHTS, PROTOCOL)) else f"data: {clean(note)}"
        for note in notes
    ]
    used = {cell.request.entry: cell.request.weights_notes for cell in cells}
    lines += [f"weights of {clean(entry)}: {clean('; '.join(n))}" for entry, n in used.items() if n]
    mini = sorted({root.kind for root in roots if root.mini})
    if mini:
        places = [f"--data {kind}" for kind in mini] + [VARIABLES[kind] for kind in mini]
        *names, last = dict.fromkeys(places)
        lines.append(
            f"data: neither {', '.join(names)} nor {last} is given, so this is the embedded mini "
            "data; its numbers are for trying out only"
        )
    return lines


def _counts(cells: Sequence[Cell], todo: Sequence[Cell]) -> str:
    if not cells:
        return "nothing to run"
    counts = Counter(cell.state for cell in cells)
    states = ", ".join(f"{number} {state}" for state, number in counts.items())
    return f"{states}; {f'{len(todo)} to run' if todo else 'nothing to run'}"


def _cost(todo: Sequence[Cell], gpu: bool) -> list[str]:
    if not todo:
        return []
    images = sum(cell.request.num_images for cell in todo)
    steps = sum(cell.request.num_steps for cell in todo)
    known = [cell.estimate for cell in todo if cell.estimate is not None]
    total = sum(estimate.device_seconds for estimate in known)
    time = f"{total / 3600:,.1f} GPU-hours" if gpu else f"{duration(total)} of one process"
    bases = Counter(estimate.basis for estimate in known)
    parts = [
        f"{number} {basis}"
        for number, basis in (
            (bases["measured"], "at rates measured here before"),
            (bases["FLOPs"], "guessed (~) from FLOPs"),
            (len(todo) - len(known), "unknown until measured"),
        )
        if number
    ]
    said = f"about {time}: {', '.join(parts)}" if known else "time unknown until measured"
    return [f"cost: {steps:,} steps, {images:,} images; {said}"]


def _hints(cells: Sequence[Cell], todo: Sequence[Cell]) -> list[str]:
    ids = {cell.request.spec.run_id for cell in todo}
    left = Counter(cell.state for cell in cells if cell.request.spec.run_id not in ids)
    return [
        f"{left[state]} {state}: --rerun {state} does {'it' if left[state] == 1 else 'them'} again"
        for state in ("failed", "stale")
        if left[state]
    ]
