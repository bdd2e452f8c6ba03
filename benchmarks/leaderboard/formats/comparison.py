"""How comparisons look on a terminal."""

from collections.abc import Sequence

from benchmarks.leaderboard.formats.cells import DOUBT_MARKS, about_doubts, title
from benchmarks.leaderboard.statistics.compare import Comparison, Pair
from benchmarks.leaderboard.statistics.detections import ClassPair, ImageDifference
from benchmarks.leaderboard.statistics.results import Difference, Interval
from benchmarks.leaderboard.statistics.selection import Mismatch
from benchmarks.store.timing import Doubt
from benchmarks.text_table import Column, text_table

_MISSING = "—"
_MOST_CLASSES = 10
_LONGEST = 60
_COSTS = {
    "parameters_millions": "parameters, millions",
    "gflops": "GFLOPs",
    "images_per_second_train": "images/s, training",
    "images_per_second_test": "images/s, testing",
    "peak_memory_gib": "memory, GiB",
    "seconds": "seconds of training",
}


def lines_of(comparison: Comparison, loaded_rates: bool = False) -> list[str]:
    """Return a comparison without its verdict, as lines.

    Args:
        comparison: The comparison.
        loaded_rates: Also give the ratio of costs that must not be compared.
    """
    pairs = (*comparison.headline, *comparison.others, *comparison.sizes)
    several = len(comparison.names) > 2
    rows = [_pair_row(comparison, pair, several) for pair in pairs]
    columns = [
        Column("metric", "metric"),
        *([Column("pair", "pair")] if several else []),
        Column("first", "first" if several else comparison.names[0], True, 1, short="first_alone"),
        Column(
            "second", "second" if several else comparison.names[1], True, 1, short="second_alone"
        ),
        Column("difference", "difference", numeric=True),
        Column("p", "p", numeric=True, priority=2),
        Column("floor", "seed noise", numeric=True, priority=3),
        Column("word", "first is" if several else f"{comparison.names[0]} is"),
    ]
    seeds = " vs ".join(str(len(row.seeds)) for row in comparison.table.rows)
    images = f"{comparison.num_images} images" if comparison.num_images else "no images"
    return [
        "",
        title(comparison.table),
        f"seeds {seeds}; intervals of 95 % over {images}; p corrected for the number of "
        "comparisons (Holm)",
        *text_table(columns, rows),
        "",
        *_cost_lines(comparison, loaded_rates),
    ]


def fact_lines(comparison: Comparison) -> list[str]:
    """Return the facts about the detectors in which the subjects differ."""
    if not comparison.facts:
        return []
    columns = [
        Column("fact", "fact about the detector"),
        *(Column(str(n), name) for n, name in enumerate(comparison.names)),
    ]
    rows = [
        {"fact": fact, **{str(n): _cut(value) for n, value in enumerate(values)}}
        for fact, values in comparison.facts.items()
    ]
    return ["", *text_table(columns, rows)]


