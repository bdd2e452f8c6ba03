"""Names in figures: whole, none over another, and no two rows under one."""

from itertools import islice

import pytest
from msgspec.structs import replace

from benchmarks.perf.synthetic_records import records
from benchmarks.store.folders import Store
from tests.page.conftest import page_of, write

SAME = "ckpt:a-long-folder-of-a-long-name/the-same-"


@pytest.fixture
def crowded(tmp_path):
    """Return a page of eight rows whose names begin alike, and are long."""
    store = Store(tmp_path / "runs")
    found = list(islice(records(("coco",), 1), 8))
    renamed = [
        replace(record, labels=replace(record.labels, entry=f"{SAME}{n}"))
        for n, record in enumerate(found)
    ]
    write(store, *renamed)
    return page_of(store, tmp_path / "out.html")


@pytest.mark.parametrize("width", [390, 900, 1600])
@pytest.mark.parametrize("file", ["page_file", "crowded"])
def test_names_of_points_are_whole_and_apart(view, request, file, width):
    page = view(request.getfixturevalue(file), "fig=cost", width=width)
    drawing = page.locator("#figure .drawing")
    drawing.wait_for()
    room = drawing.bounding_box()
    boxes = [text.bounding_box() for text in drawing.locator(".labels text").all()]
    assert boxes
    for place, box in enumerate(boxes):
        assert box["x"] >= room["x"] - 1
        assert box["x"] + box["width"] <= room["x"] + room["width"] + 1
        assert not any(overlap(box, other) for other in boxes[:place])


def overlap(one, other):
    across = min(one["x"] + one["width"], other["x"] + other["width"]) - max(one["x"], other["x"])
    down = min(one["y"] + one["height"], other["y"] + other["height"]) - max(one["y"], other["y"])
    # Each has a ground of two pixels around, which may run into the next.
    return across > 5 and down > 5


def test_rows_whose_names_begin_alike_keep_a_place_of_their_own(view, crowded):
    page = view(crowded, "fig=sizes")
    figure = page.locator("#figure [data-shown=sizes]")
    figure.locator("svg").first.wait_for()
    bars = figure.locator("svg g[aria-label], svg g").locator("rect")
    boxes = [bar.bounding_box() for bar in bars.all()]
    tops = {round(box["y"]) for box in boxes if box["width"] > 4}
    # Six rows of three sizes each.
    assert len(tops) == 18
