"""``run.py leaderboard``: the tables of a folder of records, in many formats, and as a page."""

from collections.abc import Sequence
from pathlib import Path

from backbones.base.errors import PreflightError, UserError
from benchmarks import output
from benchmarks.leaderboard import gate
from benchmarks.leaderboard.anonymous import anonymous_scan
from benchmarks.leaderboard.formats.latex import to_latex
from benchmarks.leaderboard.formats.readme import write_section
from benchmarks.leaderboard.formats.render import FORMATS, Form
from benchmarks.leaderboard.formats.sheets import to_json
from benchmarks.leaderboard.published.figures import PublishedRow
from benchmarks.leaderboard.published.own import with_own
from benchmarks.leaderboard.published.tables import published_alone
from benchmarks.leaderboard.rows import make_tables
from benchmarks.leaderboard.shown import ShownTable, chosen, make_choice, plain, shown_tables
from benchmarks.options import LeaderboardOptions
from benchmarks.store.folders import Scan, Store


def main(options: LeaderboardOptions) -> int:
    """Run the command.

    Raises:
        PreflightError: There is no such folder.
        UserError: A choice names what is not there.
    """
    if not options.out.is_dir():
        raise PreflightError(f"There is no folder {options.out}; --out names the folder of runs.")
    store = Store(options.out)
    scan = store.scan()
    if options.anonymous:
        scan = anonymous_scan(scan)
    published = with_own(Path(options.published) if options.published else None)
    if options.html is not None:
        return _write_page(options, scan, store, published)
    tables = shown_tables(scan, store, published=published, anonymous=options.anonymous)
    if options.published is not None:
        tables += published_alone(tables, published)
    tables = chosen(tables, make_choice(tables, options.where, options.order, options.columns))
    if options.readme is not None:
        write_section(options.readme, tables)
        _report_written(options.readme, "between its two markers", options)
    else:
        _print(tables, store, scan, _form(options, tables))
    return _judge(tables, options)


def _write_page(
    options: LeaderboardOptions, scan: Scan, store: Store, published: Sequence[PublishedRow]
) -> int:
    if any(
        (options.where, options.order, options.columns, options.published == "", options.readme)
    ):
        raise UserError(
            "--html shows everything and has filters of its own; leave --filter, --sort, "
            "--columns, --published without a file and --readme out."
        )
    assert options.html is not None
    if options.html.is_dir():
        raise UserError(
            f"--html {options.html}: this is a folder; name a file, for example "
            f"{options.html / 'leaderboard.html'}."
        )
    # It has much to import.
    from benchmarks.leaderboard.page.publish import publish

    tables = make_tables(scan, store, published)
    publish(
        options.html,
        tables,
        scan,
        store,
        anonymous=options.anonymous,
        loaded_rates=options.loaded_rates,
    )
    _report_written(options.html, "open it in a browser", options)
    return _judge([plain(table) for table in tables], options)


def _report_written(path: Path, where: str, options: LeaderboardOptions) -> None:
    if options.json:
        output.document({"written": str(path)})
    else:
        output.line(f"The leaderboard is in {path}; {where}.")


def show(scan: Scan, store: Store, form: str) -> None:
    """Print the tables of a folder; files that were left out are named on standard error.

    Args:
        scan: What the folder holds.
        store: The folder.
        form: One of the formats of the command line.
    """
    _print(shown_tables(scan, store), store, scan, FORMATS[form])


def _form(options: LeaderboardOptions, tables: Sequence[ShownTable]) -> Form | None:
    """Return what makes text of the tables, None for JSON.

    Raises:
        UserError: A flag is for another format, or for one table.
    """
    form = "json" if options.json else options.format
    if (options.caption or options.label) and form != "latex":
        raise UserError(f"--caption and --label are for --format latex, not for {form}.")
    if options.caption and len(tables) > 1:
        raise UserError(
            f"--caption is for one table, and there are {len(tables)}; choose one with --filter, "
            "for example --filter 'task = coco'."
        )
    if form == "latex":
        return lambda shown: to_latex(shown, options.caption, options.label).rstrip("\n")
    return FORMATS.get(form)


def _print(tables: Sequence[ShownTable], store: Store, scan: Scan, form: Form | None) -> None:
    if form is None:
        output.document(to_json(tables))
    elif tables:
        output.line(form(tables))
    else:
        runs = len(scan.records) + len(scan.unfinished)
        output.line(f"None of {runs} runs is in view." if runs else f"No runs in {store.root} yet.")
    output.left_out(scan.rejected)


def _judge(tables: Sequence[ShownTable], options: LeaderboardOptions) -> int:
    """Return the exit code: that of the gate if it stopped anything."""
    if not options.fail_if:
        if options.baseline:
            raise UserError("--baseline is for --fail-if, which is not given.")
        return 0
    if options.where and not any(shown.table.rows for shown in tables):
        raise UserError(f"--fail-if: --filter {options.where!r} leaves no row to judge.")
    baseline = gate.open_baseline(options.baseline, tables) if options.baseline else None
    condition = gate.parse_gate(options.fail_if, tables, baseline)
    stopped = gate.trips(tables, condition, baseline, options.loaded_rates)
    for sentence in stopped:
        output.note(f"--fail-if: {output.clean(sentence)}")
    return gate.EXIT_CODE if stopped else 0
