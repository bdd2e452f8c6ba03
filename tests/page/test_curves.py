"""Curves in the page: losses over the steps, evaluations over steps of their own."""

from itertools import islice

import pytest
from msgspec.structs import replace

from benchmarks.leaderboard.page.costs import paid_hours
from benchmarks.perf.synthetic_records import records
from benchmarks.store.folders import Store
from tests.page.conftest import page_of, write

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect

EVALUATED = {"evaluation/step": [50.0, 150.0], "evaluation/APbox": [20.0, 40.0]}


@pytest.fixture
def page(tmp_path, view):
    """Return a function that shows runs of which the first was evaluated on its way."""

    def show(number, choices=""):
        store = Store(tmp_path / "runs")
        looked, *others = islice(records(("coco",), 1), number)
        write(store, replace(looked, curves={**looked.curves, **EVALUATED}), *others)
        return view(page_of(store, tmp_path / "out.html"), choices)

    return show


def test_evaluations_are_drawn_over_their_own_steps(page):
    page = page(2, "fig=curves")
    choice = page.locator("#figure").get_by_label("Curve")
    assert choice.locator("option").all_inner_texts()[:2] == ["loss", "APbox"]
    assert "step" not in choice.locator("option").all_inner_texts()
    assert "No such curve" not in page.locator("#figure figcaption").inner_text()
    choice.select_option("APbox")
    drawing = page.get_by_role("img", name="APbox over steps")
    expect(drawing).to_be_visible()
    # A point each, and the first step is not that of the losses.
    assert drawing.locator("g circle").count() == 2
    ticks = drawing.locator("g[aria-hidden], g").all_text_contents()
    assert any("60" in text and "140" in text for text in ticks)
    expect(page.locator("#figure figcaption")).to_contain_text("No such curve in the records of ")


def test_the_page_of_a_run_has_them_too(page):
    page = page(1)
    page.locator("table.board .entry-cell button").first.click()
    drawer = page.locator("#drawer")
    drawer.get_by_label("Curve").select_option("APbox")
    expect(drawer.get_by_role("img", name="APbox over steps")).to_be_visible()


def test_evaluations_on_the_way_are_no_device_hours():
    (record,) = islice(records(("coco",), 1), 1)
    whole = paid_hours([record])
    devices = len(record.environment["gpus"])
    looked = replace(record, cost={**record.cost, "seconds_evaluating": 3600.0})
    assert paid_hours([looked]) == pytest.approx(whole - devices)
