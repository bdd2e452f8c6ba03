"""Detections on a few images: their masks as outlines, and what the page draws of them."""

import numpy as np
import pycocotools.mask as rle_tools
import pytest
from PIL import ExifTags, Image
from skimage.draw import disk, polygon2mask

from benchmarks.leaderboard.page import gallery
from benchmarks.leaderboard.page.pictures import as_webp
from benchmarks.leaderboard.page.publish import publish
from benchmarks.leaderboard.rows import make_tables
from benchmarks.leaderboard.statistics.tested import truth_of
from benchmarks.store.folders import Store
from detection.data.pixels import pixels_of
from detection.scoring.outlines import outlines
from tests.detection.conftest import write_files
from tests.statistics.test_tested import run_of


def filled(found, shape):
    """Return what outlines enclose, holes left out."""
    mask = np.zeros(shape, dtype=bool)
    for outline in found:
        # From edges of pixels to their centres, from x and y to rows and columns.
        mask ^= polygon2mask(shape, np.reshape(outline, (-1, 2))[:, ::-1] - 0.5)
    return mask


def ring(height, width):
    mask = np.zeros((height, width), dtype=np.uint8)
    mask[disk((height / 2, width / 2), height / 3)] = 1
    mask[disk((height / 2, width / 2), height / 6)] = 0
    return mask


@pytest.mark.parametrize("size", [(90, 120), (480, 640), (1200, 900)])
def test_outlines_enclose_what_the_mask_does(size):
    mask = ring(*size)
    mask[: size[0] // 5, : size[1] // 5] = 1
    found = outlines(rle_tools.encode(np.asfortranarray(mask)), 320)
    assert len(found) == 3
    assert sum(map(len, found)) < 200
    again = filled(found, size)
    assert (again & (mask == 1)).sum() / (again | (mask == 1)).sum() > 0.95


def test_a_mask_without_a_pixel_has_no_outline():
    assert outlines(rle_tools.encode(np.zeros((30, 40), np.uint8, order="F")), 320) == []


@pytest.fixture
def store(tmp_path):
    """Return a folder of two entries' runs on a small data set, whose images lie beside it."""
    root = tmp_path / "tiny"
    write_files(root)
    store = Store(tmp_path / "runs")
    for entry in ("first", "second"):
        run_of(store, root, entry, 0)
    return store


def test_rows_have_masks_and_as_many_as_there_is_room_for(store, monkeypatch):
    scan = store.scan()
    tables = make_tables(scan, store)
    (whole,) = gallery.galleries(tables, scan, store).values()
    assert list(whole["rows"]) == ["0", "1"]
    shapes = [shape for images in whole["rows"].values() for image in images for shape in image]
    assert shapes
    assert all(mask for *_, mask in shapes)
    assert all(mask for image in whole["images"] for *_, score, mask in image["truth"])
    first = gallery._size({**whole, "rows": {}}) + gallery._size(whole["rows"]["0"])
    monkeypatch.setattr(gallery, "_BUDGET", first + 1)
    (part,) = gallery.galleries(tables, scan, store).values()
    assert part["rows"] == {"0": whole["rows"]["0"]}
    monkeypatch.setattr(gallery, "_BUDGET", 1)
    assert gallery.galleries(tables, scan, store) == {}


def test_an_image_that_is_no_picture_of_ours_leaves_the_page_without_a_gallery(store, monkeypatch):
    def refuse(*_):
        raise ValueError("it has too many pixels")

    monkeypatch.setattr(gallery, "refuse_large", refuse)
    scan = store.scan()
    assert gallery.galleries(make_tables(scan, store), scan, store) == {}


def test_boxes_and_masks_are_drawn_as_chosen(store, tmp_path, view):
    scan = store.scan()
    publish(tmp_path / "out.html", make_tables(scan, store), scan, store)
    page = view(tmp_path / "out.html", "fig=gallery")
    panels = page.locator("#figure .gallery")
    panels.wait_for()
    assert panels.locator("path.mask").count() == panels.locator("text").count() > 0
    assert panels.locator("rect").count() == 2 * panels.locator("text").count()
    page.get_by_label("Show").select_option("masks")
    panels.locator("rect").first.wait_for(state="detached")
    assert panels.locator("path.mask").count() > 0
    page.get_by_label("Show").select_option("boxes")
    panels.locator("path.mask").first.wait_for(state="detached")
    assert panels.locator("rect").count() > 0
    again = view(tmp_path / "out.html", page.url.partition("#")[2])
    assert again.get_by_label("Show").input_value() == "boxes"


@pytest.mark.parametrize("width", [390, 1600])
def test_panels_are_as_wide_as_each_other(store, tmp_path, view, width):
    scan = store.scan()
    publish(tmp_path / "out.html", make_tables(scan, store), scan, store)
    page = view(tmp_path / "out.html", "fig=gallery", width=width)
    page.locator("#figure .gallery").wait_for()
    widths = [panel.bounding_box()["width"] for panel in page.locator(".panel").all()]
    assert max(widths) - min(widths) < 1
    assert min(widths) > 150


def test_images_are_shown_as_training_read_them(tmp_path):
    """One image states that the set is annotated as stored, which decides for the other ones."""
    root = tmp_path / "tiny"
    write_files(root)
    for number, orientation in ((1, 3), (2, 3), (3, 3), (4, 6)):
        path = root / "val2017" / f"{number}.png"
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        with Image.open(path) as image:
            image.save(path, exif=exif)
    store = Store(tmp_path / "runs")
    truth = truth_of(store, run_of(store, root, "first", 0), ())
    for image in truth.images:
        with Image.open(image["file_name"]) as stored:
            assert (np.asarray(pixels_of(image)) == np.asarray(stored)).all()
            shown = gallery._image(image)["data"]
            assert shown == as_webp(stored.convert("RGB"), gallery._LONGEST_SIDE)
