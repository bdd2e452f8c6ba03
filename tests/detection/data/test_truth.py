"""Ground truth that contradicts itself: fixed and counted, or refused with the likely cause."""

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pycocotools.mask as rle_tools
import pytest

from backbones.base.errors import PreflightError
from detection.data.annotations import AnnotationFile, read_annotations
from detection.data.segmentation import segmentation_rle
from detection.truth.polygons import area_of, cut_to_image

Annotation = dict[str, Any]
WIDTH, HEIGHT = 160, 120


def make(num_images: int = 30, objects: int = 3, masks: bool = True) -> dict[str, Any]:
    """Return rectangles at random places of images of 160 x 120 pixels."""
    random = Random(3)
    images, annotations = [], []
    for image in range(1, num_images + 1):
        images.append({"id": image, "file_name": f"{image}.jpg", "width": WIDTH, "height": HEIGHT})
        for _ in range(objects):
            w, h = random.randint(12, WIDTH // 2), random.randint(12, HEIGHT // 2)
            x, y = random.randint(0, WIDTH - w), random.randint(0, HEIGHT - h)
            number = len(annotations) + 1
            one = {"id": number, "image_id": image, "category_id": 1, "iscrowd": 0}
            annotations.append({**one, "bbox": [x, y, w, h], "area": w * h})
            if masks:
                polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
                annotations[-1]["segmentation"] = [polygon]
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "disc", "supercategory": "shape"}],
    }


def read(tmp_path: Path, content: Any) -> AnnotationFile:
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(content))
    return read_annotations(path)


def bent(change: Callable[[Annotation], None], every: int = 1, **kwargs: Any) -> dict[str, Any]:
    content = make(**kwargs)
    for annotation in content["annotations"][::every]:
        change(annotation)
    return content


def polygon_of(change: Callable[[float, int], float]) -> Callable[[Annotation], None]:
    def bend(annotation: Annotation) -> None:
        (points,) = annotation["segmentation"]
        annotation["segmentation"] = [[change(c, i % 2) for i, c in enumerate(points)]]

    return bend


def swap(annotation: Annotation) -> None:
    (points,) = annotation["segmentation"]
    annotation["segmentation"] = [[c for i in range(0, 8, 2) for c in (points[i + 1], points[i])]]


def along_rows(annotation: Annotation) -> None:
    mask = rle_tools.decode(segmentation_rle(annotation["segmentation"], HEIGHT, WIDTH))
    wrong = np.asfortranarray(mask.ravel(order="C").reshape(HEIGHT, WIDTH, order="F"))
    counts = rle_tools.encode(wrong)["counts"].decode()
    annotation["segmentation"] = {"size": [HEIGHT, WIDTH], "counts": counts}


def empty(annotation: Annotation) -> None:
    annotation["segmentation"] = {"size": [HEIGHT, WIDTH], "counts": [WIDTH * HEIGHT]}


def to_corners(annotation: Annotation) -> None:
    x, y, w, h = annotation["bbox"]
    annotation["bbox"] = [x, y, x + w, y + h]


def to_centre(annotation: Annotation) -> None:
    x, y, w, h = annotation["bbox"]
    annotation["bbox"] = [x + w / 2, y + h / 2, w, h]


def to_shares(annotation: Annotation) -> None:
    x, y, w, h = annotation["bbox"]
    annotation["bbox"] = [x / WIDTH, y / HEIGHT, w / WIDTH, h / HEIGHT]


def shifted() -> dict[str, Any]:
    content = make()
    masks = [annotation["segmentation"] for annotation in content["annotations"]]
    for annotation, mask in zip(content["annotations"], masks[1:] + masks[:1], strict=True):
        annotation["segmentation"] = mask
    return content


SPOILED: dict[str, tuple[dict[str, Any], str]] = {
    "shares": (bent(polygon_of(lambda c, a: c / (WIDTH, HEIGHT)[a])), "normalised to 0..1"),
    "per cent": (bent(polygon_of(lambda c, a: 100 * c / (WIDTH, HEIGHT)[a])), "per cent"),
    "negative": (bent(polygon_of(lambda c, _: -1 - c), every=3), "negative"),
    "exchanged": (bent(swap), "x and y of the masks look exchanged"),
    "half size": (bent(polygon_of(lambda c, _: c / 2)), "images of another size"),
    "along rows": (bent(along_rows), "along rows"),
    "next one": (shifted(), "shifted by one annotation"),
    "empty": (bent(empty), "contradict their box: 90 of 90"),
    "corners with masks": (bent(to_corners), "boxes look like xyxy"),
    "corners": (bent(to_corners, masks=False), "boxes look like xyxy"),
    "centres": (bent(to_centre, masks=False), "centre, width and height"),
    "boxes as shares": (bent(to_shares, masks=False), "normalised to 0..1"),
    "two points": (bent(lambda a: a.update(segmentation=[[1, 1, 5, 5]])), "three points"),
    "outside": (bent(lambda a: a.update(bbox=[500, 5, 9, 9]), every=5, masks=False), "18 of 90"),
}


