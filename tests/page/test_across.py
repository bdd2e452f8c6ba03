"""Tables of collections and of followed trainings in the page: each has a button of its own."""

from itertools import islice

import pytest
from msgspec.structs import replace

from benchmarks.perf.synthetic_records import records
from benchmarks.store.collections import CollectedSet, Collection, write_collection
from benchmarks.store.folders import Store
from benchmarks.store.followed import FollowedCheckpoint, remember_checkpoints
from tests.page.conftest import page_of, write

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect


@pytest.fixture
def page(tmp_path, view):
    """Return the page of two checkpoints on two data sets, collected and followed."""
    store = Store(tmp_path / "runs")
    pretrained = (r for r in records(("coco",), 1) if r.spec.weights_sha256 != "random")
    own = list(islice(pretrained, 2))
    other = [
        replace(
            one,
            spec=replace(one.spec, data_fingerprint="d1" * 32),
            labels=replace(one.labels, data="cells"),
        )
        for one in own
    ]
    write(store, *own, *other)
    first = CollectedSet(own[0].labels.data, own[0].spec.data_fingerprint)
    sets = (first, CollectedSet("cells", "d1" * 32), CollectedSet("gone", "", "no annotations"))
    write_collection(store.root, Collection("lab", "coco", sets))
    found = [FollowedCheckpoint(epoch, f"epoch-{epoch}.pth", one.spec.weights_sha256)
             for epoch, one in zip((3, 12), own, strict=True)]  # fmt: skip
    remember_checkpoints(store.root, tmp_path / "trainer", found)
    return view(page_of(store, tmp_path / "out.html"))


def test_every_table_has_its_button_and_its_name(page):
    for name, column in (("training trainer, followed", "epoch"), ("lab (3 data sets)", "cells")):
        page.locator(".table-button", has_text=name).click()
        expect(page.locator("#board-title")).to_contain_text(name)
        expect(page.locator("#board thead", has_text=column).first).to_be_visible()


def test_a_followed_training_is_drawn_against_its_epochs(page):
    page.locator(".table-button", has_text="followed").click()
    figure = page.locator("#figure")
    metric = figure.get_by_label("Metric").locator("option").first.inner_text()
    drawing = page.get_by_role("img", name=f"{metric} of 2 checkpoints by epoch")
    expect(drawing).to_be_visible()
    page.locator("#figure summary").click()
    cells = page.locator("#figure td").all_inner_texts()
    assert cells[1::3] == ["3", "12"]
