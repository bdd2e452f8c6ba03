"""Which rows of which tables a comparison means."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from backbones.base.errors import UserError
from benchmarks.leaderboard.facts import facts_of
from benchmarks.leaderboard.rows import Row, Table, Value, costs_of
from benchmarks.store.record import RunRecord

# Fewer digits than this are more likely a mistyped name than a run.
_LEAST_DIGITS = 4


@dataclass(frozen=True)
class Side:
    """A side of a comparison: a row, as far as it was meant.

    Attributes:
        name: As typed.
        table: It stands in.
        row: With the one run that was meant, or all.
    """

    name: str
    table: Table
    row: Row


@dataclass(frozen=True)
class Mismatch:
    """Why one task of the subjects is not compared.

    Attributes:
        task: Name of the task.
        fields: Of what has to be equal and is not, with the value of each subject.
    """

    task: str
    fields: Mapping[str, tuple[str, ...]]


def select(
    names: Sequence[str], tables: Sequence[Table], records: Mapping[str, RunRecord]
) -> tuple[list[tuple[Side, ...]], list[Mismatch]]:
    """Return what can be compared, a group a table, and what cannot.

    Args:
        names: Run ids, their first digits, or entries.
        tables: From ``leaderboard.rows.make_tables``.
        records: By run id.

    Raises:
        UserError: A name means nothing, or several things, or no task measured all of them.
    """
    found = [_subjects(name, tables, records) for name in names]
    groups: list[tuple[Side, ...]] = []
    mismatches: list[Mismatch] = []
    tasks = dict.fromkeys(table.key.task for table in tables)
    shared = [t for t in tasks if all(any(s.table.key.task == t for s in own) for own in found)]
    if not shared:
        raise UserError(
            "Nothing was measured for all of them: "
            + "; ".join(f"{n} has {_tasks(own)}" for n, own in zip(names, found, strict=True))
            + "."
        )
    for task in shared:
        own = [[s for s in subjects if s.table.key.task == task] for subjects in found]
        common = [t for t in tables if all(any(s.table is t for s in sides) for sides in own)]
        groups += [
            tuple(next(s for s in sides if s.table is table) for sides in own) for table in common
        ]
        if not common:
            mismatches.append(Mismatch(task, _differences([sides[0] for sides in own], records)))
    return groups, mismatches


def _subjects(name: str, tables: Sequence[Table], records: Mapping[str, RunRecord]) -> list[Side]:
    """Return the rows that a name means, of as many tables as have it.

    Raises:
        UserError: There is none, or the name means several.
    """
    found = [Side(name, t, row) for t in tables for row in t.rows if row.entry == name]
    if not found and re.fullmatch(f"[0-9a-f]{{{_LEAST_DIGITS},16}}", name):
        found = _of_run(name, tables, records)
    measured = [subject for subject in found if subject.row.seeds]
    if found and not measured:
        raise UserError(f"{name} has no result yet: {found[0].row.note or 'not run'}.")
    if not measured:
        known = dict.fromkeys(row.entry for table in tables for row in table.rows)
        raise UserError(
            f"There is no entry and no run {name!r}; this folder has {', '.join(known) or 'none'}."
        )
    for table in tables:
        several = [subject.row for subject in measured if subject.table is table]
        if len(several) > 1:
            ids = ", ".join(row.run_ids[0] for row in several)
            raise UserError(
                f"{name} is {len(several)} rows of one table; name runs instead: {ids}."
            )
    return measured


def _of_run(digits: str, tables: Sequence[Table], records: Mapping[str, RunRecord]) -> list[Side]:
    """Return the row of one run, with that run alone.

    Raises:
        UserError: Several runs begin with these digits.
    """
    ids = sorted({i for t in tables for row in t.rows for i in row.run_ids if i.startswith(digits)})
    if len(ids) > 1:
        raise UserError(f"{digits} is the beginning of {len(ids)} runs: {', '.join(ids)}.")
    return [
        Side(digits, table, _alone(row, records.get(ids[0])))
        for table in tables
        for row in table.rows
        if ids and ids[0] in row.run_ids
    ]


def _alone(row: Row, record: RunRecord | None) -> Row:
    if record is None or record.status != "done":
        return replace(row, seeds=())
    costs, doubts = costs_of([record])
    return replace(
        row,
        values={name: Value(record.value(name)) for name in row.values},
        costs=costs,
        doubts=doubts,
        seeds=(record.spec.seed,),
        run_ids=(record.run_id,),
    )


def _tasks(subjects: Sequence[Side]) -> str:
    return ", ".join(dict.fromkeys(subject.table.key.task for subject in subjects))


def _differences(
    subjects: Sequence[Side], records: Mapping[str, RunRecord]
) -> dict[str, tuple[str, ...]]:
    """Return what keeps rows of one task out of one table, field by field of their recipes too."""
    plain = [_fields(subject, records) for subject in subjects]
    names = dict.fromkeys(name for fields in plain for name in fields)
    absent = "—"
    values = {name: tuple(fields.get(name, absent) for fields in plain) for name in names}
    return {name: own for name, own in values.items() if len(set(own)) > 1}


def _fields(subject: Side, records: Mapping[str, RunRecord]) -> dict[str, str]:
    key = {name: str(value) for name, value in asdict(subject.table.key).items()}
    # The first seed may be one that never ended.
    ended = (records[run_id] for run_id in subject.row.run_ids if run_id in records)
    record = next(ended, None)
    if record is None:
        return key
    facts = {f"detector.{name}": value for name, value in facts_of(record).items()}
    return {**key, **_flat("recipe", record.spec.recipe), **facts}


def _flat(prefix: str, value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        return {prefix: str(value)}
    found: dict[str, str] = {}
    for name, inner in value.items():
        found |= _flat(f"{prefix}.{name}", inner)
    return found