@pytest.mark.parametrize(("content", "cause"), SPOILED.values(), ids=SPOILED)
def test_a_spoiled_file_is_refused_with_its_cause(
    tmp_path: Path, content: dict[str, Any], cause: str
) -> None:
    with pytest.raises(PreflightError, match=cause) as caught:
        read(tmp_path, content)
    assert "\n" not in str(caught.value)


def test_corners_that_stay_inside_are_told_by_their_areas(tmp_path: Path) -> None:
    content = bent(to_corners, masks=False, num_images=60)
    for annotation in content["annotations"]:
        x, y, w, h = annotation["bbox"]
        if x + w > WIDTH or y + h > HEIGHT:
            annotation["bbox"], annotation["area"] = [5, 5, 30, 25], 500
    with pytest.raises(PreflightError, match="areas are those of corners"):
        read(tmp_path, content)


def test_a_sound_file_has_no_notes(tmp_path: Path) -> None:
    for masks in (True, False):
        assert read(tmp_path, make(masks=masks)).notes == ()


# One object of 90 has the blemish: kept or dropped, and counted.
FEW: dict[str, tuple[Callable[[Annotation], None], str, int]] = {
    "sliver": (lambda a: a.update(bbox=[40, 120, 33.7, 0.02]), "only touch their image", 89),
    "outside": (lambda a: a.update(bbox=[400, 10, 30, 30]), "outside their image, dropped: 1", 89),
    "empty list": (lambda a: a.update(segmentation=[]), "without a mask, given their box", 90),
    "empty polygon": (lambda a: a.update(segmentation=[[]]), "without a mask, given their box", 90),
    "two points": (lambda a: a.update(segmentation=[[1, 1, 5, 5]]), "replaced by their box", 90),
    "text": (lambda a: a.update(segmentation="mask"), "cannot be read, replaced by their box", 90),
    "empty mask": (empty, "contradict their box, replaced by their box: 1", 90),
    "negative": (polygon_of(lambda c, _: -1 - c), "contradict their box, replaced", 90),
    "no area": (lambda a: a.update(area=0), "missing or impossible, computed: 1", 90),
    "huge area": (lambda a: a.update(area=10**6), "missing or impossible, computed: 1", 90),
}


@pytest.mark.parametrize(("change", "said", "kept"), FEW.values(), ids=FEW)
def test_a_blemish_is_fixed_and_counted(
    tmp_path: Path, change: Callable[[Annotation], None], said: str, kept: int
) -> None:
    content = make()
    change(content["annotations"][4])
    found = read(tmp_path, content)
    assert [note for note in found.notes if said in note] == list(found.notes)
    assert "annotation 5" in found.notes[0]
    annotations = [a for image in found.images for a in image["annotations"]]
    assert len(annotations) == kept
    assert found.has_masks
    for annotation in annotations:
        x, y, w, h = annotation["bbox"]
        assert annotation["area"] == pytest.approx(w * h)
        drawn = rle_tools.toBbox(segmentation_rle(annotation["segmentation"], HEIGHT, WIDTH))
        assert drawn == pytest.approx([x, y, w, h], abs=1)


@pytest.mark.parametrize("value", [0, 1.0, "share", WIDTH * HEIGHT])
@pytest.mark.parametrize("masks", [True, False])
def test_placeholder_areas_are_computed(tmp_path: Path, value: Any, masks: bool) -> None:
    content = bent(
        lambda a: a.update(area=a["area"] / 19_200 if value == "share" else value), masks=masks
    )
    found = read(tmp_path, content)
    assert "areas look like placeholders, all computed: 90 (" in found.notes[0]
    truth = read(tmp_path, make(masks=masks))
    assert [i["annotations"] for i in found.images] == [i["annotations"] for i in truth.images]


def test_equal_areas_of_equal_boxes_stay(tmp_path: Path) -> None:
    content = bent(lambda a: a.update(bbox=[5 + a["id"], 5, 8, 8], area=64), masks=False)
    assert read(tmp_path, content).notes == ()


def test_many_objects_without_a_mask_make_boxes_only_and_say_so(tmp_path: Path) -> None:
    found = read(tmp_path, bent(lambda a: a.pop("segmentation"), every=10))
    assert not found.has_masks
    assert "9 of 90 objects have no mask, so all masks are left aside" in found.notes[0]


