"""Tables with how sure their numbers are, and what a person chose to see of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from backbones.base.errors import UserError
from benchmarks.leaderboard.across import tables_across
from benchmarks.leaderboard.expression import Expression, Field, missing_name, parse_expression
from benchmarks.leaderboard.joined import joined_statistics, with_joined
from benchmarks.leaderboard.published.figures import PublishedRow
from benchmarks.leaderboard.rows import COSTS, Row, Table, make_tables
from benchmarks.leaderboard.statistics.results import RowStatistics, TableStatistics
from benchmarks.store.folders import Scan, Store

# A table of thousands is there to be looked through, and a tie in it helps nobody.
MOST_SURE_ROWS = 1_000
_TEXTS = ("entry", "backbone", "pretrain", "recipe", "note")
_SHARED = ("task", "protocol", "data")
_OTHERS = (*_TEXTS, *_SHARED, "mini", "rank", "seeds", *COSTS)


@dataclass(frozen=True)
class ShownTable:
    """A table and what is shown of it.

    Attributes:
        table: Its rows are those to show, in this order.
        sure: Of each row; None where nothing is known about chance.
        statistics: Of the whole table, if there are any.
        columns: Chosen ones; empty means all that say something.
    """

    table: Table
    sure: tuple[RowStatistics | None, ...]
    statistics: TableStatistics | None = None
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class ViewOptions:
    """What a person wants to see.

    Attributes:
        where: Rows must fulfil it; None takes all.
        order: Names to sort by, each with ":up" or ":down" behind it if need be; empty keeps the
            ranking.
        columns: Names in this order; empty means all that say something.
    """

    where: Expression | None = None
    order: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()


def shown_tables(
    scan: Scan,
    store: Store,
    sure: bool = True,
    published: Sequence[PublishedRow] | None = None,
    anonymous: bool = False,
) -> list[ShownTable]:
    """Return what a folder of runs comes to, tables of several tasks first.

    Args:
        scan: What the folder holds.
        store: The folder.
        sure: Also find out how sure the numbers are.
        published: Rows of others; None for the project's.
        anonymous: Leave out tables of collections and followed trainings, which name folders.
    """
    tables = make_tables(scan, store, published)
    if not sure:
        none = [None] * len(tables)
        found = [] if anonymous else tables_across(store.root, tables, none)
        return [plain(table) for table in (*(o.table for o in found), *with_joined(tables))]
    shown = [_with_statistics(table, scan, store) for table in tables]
    known = [one.statistics for one in shown]
    across = [
        ShownTable(one.table, one.statistics.rows, one.statistics)
        for one in ([] if anonymous else tables_across(store.root, tables, known))
    ]
    joined = with_joined(tables)[: -len(tables) or None]
    pairs = zip(joined, joined_statistics(tables, known), strict=True)
    return [*across, *(ShownTable(t, own.rows, own) for t, own in pairs), *shown]


def plain(table: Table) -> ShownTable:
    """Return a table of which nothing is known about chance."""
    return ShownTable(table, (None,) * len(table.rows))


def _with_statistics(table: Table, scan: Scan, store: Store) -> ShownTable:
    if not table.headline or len(table.rows) > MOST_SURE_ROWS:
        return plain(table)
    # It takes as long to import as everything else together.
    from benchmarks.leaderboard.statistics.table import table_statistics

    statistics = table_statistics(table, store, scan.records)
    return ShownTable(table, statistics.rows, statistics)


def names_of(tables: Sequence[ShownTable]) -> list[str]:
    """Return every name that an expression, an order or a choice of columns may use."""
    metrics = dict.fromkeys(name for shown in tables for name in shown.table.metrics)
    return [*metrics, *_OTHERS]


def make_choice(
    tables: Sequence[ShownTable], where: str, order: Sequence[str], columns: Sequence[str]
) -> ViewOptions:
    """Return the choice that was typed.

    Raises:
        UserError: A name is unknown or an expression not understood.
    """
    known = names_of(tables)
    for flag, names, allowed in (
        ("--sort", [name.partition(":")[0] for name in order], known),
        ("--columns", columns, [*known, "ties"]),
    ):
        for name in names:
            if name not in allowed:
                raise UserError(missing_name(flag, name, allowed))
    for name in order:
        if name.partition(":")[2] not in ("", "up", "down"):
            raise UserError(f"--sort {name}: behind the colon stands up or down.")
    expression = parse_expression("--filter", where, known) if where else None
    if expression is not None and expression.needs_baseline:
        raise UserError("--filter knows no baseline; --fail-if does.")
    return ViewOptions(expression, tuple(order), tuple(columns))


def chosen(tables: Sequence[ShownTable], choice: ViewOptions) -> list[ShownTable]:
    """Return what is left of tables; those without a row fall away.

    Args:
        tables: All.
        choice: What to see.
    """
    found = [_chosen(shown, choice) for shown in tables]
    return [shown for shown in found if shown.table.rows or shown.table.published]


def _chosen(shown: ShownTable, choice: ViewOptions) -> ShownTable:
    table = shown.table
    pairs = list(zip(table.rows, shown.sure, strict=True))
    published = list(table.published)
    if choice.where is not None:
        holds = choice.where.condition
        pairs = [pair for pair in pairs if holds(fields_of(table, pair[0]), {})]
        published = [row for row in published if holds(fields_of_published(table, row), {})]
    for name in reversed(choice.order):
        key, down = _order(table, name)
        pairs.sort(key=lambda pair: key(fields_of(table, pair[0])), reverse=down)
        published.sort(key=lambda row: key(fields_of_published(table, row)), reverse=down)
    rows, sure = tuple(row for row, _ in pairs), tuple(certain for _, certain in pairs)
    kept = replace(table, rows=rows, published=tuple(published))
    return replace(shown, table=kept, sure=sure, columns=choice.columns)


def _order(
    table: Table, text: str
) -> tuple[Callable[[Mapping[str, Field]], tuple[object, ...]], bool]:
    name, _, direction = text.partition(":")
    down = direction == "down" if direction else name in table.metrics and name not in table.lower
    return partial(_place, name=name, down=down), down


def _place(fields: Mapping[str, Field], name: str, down: bool) -> tuple[object, ...]:
    """Return a sort key: rows without a value stand last either way."""
    value = fields.get(name)
    missing = value is None
    return (missing != down, value is not None and isinstance(value, str), 0 if missing else value)


def fields_of(table: Table, row: Row) -> dict[str, Field]:
    """Return what expressions may ask of a row, by name."""
    return {
        **{name: row.values[name].mean for name in table.metrics},
        **{name: row.costs[name] for name in COSTS},
        **{name: getattr(row, name) for name in _TEXTS},
        **{name: getattr(table.key, name) for name in _SHARED},
        "mini": "yes" if table.key.mini else "no",
        "rank": row.rank,
        "seeds": len(row.seeds),
    }


def fields_of_published(table: Table, row: PublishedRow) -> dict[str, Field]:
    """Return the same of a published row; what it has none of is missing."""
    return {
        **dict.fromkeys(_OTHERS),
        **row.values,
        **{name: getattr(table.key, name) for name in _SHARED},
        "entry": row.method,
        "backbone": row.arch or row.backbone,
        "pretrain": row.pretrain,
        "note": row.source,
        "mini": "no",
    }
