"""An image with its objects, or with what a detector found there, drawn over it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pycocotools.mask as rle_tools
from PIL import Image, ImageDraw, ImageFont

from detection.data.pixels import pixels_of
from detection.data.segmentation import segmentation_rle
from detection.scoring.detections import Detections
from detection.scoring.matches import DetectionMatches, places_within

Colour = tuple[int, int, int]

# Okabe and Ito's colours, which colour-blind people tell apart: blue, vermilion, yellow, grey.
RIGHT: Colour = (0, 114, 178)
WRONG: Colour = (213, 94, 0)
OBJECT: Colour = (240, 228, 66)
CROWD: Colour = (153, 153, 153)
# Of classes: Okabe and Ito's seven colours besides black.
_COLOURS: tuple[Colour, ...] = (
    RIGHT, WRONG, (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233), OBJECT,
)  # fmt: skip
_MASK_SHARE = 0.4
# Sides in pixels: smaller pictures are enlarged until words can be read.
_LEAST_SIDE = 320
_LINE = 2
_FONT_SIZE = 12
_CAPTION = 18
_FEWEST_SHOWN = 3


@dataclass(frozen=True)
class DrawnObject:
    """A thing to draw.

    Attributes:
        box: x0, y0, x1, y1 in pixels of the image.
        rle: Its mask as COCO run lengths, None for none.
        text: Beside the box.
        colour: Of all of it.
    """

    box: tuple[float, float, float, float]
    rle: dict[str, Any] | None
    text: str
    colour: Colour


def truth_shapes(image: dict[str, Any], class_names: Sequence[str]) -> list[DrawnObject]:
    """Return the objects of a dataset dict.

    Args:
        image: As ``detection.data.dataset.load_truth`` gives it.
        class_names: In order of the class index.
    """
    shapes = []
    for annotation in image["annotations"]:
        x, y, width, height = annotation["bbox"]
        segmentation = annotation.get("segmentation")
        size = image["height"], image["width"]
        shapes.append(
            DrawnObject(
                box=(x, y, x + width, y + height),
                rle=segmentation_rle(segmentation, *size) if segmentation else None,
                text=class_names[annotation["category_id"]],
                colour=CROWD if annotation["iscrowd"] else OBJECT,
            )
        )
    return shapes


def found_shapes(
    detections: Detections, matches: DetectionMatches, image_id: int
) -> list[DrawnObject]:
    """Return what a detector is surest of: as many as there are objects, and three at least.

    Blue ones are right at an IoU of 0.5, vermilion ones are wrong.

    Args:
        detections: Of the detector.
        matches: Of these detections.
        image_id: Of the image.
    """
    at = int(np.searchsorted(detections.image_ids, image_id))
    rows = np.arange(detections.ends[at - 1] if at else 0, detections.ends[at])
    count = int((matches.object_images == at).sum())
    # Matches stand by class, image and score, and leave out what is too much of one class.
    rows = rows[np.lexsort((-detections.scores[rows], detections.classes[rows]))]
    rows = rows[places_within(detections.classes[rows], np.zeros_like(rows)) < matches.most]
    fate = np.flatnonzero(matches.images == at)
    right = matches.kinds["box"].right[fate, 0, 0]
    best = np.argsort(-detections.scores[rows], kind="stable")[: max(count, _FEWEST_SHOWN)]
    size = detections.sizes[at].tolist()
    names = [matches.class_names[c] for c in matches.classes[fate]]
    return [
        DrawnObject(
            box=tuple(detections.boxes[rows[n]].tolist()),
            rle=None if detections.masks is None else _rle(size, detections.masks[rows[n]]),
            text=f"{names[n]} {detections.scores[rows[n]]:.2f}",
            colour=RIGHT if right[n] else WRONG,
        )
        for n in best[::-1].tolist()
    ]


def surest_shapes(
    detections: Detections, image_id: int, class_names: Sequence[str], least_score: float
) -> list[DrawnObject]:
    """Return what a detector found in an image, the surest last; a class has one colour.

    Args:
        detections: Of the detector.
        image_id: Of the image.
        class_names: In order of the class index.
        least_score: Lowest score that is returned.
    """
    at = int(np.searchsorted(detections.image_ids, image_id))
    rows = np.arange(detections.ends[at - 1] if at else 0, detections.ends[at])
    rows = rows[detections.scores[rows] >= least_score]
    rows = rows[np.argsort(detections.scores[rows], kind="stable")]
    size = detections.sizes[at].tolist()
    return [
        DrawnObject(
            box=tuple(detections.boxes[row].tolist()),
            rle=None if detections.masks is None else _rle(size, detections.masks[row]),
            text=f"{class_names[detections.classes[row]]} {detections.scores[row]:.2f}",
            colour=_COLOURS[int(detections.classes[row]) % len(_COLOURS)],
        )
        for row in rows.tolist()
    ]


def draw(image: Mapping[str, Any], shapes: Sequence[DrawnObject], caption: str) -> Image.Image:
    """Return an image with shapes over it and a caption above.

    Args:
        image: As ``detection.data.dataset.load_truth`` gives it.
        shapes: The last ones on top.
        caption: Cut where it is too long.

    Raises:
        PreflightError: The image cannot be used.
    """
    return draw_over(pixels_of(image), shapes, caption)


def draw_over(picture: Image.Image, shapes: Sequence[DrawnObject], caption: str) -> Image.Image:
    """Return a picture with shapes over it and a caption above.

    Args:
        picture: RGB.
        shapes: The last ones on top.
        caption: Cut where it is too long.
    """
    pixels = np.asarray(picture, dtype=np.float64)
    for shape in shapes:
        if shape.rle is not None:
            pixels = _tinted(pixels, rle_tools.decode(shape.rle), shape.colour)
    scale = max(1.0, _LEAST_SIDE / max(picture.size))
    size = round(scale * picture.width), round(scale * picture.height)
    large = Image.fromarray(pixels.astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
    canvas = Image.new("RGB", (size[0], size[1] + _CAPTION), (255, 255, 255))
    canvas.paste(large, (0, _CAPTION))
    pen = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(_FONT_SIZE)
    pen.text((3, 1), caption, fill=(0, 0, 0), font=font)
    places = []
    for shape in shapes:
        x0, y0, x1, y1 = (scale * side for side in shape.box)
        box = (x0, y0 + _CAPTION, max(x0, x1), max(y0, y1) + _CAPTION)
        pen.rectangle(box, outline=shape.colour, width=_LINE)
        places.append((x0, y0 + _CAPTION))
    _label(pen, list(zip(places, shapes, strict=True)), font)
    return canvas


def side_by_side(panels: Sequence[Image.Image]) -> Image.Image:
    """Return panels of one height in a row."""
    gap = _LINE * 2
    width = sum(panel.width + gap for panel in panels) - gap
    row = Image.new("RGB", (width, max(panel.height for panel in panels)), (255, 255, 255))
    left = 0
    for panel in panels:
        row.paste(panel, (left, 0))
        left += panel.width + gap
    return row


def _rle(size: list[int], counts: bytes) -> dict[str, Any]:
    return {"size": size, "counts": counts}


def _tinted(
    pixels: npt.NDArray[np.float64], mask: npt.NDArray[np.uint8], colour: Colour
) -> npt.NDArray[np.float64]:
    """Return (H, W, 3) pixels tinted where the (H, W) mask is 1, (H, W, 3)."""
    share = _MASK_SHARE * mask[..., None]
    tinted: npt.NDArray[np.float64] = (1 - share) * pixels + share * np.array(colour)
    return tinted


def _label(
    pen: ImageDraw.ImageDraw, shapes: Sequence[tuple[tuple[float, float], DrawnObject]], font: Any
) -> None:
    """Write texts at upper left corners, on grounds of their colours, none over another."""
    taken: list[tuple[float, float, float, float]] = []
    for (left, top), shape in reversed(shapes):
        x, y = max(left, 0), max(top - _FONT_SIZE - 2, _CAPTION)
        ground = pen.textbbox((x, y), shape.text, font=font)
        while any(_overlap(ground, other) for other in taken):
            y += _FONT_SIZE + 2
            ground = pen.textbbox((x, y), shape.text, font=font)
        taken.append(ground)
        pen.rectangle(ground, fill=shape.colour)
        dark = sum(shape.colour) < 3 * 128
        pen.text((x, y), shape.text, fill=(255, 255, 255) if dark else (0, 0, 0), font=font)


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
