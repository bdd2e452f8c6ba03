import contextlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as rle_tools
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backbones.base.errors import PreflightError
from detection.data.annotations import AnnotationFile, read_annotations
from detection.data.segmentation import check_segmentation

Content = dict[str, Any]
FIELDS = (
    *("id", "name", "image_id", "category_id", "bbox", "area"),
    *("iscrowd", "segmentation", "file_name", "width", "height"),
)
SIZE = {"size": [48, 64]}


def read(tmp_path: Path, content: Any) -> AnnotationFile:
    path = tmp_path / "instances.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return read_annotations(path)


def change(section: str, **fields: Any) -> Callable[[Content], None]:
    """Set fields of a section's first entry; a value of ``...`` removes the field."""

    def bend(content: Content) -> None:
        for key, value in fields.items():
            if value is ...:
                del content[section][0][key]
            else:
                content[section][0][key] = value

    return bend


def test_reads_boxes_masks_and_classes(
    tmp_path: Path, coco_content: Callable[..., Content]
) -> None:
    found = read(tmp_path, coco_content())
    assert found.category_ids == (2, 7)
    assert found.class_names == ("cat", "dog")
    assert found.has_masks
    assert found.notes == ()
    assert [image["image_id"] for image in found.images] == [1, 2, 3, 4]
    first = found.images[0]
    assert (first["file_name"], first["height"], first["width"]) == ("1.png", 48, 64)
    assert [a["category_id"] for a in first["annotations"]] == [1, 0]
    assert first["annotations"][0]["bbox"] == [10.0, 10.0, 30.0, 20.0]


REFUSED = {
    "nan box": (change("annotations", bbox=[math.nan, 0, 5, 5]), "annotation 10"),
    "infinite box": (change("annotations", bbox=[0, 0, math.inf, 5]), "not finite"),
    "negative width": (change("annotations", bbox=[9, 9, -5, 5]), "negative"),
    "negative height": (change("annotations", bbox=[9, 9, 5, -5]), "negative"),
    "box outside": (change("annotations", bbox=[64, 9, 5, 5]), "outside their image"),
    "box left of it": (change("annotations", bbox=[-9, 9, 9, 5]), "outside their image"),
    "box of three": (change("annotations", bbox=[9, 9, 5]), "not four numbers"),
    "box of text": (change("annotations", bbox=[9, 9, 5, "5"]), "not four numbers"),
    "huge box": (change("annotations", bbox=[9, 9, 5, 10**400]), "too large"),
    "no box": (change("annotations", bbox=...), "not four numbers"),
    "two points": (change("annotations", segmentation=[[1, 1, 5, 5]]), "three points"),
    "odd polygon": (change("annotations", segmentation=[[1, 1, 5, 5, 7, 7, 8]]), "odd count"),
    "nan polygon": (change("annotations", segmentation=[[1, 1, 5, 5, 7, math.nan]]), "NaN"),
    "flat polygon": (change("annotations", segmentation=[1, 1, 5, 5, 7, 7]), "list of numbers"),
    "huge polygon": (change("annotations", segmentation=[[1, 1, 5, 5, 7, 10**400]]), "too large"),
    "huge area": (change("annotations", area=10**400), "too large"),
    "text as mask": (change("annotations", segmentation="mask"), "neither"),
    "rle size": (
        change("annotations", segmentation={"size": [64, 48], "counts": [3072]}),
        "size [64, 48] in an image of height 48",
    ),
    "short rle": (change("annotations", segmentation={**SIZE, "counts": [5, 5]}), "add up"),
    "long rle": (change("annotations", segmentation={**SIZE, "counts": [3073]}), "add up"),
    "negative rle": (change("annotations", segmentation={**SIZE, "counts": [3073, -1]}), "add up"),
    "torn rle": (change("annotations", segmentation={**SIZE, "counts": "Po"}), "add up"),
    "no rle": (change("annotations", segmentation={**SIZE, "counts": "\n"}), "add up"),
    "rle without counts": (change("annotations", segmentation=dict(SIZE)), "without counts"),
    "double annotation": (change("annotations", id=11), "id 11 twice in 'annotations'"),
    "double image": (change("images", id=2), "id 2 twice in 'images'"),
    "double category": (change("categories", id=2), "id 2 twice in 'categories'"),
    "double name": (change("categories", name="cat"), "two categories named 'cat'"),
    "no name": (change("categories", name=...), "no name"),
    "text id": (change("images", id="1"), "the id '1'; ids must be integers"),
    "huge id": (change("images", id=2**60), "integers between -2^53 and 2^53"),
    "id above 64 bits": (change("images", id=2**70), "integers between -2^53 and 2^53"),
    "float id": (change("images", id=1.0), "the id 1.0; ids must be integers"),
    "no annotation id": (change("annotations", id=...), "no id; ids must be"),
    "unknown image": (change("annotations", image_id=99), "for image 99"),
    "list as image": (change("annotations", image_id=[1]), "for image [1]"),
    "unknown category": (change("annotations", category_id=3), "category 3"),
    "odd crowd": (change("annotations", iscrowd=2), "iscrowd 2"),
    "parent folder": (change("images", file_name="../1.png"), "leaves the image folder"),
    "inner parent": (change("images", file_name="a/../../1.png"), "leaves the image folder"),
    "backslash parent": (change("images", file_name="a\\..\\1.png"), "leaves the image folder"),
    "absolute": (change("images", file_name="/etc/passwd"), "leaves the image folder"),
    "drive": (change("images", file_name="C:\\1.png"), "leaves the image folder"),
    "nul": (change("images", file_name="a\0b"), "must be text that names a file"),
    "number as file name": (change("images", file_name=5), "the file_name 5; it must be text"),
    "long file name": (change("images", file_name="../" + "a" * 5000), "'../aaaaaaa"),
    "long class": (change("annotations", category_id="c" * 5000), "category 'cccc"),
    "no file name": (change("images", file_name=...), "no file_name"),
    "no width": (change("images", width=...), "the width missing and the height 48; both must"),
    "zero height": (change("images", height=0), "the height 0; both must be positive"),
    "no categories": (lambda content: content.pop("categories"), "'categories'"),
    "empty categories": (lambda content: content["categories"].clear(), "nothing to detect"),
    "no annotations": (lambda content: content.pop("annotations"), "'annotations'"),
    "no images": (lambda content: content["images"].clear(), "no images"),
    "list of lists": (
        lambda content: content["images"].append([]),
        "1 of 5 entries in 'images' that are not JSON objects: entry 5 is a list ([])",
    ),
    "object of images": (lambda content: content.update(images={}), "'images' as an object"),
}


