"""Why a cell has no number stands in that cell, whatever the reason, and is read aloud there."""

import os
import time
from itertools import islice
from pathlib import Path

import pytest
from msgspec.structs import replace

from benchmarks.data.roots import DataRoot
from benchmarks.leaderboard.rows import make_tables
from benchmarks.perf.synthetic_records import records
from benchmarks.store.folders import Store
from benchmarks.store.heartbeat import Heartbeat, write_heartbeat
from benchmarks.store.record import Failure
from benchmarks.store.spec import RunRequest
from tests.page.conftest import page_of, write

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect

NO_TRUTH, NO_NUMBER = "no ground truth of this kind", "the result was not a number"
FAILURE = "the GPU has no memory left (step 1200, 64 images a step)"
PRICES = ("memory GiB", "GFLOPs", "pretraining device-hours")
# Entry, column and what its cell says, by table.
COCO = [
    ("whole", "APmask", None),
    ("boxes", "APmask", NO_TRUTH),
    ("diverged", "APmask", NO_NUMBER),
    ("older", "APmask", "not in these records"),
    ("failed", "APbox", f"failed: {FAILURE}"),
    ("waiting", "APbox", "not run"),
    ("working", "APbox", "running: train 3/10"),
    ("cut off", "APmask", "interrupted: goes on from evaluate 4/10"),
    ("CAE ViT-B", "AP75box", "not published"),
    ("failed", "memory GiB", f"failed: {FAILURE}"),
    ("boxes", "GFLOPs", "not measured"),
    ("boxes", "pretraining device-hours", "unknown: the weights came from elsewhere"),
    ("CAE ViT-B", "GFLOPs", "not published"),
]
JOINED = [
    ("whole", "knn_top1", None),
    ("boxes", "knn_top1", "not measured"),
    ("diverged", "knn_top1", "measured with other seeds: 1"),
    ("older", "knn_top1", "measured by other rules"),
    ("older", "knn_top1 (2)", None),
    ("whole", "knn_top1 (2)", "measured by other rules"),
    ("spoilt", "knn_top1", f"failed: {FAILURE}"),
]


def named(record, entry):
    """Return a record of weights of its own, fresh ones for one, so that each entry is a row."""
    weights = "random" if entry == "whole" else f"{entry:x<64}"
    spec = replace(record.spec, weights_sha256=weights)
    return replace(record, spec=spec, labels=replace(record.labels, entry=entry))


def lacking(record, metric, reason):
    missing = replace(record.metrics[metric], value=None, reason=reason)
    return replace(record, metrics={**record.metrics, metric: missing})


def failed(record):
    failure = Failure("train", "OutOfMemoryError", FAILURE, "", 3)
    return replace(record, status="failed", metrics={}, per_class={}, cost={}, failure=failure)


def request_of(record, entry):
    spec = named(record, entry).spec
    where = DataRoot("coco", record.labels.data, Path("somewhere"), "--data")
    return RunRequest(spec, "coco", entry, entry, "r", record.labels.protocol, 10, 640, where)


def beat(folder, pid, phase, step):
    now = time.time()
    write_heartbeat(
        folder.heartbeat, Heartbeat(pid, os.uname().nodename, 1, now, now, phase, step, 10)
    )


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    """Return a page with a row, or several, for each reason."""
    folder = tmp_path_factory.mktemp("missing")
    store = Store(folder / "runs")
    coco, knn = islice(records(("coco", "knn"), 1), 2)
    without = {name: value for name, value in coco.metrics.items() if name != "APmask"}
    other = replace(knn, labels=replace(knn.labels, protocol="knn/v2"))
    write(
        store,
        *(named(record, "whole") for record in (coco, knn)),
        lacking(
            replace(named(coco, "boxes"), cost={**coco.cost, "gflops": None}), "APmask", NO_TRUTH
        ),
        lacking(named(coco, "diverged"), "APmask", NO_NUMBER),
        replace(named(knn, "diverged"), spec=replace(named(knn, "diverged").spec, seed=1)),
        replace(named(coco, "older"), metrics=without, warnings=("of another matter",)),
        replace(named(other, "older"), spec=replace(named(knn, "older").spec, recipe={"k": 1})),
        failed(named(coco, "failed")),
        named(coco, "spoilt"),
        failed(named(knn, "spoilt")),
    )
    store.prepare(request_of(coco, "waiting"))
    # A process that lives, and one that has ended.
    beat(store.prepare(request_of(coco, "working")), os.getpid(), "train", 3)
    beat(store.prepare(request_of(coco, "cut off")), 2**22 + 1, "evaluate", 4)
    assert len(store.scan().records) == 10
    return page_of(store, folder / "out.html")


def cell_of(page, entry, column):
    """Return the cell of an entry in a column, which is shown first where it is not."""
    titles = page.locator("table.board thead th .dt-column-title")
    if column not in titles.all_inner_texts():
        page.locator("#toolbar summary", has_text="Columns").click()
        menu = page.locator("#toolbar details[data-key=columns]")
        menu.get_by_label(column, exact=True).check()
        page.keyboard.press("Escape")
    place = titles.all_inner_texts().index(column)
    row = page.locator("table.board tbody tr").filter(
        has=page.get_by_role("button", name=entry, exact=True)
    )
    return row.first.locator(f":scope > :nth-child({place + 1})")


@pytest.mark.parametrize("table", ["coco", "joined"])
def test_a_cell_says_why_it_has_no_number(view, page_file, table):
    page = view(page_file, "table=joined~real" if table == "joined" else "", width=2400)
    if table == "coco":
        page.get_by_role("navigation", name="Tables").get_by_text("coco", exact=True).first.click()
    for entry, column, reason in COCO if table == "coco" else JOINED:
        cell, where = cell_of(page, entry, column), f"{entry}, {column}"
        if reason is None:
            expect(cell.locator(".value"), where).to_be_visible()
            continue
        # The name of a cell is what a screen reader says of it, and its title what pointing shows.
        expect(cell, where).to_have_accessible_name(f"— {reason}")
        assert cell.get_attribute("title") == reason, where
        if column not in PRICES:
            expect(cell.locator(".why"), where).to_be_visible()
            assert cell.locator(".why").inner_text() == reason, where


def test_no_cell_is_left_without_a_reason(view, page_file):
    page = view(page_file, width=2400)
    for button in page.get_by_role("navigation", name="Tables").get_by_role("button").all():
        button.click()
        for cell in page.locator("table.board tbody td.missing").all():
            text = cell.text_content()
            assert text.startswith("—")
            assert len(text) > 1


def test_the_reasons_are_all_that_there_are(page_file):
    """Of the tables, so that a new one in the code has to come into the list above."""
    store = Store(page_file.parent / "runs")
    tables = make_tables(store.scan(), store)
    told = {reason for _, _, reason in (*COCO, *JOINED)}
    found = {
        value.reason for table in tables for row in table.rows for value in row.values.values()
        if value.mean is None
    }  # fmt: skip
    assert found <= told


def test_a_table_without_any_result_says_how_far_its_runs_are(view, tmp_path):
    store = Store(tmp_path / "runs")
    (record,) = islice(records(("coco",), 1), 1)
    store.prepare(request_of(record, "waiting"))
    page = view(page_of(store, tmp_path / "out.html"))
    assert page.locator("table.board tbody tr .note").first.inner_text() == "not run"
