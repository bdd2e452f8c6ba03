"""The facts about a detector that its record keeps, and where rows differ in them."""

from collections.abc import Mapping, Sequence

from benchmarks.store.record import RunRecord

# Where a record keeps the facts, and how the network's weights were laid out.
_FACTS, _LAYOUT = "detector", "layout"
_UNKNOWN, _ABSENT = "not recorded", "—"


def facts_of(record: RunRecord) -> dict[str, str]:
    """Return the facts about a run's detector, by name.

    Returns:
        Empty for runs without a detector, and for those recorded before facts were kept.
    """
    found = record.details.get(_FACTS)
    if not isinstance(found, Mapping):
        return {}
    facts = {str(name): str(value) for name, value in found.items()}
    layout = record.details.get(_LAYOUT)
    return facts | ({"memory format": str(layout)} if layout else {})


def row_facts(records: Sequence[RunRecord]) -> dict[str, str]:
    """Return the facts of a row; where its runs differ in one, all values stand side by side.

    Args:
        records: The runs of the row that are done.
    """
    found: dict[str, list[str]] = {}
    for record in records:
        for name, value in facts_of(record).items():
            found.setdefault(name, []).append(value)
    return {name: " / ".join(dict.fromkeys(values)) for name, values in found.items()}


def differing(rows: Sequence[Mapping[str, str]]) -> dict[str, tuple[str, ...]]:
    """Return the facts in which rows differ, by name, with the value of each row.

    Args:
        rows: Facts of each row; empty where none were recorded.
    """
    if not any(rows):
        return {}
    names = dict.fromkeys(name for facts in rows for name in facts)
    values = {
        name: tuple(facts.get(name, _ABSENT) if facts else _UNKNOWN for facts in rows)
        for name in names
    }
    return {name: own for name, own in values.items() if len(set(own)) > 1}
