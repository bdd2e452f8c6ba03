"""``run.py verify ROW``: does a measured row lie where others published it?"""

from collections.abc import Sequence
from dataclasses import asdict

from backbones.base.errors import PreflightError, UserError
from backbones.base.registry import did_you_mean
from benchmarks import output
from benchmarks.commands.status import open_store
from benchmarks.leaderboard.published.band import Verdict, apart, compare, counterparts
from benchmarks.leaderboard.published.figures import PublishedRow
from benchmarks.leaderboard.published.own import with_own
from benchmarks.leaderboard.rows import Row, Table, make_tables
from benchmarks.options import VerifyOptions
from benchmarks.store.folders import Scan
from benchmarks.store.record import RunRecord
from benchmarks.text_table import Column, text_table

OUTSIDE = 5
_SHORTEST_ID = 4
_COLUMNS = (
    Column("metric", "metric"),
    Column("measured", "measured", numeric=True),
    Column("published", "published", numeric=True),
    Column("band", "band", numeric=True),
    Column("verdict", "verdict"),
)
_DIFFERENCES = (
    Column("setting", "setting that differs"),
    Column("here", "here"),
    Column("published", "published"),
)


Measured = tuple[Table, Row, RunRecord]


def main(options: VerifyOptions) -> int:
    """Run the command.

    Raises:
        PreflightError: There is no such folder, or no result in it that could be compared.
        UserError: There is no such row.
    """
    store = open_store(options.out)
    scan = store.scan()
    published = with_own(options.published)
    rows = _measured(make_tables(scan, store, published), scan)
    verdicts = _verdicts(options.row, rows, published)
    if options.json:
        output.document([{**asdict(v), "inside": v.inside} for v in verdicts])
    else:
        for verdict in verdicts:
            for text in _lines(verdict):
                output.line(text)
    return 0 if all(verdict.inside for verdict in verdicts) else OUTSIDE


def _measured(tables: Sequence[Table], scan: Scan) -> list[Measured]:
    found = []
    for table in tables:
        for row in table.rows:
            records = [scan.records[run] for run in row.run_ids if run in scan.records]
            done = [record for record in records if record.status == "done"]
            if done:
                found.append((table, row, done[0]))
    return found


def _verdicts(
    name: str, rows: Sequence[Measured], published: Sequence[PublishedRow]
) -> list[Verdict]:
    """Return a verdict for each measured row that a name means."""
    by_id = {row.row: row for row in published}
    if name in by_id:
        wanted = by_id[name]
        found = [
            compare(*row, [wanted]) for row in rows
            if not row[0].key.mini and wanted in counterparts(row[0], row[2], published)
        ]  # fmt: skip
        if not found:
            real = [row for row in rows if not row[0].key.mini]
            others = _others(real, [wanted])
            raise PreflightError(f"No measured row here is of the kind of {name}.{others}")
        return found
    meant = [row for row in rows if _means(name, row[1])]
    if not meant:
        raise UserError(_unknown(name, [row[1].entry for row in rows], list(by_id)))
    real = [row for row in meant if not row[0].key.mini]
    if not real:
        raise PreflightError(
            f"{name} was measured on the embedded mini data; published figures are on COCO and "
            "ImageNet, so there is none to hold it against."
        )
    pairs = [(row, counterparts(row[0], row[2], published)) for row in real]
    verdicts = [compare(*row, others) for row, others in pairs if others]
    if not verdicts:
        table, row, _ = real[0]
        if others := _others(real, published):
            raise PreflightError(f"{name} is not held against any published row.{others}")
        raise UserError(
            f"Nobody published {row.pretrain} on {row.backbone} in {table.key.task}, as far as is "
            "traced here; `run.py leaderboard --published` shows what is."
        )
    return verdicts


def _others(rows: Sequence[Measured], published: Sequence[PublishedRow]) -> str:
    """Return a sentence on the first published row whose detector differs; empty for none."""
    for table, row, record in rows:
        for other, facts in apart(table, record, published):
            told = "; ".join(
                f"{n}: {here} here, {there} there" for n, (here, there) in facts.items()
            )
            return f" {row.entry} has another detector than {other.row} ({told})."
    return ""


def _unknown(name: str, entries: Sequence[str], published: Sequence[str]) -> str:
    guess = did_you_mean(name, [*entries, *published])
    return (
        f'No row "{name}".{guess} Measured here: {", ".join(dict.fromkeys(entries)) or "nothing"}; '
        f"`run.py leaderboard --published --json` has the ids of {len(published)} published ones."
    )


def _means(name: str, row: Row) -> bool:
    ids = len(name) >= _SHORTEST_ID and any(run.startswith(name) for run in row.run_ids)
    return ids or name == row.entry


def _lines(verdict: Verdict) -> list[str]:
    place = "inside" if verdict.inside else "outside"
    seeds = "1 seed" if verdict.seeds == 1 else f"{verdict.seeds} seeds"
    rows = [
        {
            "metric": finding.metric,
            "measured": "missing" if finding.measured is None else f"{finding.measured:.2f}",
            "published": ", ".join(f"{figure:g}" for figure in sorted(set(finding.published))),
            "band": f"{finding.low:.2f} to {finding.high:.2f}",
            "verdict": "inside" if finding.inside else "outside",
        }
        for finding in verdict.findings
    ]
    lines = [
        output.clean(f"{verdict.entry}, {verdict.protocol}, {seeds}: {place} the published band"),
        *text_table(_COLUMNS, rows),
    ]
    if verdict.differences:
        lines += ["", *text_table(_DIFFERENCES, [asdict(d) for d in verdict.differences])]
    elif not verdict.inside and not verdict.note:
        lines.append("no setting differs from the published recipe, as far as recipes show")
    if verdict.note:
        lines.append(f"note: {verdict.note}")
    lines += [f"source: {row.source} ({row.row}: {row.setting})" for row in verdict.rows]
    return [*lines, ""]
