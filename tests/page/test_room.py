"""A page has room for so much: what has none is left out whole, and the page says so."""

import hashlib
from itertools import islice

import numpy as np
import pytest
from msgspec.structs import replace
from PIL import Image

from benchmarks.leaderboard.page import pictures, runs
from benchmarks.perf.synthetic_records import records
from benchmarks.store.folders import Scan, Store
from benchmarks.store.record import RunFile
from tests.page.conftest import page_of, write

EVALUATED = {"evaluation/step": [5.0, 10.0], "evaluation/APbox": [1.0, 2.0]}


@pytest.fixture
def looked():
    """Return two records with ten curves each."""
    found = islice(records(("coco",), 1), 2)
    return [replace(record, curves={**record.curves, **EVALUATED}) for record in found]


def details_of(found, store):
    scan = Scan({record.run_id: record for record in found}, {}, ())
    return runs.run_details(list(scan.records), scan, store)


def test_what_people_look_at_first_keeps_its_points(looked, tmp_path, monkeypatch):
    store = Store(tmp_path)
    whole = details_of(looked, store)
    assert not whole["fewer_curves"]
    assert set(whole["runs"][looked[0].run_id]["curves"]) == set(looked[0].curves)
    monkeypatch.setattr(runs, "_CURVE_BUDGET", 2 * 5 * 20)
    fewer = details_of(looked, store)
    assert fewer["fewer_curves"]
    for record in looked:
        curves = fewer["runs"][record.run_id]["curves"]
        assert set(curves) == {"step", "loss", "lr", *EVALUATED}
        assert len(curves["loss"]) == len(curves["step"]) == 20
        assert (curves["step"][0], curves["step"][-1]) == (0, record.curves["step"][-1])
        assert curves["evaluation/APbox"] == [1, 2]


def test_the_page_says_that_curves_are_left_out(looked, tmp_path, monkeypatch, view):
    monkeypatch.setattr(runs, "_CURVE_BUDGET", 2 * 5 * 20)
    store = Store(tmp_path / "runs")
    write(store, *looked)
    page = view(page_of(store, tmp_path / "out.html"), "fig=curves")
    assert "the records have the others" in page.locator("#figure figcaption").inner_text()


def test_pictures_never_take_more_than_their_share(looked, tmp_path, monkeypatch):
    folder = Store(tmp_path).folder(looked[0].run_id)
    folder.work.mkdir(parents=True)
    files = []
    for kind in ("first", "second", "third"):
        path = folder.work / f"{kind}.png"
        noise = np.random.default_rng(len(kind)).integers(0, 256, (80, 80, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        files.append(RunFile(f"work/{path.name}", digest, path.stat().st_size))
    record = replace(looked[0], files=tuple(files))
    all_of_them = pictures.Album().of_run(folder, record)
    sizes = [len(picture["data"]) for picture in all_of_them]
    assert len(sizes) == 3
    monkeypatch.setattr(pictures, "_BUDGET", sizes[0] + sizes[1] - 1)
    first, *others = pictures.Album().of_run(folder, record)
    assert first == all_of_them[0]
    assert [picture["reason"] for picture in others] == [
        f"no room in this page; it is in work/{kind}.png" for kind in ("second", "third")
    ]
