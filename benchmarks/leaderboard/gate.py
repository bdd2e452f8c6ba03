"""``--fail-if``: a leaderboard that says no, for continuous integration."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from backbones.base.errors import PreflightError, UserError
from benchmarks.leaderboard.expression import Expression, Field, parse_expression
from benchmarks.leaderboard.rows import Row, Table, make_tables
from benchmarks.leaderboard.shown import ShownTable, fields_of, names_of
from benchmarks.store.folders import Store
from benchmarks.store.timing import DOUBTS

EXIT_CODE = 6
"""Of a command whose ``--fail-if`` came true."""


@dataclass(frozen=True)
class Baseline:
    """What rows are held against.

    Attributes:
        name: As typed: an entry of the same table, or another folder of runs.
        tables: Those of the folder; empty where it is an entry.
    """

    name: str
    tables: tuple[Table, ...] = ()


def open_baseline(text: str, tables: Sequence[ShownTable]) -> Baseline:
    """Return the baseline that ``--baseline`` names.

    Args:
        text: An entry, or a folder of runs.
        tables: Those that are shown.

    Raises:
        UserError: It is neither.
        PreflightError: Files of the folder are bad.
    """
    entries = dict.fromkeys(row.entry for shown in tables for row in shown.table.rows)
    if text in entries:
        return Baseline(text)
    folder = Path(text)
    if not folder.is_dir():
        raise UserError(
            f"--baseline {text}: neither an entry ({', '.join(entries) or 'there are none'}) nor a "
            "folder of runs."
        )
    store = Store(folder)
    scan = store.scan()
    if scan.rejected:
        path, reason = scan.rejected[0]
        raise PreflightError(f"--baseline {text}: {path}: {reason}.")
    return Baseline(text, tuple(make_tables(scan, store)))


def parse_gate(text: str, tables: Sequence[ShownTable], baseline: Baseline | None) -> Expression:
    """Return the condition of ``--fail-if``.

    Raises:
        UserError: It is not understood, or its baseline is missing.
    """
    found = parse_expression("--fail-if", text, names_of(tables))
    if found.needs_baseline and baseline is None:
        raise UserError("--fail-if speaks of a baseline: name it with --baseline ENTRY or DIR.")
    return found


def trips(
    tables: Sequence[ShownTable],
    gate: Expression,
    baseline: Baseline | None,
    loaded_rates: bool = False,
) -> list[str]:
    """Return a sentence for each row that the gate stops.

    A missing value stops it too, since a failed run must not pass. So does a speed that must not be
    compared. Rows that the baseline does not know are let through, unless it knows none.

    Args:
        tables: Rows that are shown; those of several tasks at once are left to their own tables.
        gate: The condition.
        baseline: What to hold rows against.
        loaded_rates: Judge speeds that must not be compared all the same.

    Raises:
        UserError: No row has anything to do with the condition.
    """
    metrics = {name for shown in tables for name in shown.table.metrics} & set(gate.fields)
    found: list[str] = []
    judged = 0
    for table in (shown.table for shown in tables if not shown.table.joined):
        if metrics and metrics.isdisjoint(table.metrics):
            continue
        for row in table.rows:
            base = _base(baseline, table, row, loaded_rates)
            if base is None:
                continue
            judged += 1
            verdict = gate.condition(_fields(table, row, loaded_rates), base)
            if verdict is not False:
                found.append(_sentence(table, row, base, gate, verdict))
    if not judged:
        hint = "; is the baseline of the same kind?" if baseline else "."
        raise UserError(f"--fail-if {gate.text!r}: no row to judge{hint}")
    return found


def _fields(table: Table, row: Row, loaded_rates: bool) -> dict[str, Field]:
    """Return what the gate may know of a row, by name."""
    fields = fields_of(table, row)
    return fields if loaded_rates else {**fields, **dict.fromkeys(row.doubts)}


def _base(
    baseline: Baseline | None, table: Table, row: Row, loaded_rates: bool
) -> Mapping[str, Field] | None:
    """Return the fields of the row that a row is held against, None where it has none."""
    if baseline is None:
        return {}
    if not baseline.tables:
        if row.entry == baseline.name:
            return None
        same = [other for other in table.rows if other.entry == baseline.name]
        return _fields(table, same[0], loaded_rates) if same else None
    for other in baseline.tables:
        if other.key == table.key:
            subject = (row.entry, row.backbone, row.recipe)
            for known in other.rows:
                if (known.entry, known.backbone, known.recipe) == subject:
                    return _fields(other, known, loaded_rates)
    return None


def _sentence(
    table: Table, row: Row, base: Mapping[str, Field], gate: Expression, verdict: bool | None
) -> str:
    fields = fields_of(table, row)
    values = [
        f"{name} {_text(fields.get(name))}"
        + (f" (baseline {_text(base.get(name))})" if gate.needs_baseline else "")
        for name in gate.fields
    ]
    doubtful = [
        f"{name} was {DOUBTS[row.doubts[name]]}" for name in gate.fields if name in row.doubts
    ]
    if verdict:
        why = ""
    elif doubtful:
        why = f", and {'; '.join(doubtful)} (--loaded-rates judges it all the same)"
    else:
        why = ", and a missing value does not pass"
    where = f"{row.entry} in {table.key.task} {table.key.protocol}"
    return f"{where}: {', '.join(values)}; {gate.text}{why}"


def _text(value: Field) -> str:
    if value is None:
        return "missing"
    return value if isinstance(value, str) else f"{value:.4g}"