def _cut(text: str) -> str:
    """Return a text that fits a cell; ``--json`` has all of it."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def class_lines(comparison: Comparison, classes: Sequence[ClassPair]) -> list[str]:
    """Return the classes that differ most, largest difference first."""
    if not classes:
        return []
    ordered = sorted(classes, key=lambda own: -abs(own.pair.difference.value))
    several = len(comparison.names) > 2
    rows = [
        {
            "name": own.name,
            "pair": _pair_name(comparison, own.pair),
            **_difference_cells(own.pair.difference),
        }
        for own in ordered[:_MOST_CLASSES]
    ]
    columns = [
        Column("name", "class"),
        *([Column("pair", "pair")] if several else []),
        Column("difference", "APbox difference", numeric=True),
        Column("p", "p", numeric=True),
        Column("word", "first is" if several else f"{comparison.names[0]} is"),
    ]
    more = len(ordered) - len(rows)
    apart = sum(own.pair.difference.word in ("better", "worse") for own in classes)
    tail = f"({more} more with --json; " if more else "("
    return ["", *text_table(columns, rows), f"{tail}{apart} of {len(classes)} are no ties)"]


def image_lines(comparison: Comparison, images: Sequence[ImageDifference]) -> list[str]:
    """Return the images on which the subjects differ most."""
    if not images:
        return []
    columns = [
        Column("image", "image", numeric=True),
        *(Column(str(n), f"AP of {name}", numeric=True) for n, name in enumerate(comparison.names)),
    ]
    rows = [
        {"image": str(own.image_id), **{str(n): f"{s:.0f}" for n, s in enumerate(own.scores)}}
        for own in images
    ]
    return ["", *text_table(columns, rows)]


def mismatch_lines(names: Sequence[str], mismatch: Mismatch) -> list[str]:
    """Return why one task is not compared."""
    columns = [
        Column("field", "field"),
        *(Column(str(n), name) for n, name in enumerate(names)),
    ]
    rows = [
        {"field": field, **{str(n): value for n, value in enumerate(values)}}
        for field, values in mismatch.fields.items()
    ]
    return [
        "",
        f"Refused: {mismatch.task} was not measured by the same rules on the same data.",
        *text_table(columns, rows),
    ]


def _pair_row(comparison: Comparison, pair: Pair, several: bool) -> dict[str, str]:
    intervals = comparison.intervals[pair.metric]
    floor = comparison.noise[pair.metric].floor
    return {
        "metric": pair.metric,
        "pair": _pair_name(comparison, pair) if several else "",
        "first": _interval(intervals[pair.first]),
        "second": _interval(intervals[pair.second]),
        "first_alone": _value(intervals[pair.first]),
        "second_alone": _value(intervals[pair.second]),
        "floor": _MISSING if floor is None else f"±{floor:.1f}",
        **_difference_cells(pair.difference),
    }


def _pair_name(comparison: Comparison, pair: Pair) -> str:
    return f"{comparison.names[pair.first]} - {comparison.names[pair.second]}"


def _difference_cells(found: Difference) -> dict[str, str]:
    known = found.low is not None and found.high is not None
    ends = f" [{found.low:+.1f}, {found.high:+.1f}]" if known else ""
    return {
        "difference": f"{found.value:+.1f}{ends}",
        "p": _MISSING if found.p_corrected is None else _chance(found.p_corrected),
        "word": found.word or "not known",
    }


def _chance(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _value(interval: Interval | None) -> str:
    return _MISSING if interval is None else f"{interval.value:.1f}"


def _interval(interval: Interval | None) -> str:
    if interval is None:
        return _MISSING
    if interval.low is None or interval.high is None:
        return f"{interval.value:.1f}"
    return f"{interval.value:.1f} [{interval.low:.1f}, {interval.high:.1f}]"


def _cost_lines(comparison: Comparison, loaded_rates: bool) -> list[str]:
    """Return costs side by side, and how the others' are to the first's, where that says much."""
    rows = []
    for key, values in comparison.costs.items():
        if all(value is None for value in values):
            continue
        doubts = comparison.doubts[key]
        cells = {}
        for n, value in enumerate(values):
            comparable = loaded_rates or not (doubts[0] or doubts[n])
            cells[str(n)] = _cost(value, values[0] if comparable else None, doubts[n])
        rows.append({"cost": _COSTS[key], **cells})
    columns = [
        Column("cost", "cost"),
        *(Column(str(n), name, numeric=True) for n, name in enumerate(comparison.names)),
    ]
    about = about_doubts(comparison.table.rows, comparison.costs)
    hint = "--loaded-rates gives their ratios all the same" if about and not loaded_rates else ""
    return [*text_table(columns, rows), *about, *filter(None, [hint])] if rows else []


def _cost(value: float | None, first: float | None, doubt: Doubt | None) -> str:
    if value is None:
        return _MISSING
    ratio = f" ({value / first:.2f}x)" if first and value != first else ""
    mark = f" {DOUBT_MARKS[doubt]}" if doubt else ""
    return f"{value:.3g}{mark}{ratio}"