@pytest.mark.parametrize(("bend", "said"), REFUSED.values(), ids=REFUSED)
def test_refuses_in_one_sentence(
    tmp_path: Path,
    coco_content: Callable[..., Content],
    bend: Callable[[Content], None],
    said: str,
) -> None:
    content = coco_content()
    bend(content)
    with pytest.raises(PreflightError) as caught:
        read(tmp_path, content)
    message = str(caught.value)
    assert said in message
    assert "instances.json" in message
    assert "\n" not in message
    assert len(message) < 500 + len(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ('{"images": [{"id": 1, "file_na', "cut off"),
        ('{"images": [{"id": 1}', "cut off"),
        ("version https://git-lfs", "not JSON"),
        ("[]", "holds a list, not a COCO instances object"),
        ("[" * 100_000, "not JSON text"),
    ],
)
def test_refuses_files_that_are_no_coco_json(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(PreflightError, match=said):
        read(tmp_path, text)


def test_refuses_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "instances.json"
    path.write_bytes(b'{"images": "\xff\xfe\xfa"}')
    with pytest.raises(PreflightError, match="not JSON text"):
        read_annotations(path)
    with pytest.raises(PreflightError, match="cannot be read"):
        read_annotations(tmp_path / "absent.json")


def test_drops_boxes_without_size_and_counts_them(
    tmp_path: Path, coco_content: Callable[..., Content]
) -> None:
    content = coco_content(10)
    content["annotations"][0]["bbox"] = [5, 5, 0, 9]
    content["annotations"][2]["bbox"] = [64, 48, 0, 0]
    found = read(tmp_path, content)
    assert [len(image["annotations"]) for image in found.images] == [1, 1, *[2] * 8]
    (note,) = found.notes
    assert "without width or height, dropped: 2 (first: annotation 10)" in note


def test_clips_boxes_that_stick_out_and_counts_them(
    tmp_path: Path, coco_content: Callable[..., Content]
) -> None:
    content = coco_content()
    content = coco_content(masks=False)
    content["annotations"][0]["bbox"] = [-5, 40, 20, 20]
    content["annotations"][1]["bbox"] = [50.0, 40.0, 14.5, 8.5]
    for annotation in content["annotations"][:2]:
        annotation["area"] = 120.0
    found = read(tmp_path, content)
    boxes = [annotation["bbox"] for annotation in found.images[0]["annotations"]]
    # COCO's own rounding stays as it is, so that scores equal those of the original file.
    assert boxes == [[0, 40, 15, 8], [50.0, 40.0, 14.5, 8.5]]
    assert "clipped: 1 (first: annotation 10)" in found.notes[0]


def test_drops_a_degenerate_polygon_beside_a_sound_one(
    tmp_path: Path, coco_content: Callable[..., Content]
) -> None:
    content = coco_content()
    sound = content["annotations"][0]["segmentation"][0]
    content["annotations"][0]["segmentation"] = [[1, 1, 2, 2], sound]
    found = read(tmp_path, content)
    assert found.images[0]["annotations"][0]["segmentation"] == [sound]
    assert "fewer than three points, dropped: 1" in found.notes[0]


def test_fills_crowd_and_area(tmp_path: Path, coco_content: Callable[..., Content]) -> None:
    content = coco_content()
    for annotation in content["annotations"]:
        del annotation["area"], annotation["iscrowd"]
    content["annotations"][0]["area"] = -1
    found = read(tmp_path, content)
    annotation = found.images[0]["annotations"][0]
    assert annotation["iscrowd"] == 0
    assert annotation["area"] == 600.0
    without = coco_content(masks=False)
    del without["annotations"][0]["area"]
    without["annotations"][0]["bbox"] = [1, 1, 3, 5]
    assert read(tmp_path, without).images[0]["annotations"][0]["area"] == 15.0


def test_knows_data_without_masks(tmp_path: Path, coco_content: Callable[..., Content]) -> None:
    assert not read(tmp_path, coco_content(masks=False)).has_masks
    content = coco_content()
    content["annotations"][3]["segmentation"] = []
    found = read(tmp_path, content)
    assert not found.has_masks
    assert all("segmentation" not in a for i in found.images for a in i["annotations"])
    assert "1 of 8 objects have no mask, so all masks are left aside" in found.notes[0]
    assert "first: annotation 21" in found.notes[0]


def test_run_lengths_become_one_form(tmp_path: Path, coco_content: Callable[..., Content]) -> None:
    mask = np.zeros((48, 64), dtype=np.uint8, order="F")
    mask[5:20, 30:50] = 1
    compressed = rle_tools.encode(mask)
    runs = [30 * 48 + 5, *[15, 33] * 19, 15, 28 + 14 * 48]
    content = coco_content()
    content["annotations"][0]["segmentation"] = {**SIZE, "counts": runs}
    content["annotations"][1]["segmentation"] = {
        **SIZE,
        "counts": compressed["counts"].decode("ascii"),
    }
    for annotation in content["annotations"][:2]:
        annotation["bbox"] = [30, 5, 20, 15]
    first, second = read(tmp_path, content).images[0]["annotations"]
    assert first["segmentation"] == second["segmentation"]
    assert (rle_tools.decode(first["segmentation"]) == mask).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 25), st.integers(1, 25), st.randoms(use_true_random=False))
def test_accepts_every_mask_that_coco_encodes(height: int, width: int, random: Any) -> None:
    share = random.random()
    mask = np.array([[random.random() < share for _ in range(width)] for _ in range(height)])
    rle = rle_tools.encode(np.asfortranarray(mask, dtype=np.uint8))
    given_rle = {"size": [height, width], "counts": rle["counts"].decode("ascii")}
    found = check_segmentation(given_rle, height, width)
    assert (found.segmentation, found.dropped, found.cut) == (given_rle, 0, False)


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    section=st.sampled_from(["images", "annotations", "categories"]),
    field=st.sampled_from(FIELDS),
    value=st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=4),
        lambda inner: st.lists(inner, max_size=7) | st.dictionaries(st.text(max_size=6), inner),
        max_leaves=9,
    ),
)
def test_never_ends_in_another_error(
    tmp_path: Path, coco_content: Callable[..., Content], section: str, field: str, value: Any
) -> None:
    content = coco_content()
    content[section][0][field] = value
    with contextlib.suppress(PreflightError):
        read(tmp_path, content)
