"""Costs that other work of the machine disturbed: marked everywhere, compared nowhere."""

import csv
import io
import json
from dataclasses import asdict, replace

import pytest

from backbones.timing.conditions import Conditions
from benchmarks import cli
from benchmarks.leaderboard.gate import EXIT_CODE
from benchmarks.leaderboard.page.costs import doubts_of
from benchmarks.leaderboard.rows import make_tables
from benchmarks.store.folders import Store
from benchmarks.store.record import Labels
from benchmarks.store.timing import TIMING, conditions_of, doubt_of

RATE = "images_per_second_train"
QUIET = Conditions(2.0, 4, threads=1, other_cores=0.01, sibling_runs=0, alone=True)
LOADED = Conditions(2.0, 4, threads=1, other_cores=1.9, sibling_runs=0, alone=True)
BESIDE_A_RUN = Conditions(2.0, 4, threads=1, other_cores=0.0, sibling_runs=1, alone=True)


@pytest.fixture
def folder(tmp_path, make_record, make_spec):
    """Return a function that writes a run of an entry with a rate and how it was measured."""
    store = Store(tmp_path / "runs")

    def write(entry, rate, conditions, seed=0):
        spec = make_spec(backbone=entry, seed=seed)
        details = {} if conditions is None else {TIMING: {RATE: asdict(conditions)}}
        record = make_record(
            spec,
            30.0,
            labels=Labels("coco", entry, "mini", "mini/v1", "mini", True),
            cost={RATE: rate, "gflops": 2.0},
            details=details,
        )
        store.folder(record.run_id).write_record(record)
        return store

    return write


def row_of(store, entry="a"):
    (table,) = make_tables(store.scan(), store)
    return next(row for row in table.rows if row.entry == entry)


@pytest.mark.parametrize(
    ("conditions", "doubt"),
    [(QUIET, None), (LOADED, "loaded"), (BESIDE_A_RUN, "loaded"), (None, "unknown"),
     (Conditions(2.0, 4), "unknown")],
)  # fmt: skip
def test_a_record_says_whether_its_rate_may_be_compared(folder, conditions, doubt):
    store = folder("a", 10.0, conditions)
    (record,) = store.scan().records.values()
    assert doubt_of(record, RATE) == doubt
    assert doubt_of(record, "gflops") is None
    assert conditions_of(record, RATE) == conditions
    assert row_of(store).doubts == ({RATE: doubt} if doubt else {})


@pytest.mark.parametrize("damage", [[], 7, {RATE: 3}, {RATE: {"seconds": "long"}}, {RATE: None}])
def test_a_damaged_entry_says_nothing(make_record, damage):
    record = make_record(details={TIMING: damage})
    assert conditions_of(record, RATE) is None
    assert doubt_of(record, RATE) == "unknown"


def test_the_mean_is_over_the_seeds_that_had_the_machine_for_themselves(folder):
    for seed, (rate, conditions) in enumerate([(30.0, QUIET), (34.0, QUIET), (9.0, LOADED)]):
        store = folder("a", rate, conditions, seed)
    row = row_of(store)
    assert row.costs[RATE] == 32.0
    assert row.doubts == {}
    for seed in range(2):
        store = folder("b", 10.0 + seed, (LOADED, None)[seed], seed)
    row = row_of(store, "b")
    assert row.costs[RATE] == 10.5
    assert row.doubts == {RATE: "loaded"}


def test_every_format_marks_it(folder, capsys):
    folder("a", 35.2, QUIET)
    folder("b", 10.5, LOADED)
    store = folder("c", 12.5, None)
    texts = {}
    for form in ("table", "markdown", "csv", "json"):
        assert cli.main(["leaderboard", "--out", str(store.root), "--format", form]) == 0
        texts[form] = capsys.readouterr().out
    about = "train img/s: measured while other work used the machine, so rows cannot be compared"
    for form in ("table", "markdown"):
        assert "35.2 " in texts[form]
        assert "35.2 †" not in texts[form]
        assert "10.5 †" in texts[form]
        assert "12.5 ?" in texts[form]
        assert f"† {about}" in texts[form]
        assert "? train img/s: measured while nobody noted" in texts[form]
    columns = ["--columns", "entry,APbox,images_per_second_train"]
    assert cli.main(["leaderboard", "--out", str(store.root), "--format", "latex", *columns]) == 0
    texts["latex"] = capsys.readouterr().out
    assert r"10.5 $\dagger$" in texts["latex"]
    assert f"% † {about}" in texts["latex"]
    rows = {row["entry"]: row for row in csv.DictReader(io.StringIO(texts["csv"]))}
    assert [rows[name]["costs_in_doubt"] for name in "abc"] == [
        "", f"{RATE}: loaded", f"{RATE}: unknown"]  # fmt: skip
    (table,) = json.loads(texts["json"])
    assert {row["entry"]: row["doubts"] for row in table["rows"]} == {
        "a": {}, "b": {RATE: "loaded"}, "c": {RATE: "unknown"}}  # fmt: skip


def test_compare_gives_no_ratio_unless_asked(folder, capsys):
    folder("a", 35.2, QUIET)
    folder("d", 17.6, QUIET)
    store = folder("b", 10.5, LOADED)

    def said(*names):
        assert cli.main(["compare", *names, "--out", str(store.root)]) == 0
        return capsys.readouterr().out

    assert "17.6 (0.50x)" in said("a", "d")
    for names in (("a", "b"), ("b", "a")):
        text = said(*names)
        assert "x)" not in text
        assert "10.5 †" in text
        assert "† train img/s: measured while other work used the machine" in text
        assert "--loaded-rates gives their ratios all the same" in text
    assert "10.5 † (0.30x)" in said("a", "b", "--loaded-rates")


def test_a_gate_does_not_pass_a_rate_that_cannot_be_compared(folder, capsys):
    folder("a", 35.2, QUIET)
    store = folder("b", 30.5, LOADED)

    def judged(condition, *options):
        arguments = ["leaderboard", "--out", str(store.root), "--fail-if", condition, *options]
        code = cli.main(arguments)
        return code, capsys.readouterr().err

    code, said = judged(f"{RATE} < 20")
    assert code == EXIT_CODE
    assert "a in coco" not in said
    assert (
        "b in coco mini/v1: images_per_second_train 30.5; images_per_second_train < 20, and "
        in said
    )
    assert "was measured while other work used the machine (--loaded-rates judges it all" in said
    assert judged(f"{RATE} < 20", "--loaded-rates") == (0, "")
    assert judged("APbox < 20") == (0, "")
    assert judged(f"{RATE} < baseline", "--baseline", "b")[0] == EXIT_CODE


def test_hours_of_a_page_are_in_doubt_where_seconds_are(folder, make_record, make_spec):
    maker = make_record(make_spec(task="pretrain"), details={}, cost={"seconds": 5.0})
    store = folder("a", 1.0, QUIET)
    row = row_of(store)
    assert doubts_of(row, {}) == {}
    row = replace(row, doubts={"seconds": "loaded"}, weights=f"pretrain:{maker.run_id} x")
    assert doubts_of(row, {maker.run_id: maker}) == {
        "seconds": "loaded", "device_hours": "loaded",
        "pretrain_device_hours": "unknown"}  # fmt: skip
