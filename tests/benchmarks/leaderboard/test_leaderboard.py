import csv
import io

import pytest
from msgspec.structs import replace

from benchmarks.leaderboard.formats.latex import to_latex
from benchmarks.leaderboard.formats.render import to_markdown, to_terminal
from benchmarks.leaderboard.formats.sheets import to_csv
from benchmarks.leaderboard.rows import make_tables
from benchmarks.leaderboard.shown import plain
from benchmarks.store.folders import Store
from benchmarks.store.record import Labels, MetricValue
from benchmarks.text_table import Column, text_table

HOSTILE = "<script>|`x`\x1b[31m\u202e=1+1_%&"


@pytest.fixture
def board(tmp_path):
    """Return a function that makes tables from records and unfinished requests."""

    def make(*records, requests=()):
        store = Store(tmp_path)
        for record in records:
            store.folder(record.run_id).write_record(record)
        for request in requests:
            store.prepare(request)
        return make_tables(store.scan(), store)

    return make


def labels(entry="vit-nano", protocol="mini/v1", data="mini", mini=True):
    return Labels("coco", entry, "mini", protocol, data, mini)


def test_rows_are_ranked_by_the_headline(board, make_record, make_spec):
    records = [
        make_record(make_spec(backbone=name), score, labels=labels(name))
        for name, score in (("a", 10.0), ("b", 30.0), ("c", 20.0), ("d", 20.0))
    ]
    (table,) = board(*records)
    assert [(row.rank, row.entry) for row in table.rows] == [(1, "b"), (2, "c"), (2, "d"), (4, "a")]


def test_a_lower_is_better_metric_ranks_upwards(board, make_record, make_spec):
    def record(name, score):
        metric = MetricValue(score, "seconds", higher_is_better=False, reason=None)
        spec = make_spec(backbone=name)
        return make_record(
            spec, labels=labels(name), headline="time", columns=("time",), metrics={"time": metric}
        )

    (table,) = board(record("slow", 9.0), record("fast", 1.0))
    assert [row.entry for row in table.rows] == ["fast", "slow"]


def test_seeds_become_one_row_with_a_spread(board, make_record, make_spec):
    (table,) = board(*(make_record(make_spec(seed=s), 10.0 + s) for s in (0, 1, 2)))
    (row,) = table.rows
    assert row.seeds == (0, 1, 2)
    assert row.values["APbox"].mean == 11.0
    assert row.values["APbox"].spread == 1.0
    # ± is half of an interval everywhere, and a table without statistics has none.
    assert "±" not in "\n".join(to_terminal([plain(table)]))
    assert r"\pm" not in to_latex([plain(table)])


@pytest.mark.parametrize(
    ("spec", "label"),
    [
        ({"task_version": 2}, {}),
        ({"data_fingerprint": "0" * 64}, {}),
        ({"limit_images": 5}, {}),
        ({}, {"protocol": "mini/v1+custom:abcdef"}),
        ({"data_fingerprint": "1" * 64}, {"data": "coco", "mini": False}),
    ],
)
def test_what_cannot_be_compared_never_shares_a_table(board, make_record, make_spec, spec, label):
    other = make_record(make_spec(seed=1, **spec), 99.0, labels=labels(**label))
    tables = board(make_record(), other)
    assert len(tables) == 2
    assert all(table.rows[0].rank == 1 for table in tables)


def test_two_versions_of_a_recipe_are_two_rows_not_two_seeds(board, make_record, make_spec):
    newer = make_spec(recipe={"protocol": "mini/v1", "optim": {"lr": 0.2}}, seed=1)
    (table,) = board(make_record(), make_record(newer, 12.0))
    assert [row.seeds for row in table.rows] == [(1,), (0,)]


def test_failed_and_unfinished_runs_say_why(
    board, make_record, make_spec, make_failure, make_request
):
    failed = make_record(
        make_spec(backbone="b"), status="failed", failure=make_failure("No such tensor."),
        metrics={}, headline="", columns=(), labels=labels("b"),
    )  # fmt: skip
    waiting = make_request(make_spec(backbone="c"), entry="c")
    (table,) = board(make_record(), failed, requests=[waiting])
    assert [(row.rank, row.note) for row in table.rows] == [
        (1, ""), (None, "failed: No such tensor."), (None, "not run"),
    ]  # fmt: skip
    lines = to_terminal([plain(table)])
    assert any("—" in line and "failed: No such tensor." in line for line in lines)
    assert not any(line.split()[:3] == ["—", "b", "0.0"] for line in lines)


def test_every_missing_number_says_why(board, make_record, make_spec, make_failure, make_request):
    facts = {"unit": "percent", "higher_is_better": True}
    both = {n: MetricValue(20.0, **facts, reason=None) for n in ("APbox", "APmask")}
    boxes = {**both, "APmask": MetricValue(None, **facts, reason="the data have no masks")}
    whole = make_record(metrics=both, columns=("APbox", "APmask"))
    without = make_record(
        make_spec(backbone="boxes"), metrics=boxes, columns=("APbox", "APmask"),
        labels=labels("boxes"),
    )  # fmt: skip
    failed = make_record(
        make_spec(backbone="b"), status="failed", failure=make_failure("No such tensor."),
        metrics={}, headline="", columns=(), labels=labels("b"),
    )  # fmt: skip
    waiting = make_request(make_spec(backbone="c"), entry="c")
    tables = list(map(plain, board(whole, without, failed, requests=[waiting])))
    for text in ("\n".join(to_terminal(tables)), to_markdown(tables)):
        assert "— APmask: the data have no masks" in text
        for entry, reason in (("b", "failed: No such tensor."), ("c", "not run")):
            (line,) = (
                line for line in text.splitlines() if entry in line.replace("|", " ").split()
            )
            assert reason in line