def test_a_corner_far_away_is_cut_off(tmp_path: Path) -> None:
    content = make()
    (points,) = content["annotations"][0]["segmentation"]
    content["annotations"][0]["segmentation"] = [[*points, 1e7, 1e7]]
    found = read(tmp_path, content)
    assert "corners outside their image, clipped: 1" in found.notes[0]
    (kept,) = found.images[0]["annotations"][0]["segmentation"]
    assert max(map(abs, kept)) <= WIDTH + 8


@pytest.mark.parametrize("seed", range(20))
def test_cutting_leaves_the_pixels_of_an_image(seed: int) -> None:
    """A corner three images away, near enough to be drawn whole: the same pixels but for edges."""
    rng = np.random.default_rng(seed)
    polygon = rng.uniform(-3 * WIDTH, 4 * WIDTH, 10).round(1).tolist()
    whole = rle_tools.decode(segmentation_rle([polygon], HEIGHT, WIDTH))
    cut = cut_to_image(polygon, WIDTH, HEIGHT)
    drawn = rle_tools.decode(segmentation_rle([cut], HEIGHT, WIDTH)) if len(cut) >= 6 else 0 * whole
    assert (whole != drawn).mean() < 0.02


def test_areas_of_polygons_are_gauss() -> None:
    assert area_of([[0, 0, 10, 0, 10, 5, 0, 5], [20, 20, 24, 20, 20, 26]]) == 50 + 12


def test_roboflows_group_is_dropped(tmp_path: Path) -> None:
    content = make()
    content["categories"].insert(0, {"id": 0, "name": "disc", "supercategory": "none"})
    found = read(tmp_path, content)
    assert (found.class_names, found.category_ids) == (("disc",), (1,))
    assert "only name a group, dropped: 1" in found.notes[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: [a.update(iscrowd=1) for a in c["annotations"][::2]], "45 of 90 annotations"),
        (lambda c: c["annotations"][0].update(ignore=1), "1 annotations are marked ignore"),
        (lambda c: c["images"][1].update(file_name="1.jpg"), "listed more than once"),
        (lambda c: c["categories"][0].update(frequency="r"), "LVIS"),
        (lambda c: c["images"][0].update(not_exhaustive_category_ids=[]), "LVIS"),
    ],
)
def test_what_a_reader_has_to_know_is_said(
    tmp_path: Path, change: Callable[[Any], Any], said: str
) -> None:
    content = make()
    change(content)
    (note,) = read(tmp_path, content).notes
    assert said in note


def test_full_images_are_told(tmp_path: Path) -> None:
    (note,) = read(tmp_path, make(num_images=2, objects=101)).notes
    assert "2 images have more than 100 objects, up to 101" in note


def halved(change_area: bool, **kwargs: Any) -> dict[str, Any]:
    """Return boxes and masks of images of half the size, with the areas of before or new ones."""

    def halve(annotation: Annotation) -> None:
        annotation["bbox"] = [c / 2 for c in annotation["bbox"]]
        if "segmentation" in annotation:
            annotation["segmentation"] = [[c / 2 for c in annotation["segmentation"][0]]]
        if change_area:
            annotation["area"] /= 4

    return bent(halve, **kwargs)


@pytest.mark.parametrize("masks", [True, False])
def test_one_factor_between_areas_and_what_they_measure_is_said(
    tmp_path: Path, masks: bool
) -> None:
    (said,) = [note for note in read(tmp_path, halved(False, masks=masks)).notes if "times" in note]
    assert "the areas are 4 times those of masks and boxes" in said
    assert not any("times" in n for n in read(tmp_path, halved(True, masks=masks)).notes)


def half_ellipse(annotation: Annotation) -> None:
    """Give areas of real shapes, whose ratios to their boxes differ."""
    annotation["area"] *= 0.5 + 0.4 * Random(annotation["id"]).random()


def test_areas_of_shapes_in_boxes_have_no_common_factor(tmp_path: Path) -> None:
    assert read(tmp_path, bent(half_ellipse, masks=False)).notes == ()


def cut_a_corner(annotation: Annotation) -> None:
    x, y, w, h = annotation["bbox"]
    annotation["segmentation"] = [[x, y, x + w, y, x + w, y + h]]
    annotation["area"] = w * h / 2


def test_masks_that_are_the_rectangles_of_their_boxes_are_said(tmp_path: Path) -> None:
    content = make(num_images=40)
    (said,) = read(tmp_path, content).notes
    assert "120 of 120 masks are the rectangles of their boxes" in said
    for annotation in content["annotations"][::10]:
        cut_a_corner(annotation)
    assert read(tmp_path, content).notes == ()


def test_a_single_full_image_is_counted_in_the_singular(tmp_path: Path) -> None:
    content = make(num_images=1, objects=101, masks=False)
    (note,) = [n for n in read(tmp_path, content).notes if "100 objects" in n]
    assert "1 image has more than 100 objects" in note
