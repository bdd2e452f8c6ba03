"""Whether the runs of two rows rounded their sums alike."""

from collections.abc import Mapping, Sequence

from benchmarks.leaderboard.rows import Row
from benchmarks.store.record import RunRecord

# Of a record's environment, what decides how floating-point sums round, and what to call it.
_ARITHMETIC = {
    "gpus": "GPUs",
    "kernels": "kernels of torch",
    "instructions": "instruction sets",
    "threads_used": "numbers of threads",
    "processes": "numbers of processes",
}
# On a GPU these decide nothing.
_OF_CPU = ("kernels", "instructions", "threads_used")
_UNKNOWN = "not recorded"


def about_arithmetic(
    names: Sequence[str], rows: Sequence[Row], records: Mapping[str, RunRecord]
) -> list[str]:
    """Return a sentence for each thing in which the rows' runs differ and which decides rounding.

    What an older record does not say differs from nothing.

    Args:
        names: Of the rows.
        rows: Those that are compared.
        records: By run id.
    """
    sides = [[records[i] for i in row.run_ids if i in records] for row in rows]
    found = []
    for key, what in _ARITHMETIC.items():
        texts = [_texts(runs, key) for runs in sides]
        known = {text for own in texts for text in own if text != _UNKNOWN}
        if len(known) < 2:
            continue
        shared = set.intersection(*(set(text.split()) for text in known))
        named = "; ".join(
            f"{name} {' and '.join(_without(shared, text) for text in own) or 'on a GPU'}"
            for name, own in zip(names, texts, strict=True)
        )
        found.append(
            f"different {what}: {named}. The same seed gives other weights there, so part of a "
            "difference may come from that"
        )
    return found


def _texts(runs: Sequence[RunRecord], key: str) -> list[str]:
    """Return what runs say of a part of their environment, different ones once."""
    found = []
    for run in runs:
        if key in _OF_CPU and run.environment.get("gpus"):
            continue
        value = run.environment.get(key)
        if isinstance(value, list | tuple):
            value = " ".join(dict.fromkeys(map(str, value))) or ("none" if key == "gpus" else None)
        found.append(str(value) if value else _UNKNOWN)
    return list(dict.fromkeys(found))


def _without(shared: set[str], text: str) -> str:
    """Return a text without the words that all sides have, where that leaves any."""
    if text == _UNKNOWN:
        return text
    return " ".join(word for word in text.split() if word not in shared) or "none of them"