def test_a_seed_that_failed_does_not_hide_the_others(board, make_record, make_spec, make_failure):
    failed = make_record(
        make_spec(seed=1), status="failed", failure=make_failure(), metrics={}, headline="",
        columns=(),
    )  # fmt: skip
    (table,) = board(make_record(), failed)
    (row,) = table.rows
    assert row.seeds == (0,)
    assert row.note == "seed 1 failed: The image is truncated."


def test_mini_data_is_marked_in_every_format(board, make_record):
    tables = board(make_record())
    for text in (
        "\n".join(to_terminal(list(map(plain, tables)))),
        to_markdown(list(map(plain, tables))),
        to_latex(list(map(plain, tables))),
    ):
        assert "not comparable with any published number" in text
    rows = list(csv.DictReader(io.StringIO(to_csv(list(map(plain, tables))))))
    assert rows[0]["data"] == "mini"


def test_hostile_names_are_harmless_in_every_format(board, make_record):
    tables = board(make_record(labels=labels(HOSTILE)))
    terminal, markdown = (
        "\n".join(to_terminal(list(map(plain, tables)))),
        to_markdown(list(map(plain, tables))),
    )
    latex, table = to_latex(list(map(plain, tables))), to_csv(list(map(plain, tables)))
    for text in (terminal, markdown, latex, table):
        assert "\x1b" not in text
        assert "\u202e" not in text
    assert "<script>" not in markdown
    row = next(line for line in markdown.splitlines() if "script" in line)
    assert row.replace("\\|", "").count("|") == row.replace("\\|", "").count(" |") + 1
    assert r"\_\%\&" in latex
    sheet = board(make_record(labels=labels("=cmd()")))
    (row,) = csv.DictReader(io.StringIO(to_csv(list(map(plain, sheet)))))
    assert row["entry"] == "'=cmd()"


def test_an_entity_in_a_name_is_no_character_in_markdown(board, make_record):
    markdown = to_markdown(list(map(plain, board(make_record(labels=labels("a &lt;b"))))))
    assert "a &amp;lt;b" in markdown


def test_a_name_in_markup_stays_a_name(board, make_record):
    assert "[red]x[/red]" in "\n".join(
        to_terminal(list(map(plain, board(make_record(labels=labels("[red]x[/red]"))))))
    )


def test_csv_keeps_full_precision(board, make_record):
    tables = board(make_record(score=12.345678901234))
    (row,) = csv.DictReader(io.StringIO(to_csv(list(map(plain, tables)))))
    assert float(row["APbox"]) == 12.345678901234
    assert row["APmask"] == ""


@pytest.mark.parametrize("width", [30, 60, 100, 400])
def test_no_line_is_wider_than_the_terminal(board, make_record, width):
    tables = board(make_record(), make_record(replace(make_record().spec, backbone="long" * 9)))
    lines = to_terminal(list(map(plain, tables)), width)[2:]
    assert max(len(line) for line in lines if not line.startswith(("(", "  "))) <= width
    assert any("APbox" in line for line in lines) or width == 30


def test_columns_without_room_are_named():
    columns = [Column("a", "first"), Column("b", "second", priority=1)]
    lines = text_table(columns, [{"a": "x" * 10, "b": "y" * 10}], width=12)
    assert "second" not in lines[0]
    assert "second" in lines[-1]


def test_a_long_text_moves_below_its_row_before_a_column_is_dropped():
    columns = [Column("a", "first", priority=1), Column("note", "note", below=True)]
    rows = [{"a": "x", "note": "why it is so"}, {"a": "y", "note": ""}]
    assert text_table(columns, rows, width=20)[2:] == ["x      why it is so", "y"]
    assert text_table(columns, rows, width=14)[2:] == ["x", "    why it is", "    so", "y"]


def test_a_short_text_comes_before_a_column_is_dropped():
    columns = [Column("a", "a", short="b"), Column("c", "c", priority=1)]
    rows = [{"a": "1.0 [0.0, 2.0]", "b": "1.0", "c": "tie"}]
    assert text_table(columns, rows, width=20)[2] == "1.0 [0.0, 2.0]  tie"
    assert text_table(columns, rows, width=10)[2] == "1.0  tie"
    assert text_table(columns, rows, width=5)[2:] == ["1.0", "(no room for: c; --json has them)"]


def test_columns_of_one_priority_go_together():
    columns = [Column("a", "a"), Column("b", "b", priority=1), Column("c", "c", priority=1)]
    lines = text_table(columns, [{"a": "1", "b": "2", "c": "3"}], 5, whole="--format csv")
    assert lines[0] == "a"
    assert lines[-1] == "(no room for: b, c; --format csv has them)"


def test_what_all_rows_share_stands_below_the_table(board, make_record, make_spec):
    records = [make_record(make_spec(backbone=name)) for name in ("vit-nano", "swin-nano")]
    lines = to_terminal(list(map(plain, board(*records))), 400)
    assert "recipe" not in lines[2]
    assert any(line.startswith("  all rows: ") and "recipe mini" in line for line in lines)


def test_an_empty_folder_is_no_table(board):
    assert board() == []


def test_rows_of_one_name_say_which_run_they_are(tmp_path, make_record, make_spec):
    store = Store(tmp_path)
    for number, score in (("1", 20.0), ("2", 10.0)):
        record = make_record(make_spec(backbone_sha256=number * 64), score)
        store.folder(record.run_id).write_record(record)
    (table,) = make_tables(store.scan(), store)
    assert [row.note for row in table.rows] == [f"run {row.run_ids[0][:8]}" for row in table.rows]
