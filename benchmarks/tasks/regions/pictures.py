"""Pictures of a region probe: which classes are taken for which, and the boxes themselves."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from backbones.base.files import atomic_file
from benchmarks.tasks.regions.extract import PooledBoxes
from benchmarks.tasks.regions.results import RegionResults
from detection.data.pixels import pixels_of

# Classes that the matrix names; of more, those with the most objects.
_MOST_CLASSES = 20
_MISTAKES = 24
_COLUMNS = 6
# Share of a box's sides that a picture shows around it.
_CONTEXT = 0.25


def draw_confusion(path: Path, results: RegionResults, class_names: Sequence[str]) -> None:
    """Write the share of each class's objects that the linear classifier takes for each class.

    Args:
        path: A PNG file.
        results: Of the validation boxes.
        class_names: By class.
    """
    labels, predicted = results.columns["labels"], results.columns["predicted"]
    counts = np.bincount(labels, minlength=len(class_names))
    shown = np.sort(np.argsort(-counts, kind="stable")[:_MOST_CLASSES])
    shown = shown[counts[shown] > 0]
    matrix = np.zeros((len(shown), len(shown)))
    for row, label in enumerate(shown):
        own = predicted[labels == label]
        matrix[row] = [100 * float((own == other).mean()) for other in shown]
    side = 2.5 + 0.32 * len(shown)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    picture = axes.imshow(matrix, cmap="Blues", vmin=0, vmax=100)
    names = [str(class_names[label])[:20] for label in shown]
    axes.set_xticks(range(len(shown)), names, rotation=60, ha="right", fontsize=8)
    axes.set_yticks(range(len(shown)), names, fontsize=8)
    axes.set_xlabel("predicted by the linear classifier")
    axes.set_ylabel("annotated")
    for row in range(len(shown)):
        for column in range(len(shown)):
            if matrix[row, column] >= 0.5:
                colour = "white" if matrix[row, column] > 60 else "black"
                axes.text(
                    column, row, f"{matrix[row, column]:.0f}", ha="center", va="center",
                    fontsize=7, color=colour,
                )  # fmt: skip
    figure.colorbar(picture, ax=axes, label="% of the class's objects", shrink=0.8)
    _save(figure, path)


def draw_mistakes(
    path: Path,
    images: Sequence[Mapping[str, Any]],
    boxes: PooledBoxes,
    results: RegionResults,
    class_names: Sequence[str],
) -> None:
    """Write pictures of wrongly classified boxes, evenly spread over the validation images.

    Args:
        path: A PNG file.
        images: Dataset dicts of the validation images.
        boxes: Their pooled boxes.
        results: How these fared.
        class_names: By class.
    """
    wrong = np.flatnonzero(~results.columns["linear"])
    chosen = wrong[np.linspace(0, len(wrong) - 1, min(_MISTAKES, len(wrong))).astype(int)]
    rows = max(1, -(-len(chosen) // _COLUMNS))
    figure = Figure(figsize=(1.7 * _COLUMNS, 2.0 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, row in zip(grid, chosen, strict=False):
        image = images[int(boxes.images[row])]
        axes.imshow(_cut_out(image, boxes.boxes[row]))
        said = str(class_names[int(results.columns["predicted"][row])])[:18]
        axes.set_title(f"{str(class_names[int(boxes.labels[row])])[:18]}\nread as {said}", size=8)
    figure.suptitle(
        f"{len(wrong):,} of {len(results.columns['linear']):,} boxes have a wrong class", size=9
    )
    _save(figure, path)


def _cut_out(image: Mapping[str, Any], box: Any) -> Image.Image:
    """Return the pixels of a box with some context."""
    whole = pixels_of(image)
    margin = _CONTEXT * (box[2:] - box[:2])
    left, top = np.maximum(box[:2] - margin, 0)
    right = min(box[2] + margin[0], whole.width)
    bottom = min(box[3] + margin[1], whole.height)
    return whole.crop((int(left), int(top), max(int(right), int(left) + 1),
                       max(int(bottom), int(top) + 1)))  # fmt: skip


def _save(figure: Figure, path: Path) -> None:
    with atomic_file(path) as file:
        figure.savefig(file, format="png", dpi=100, metadata={"Software": None})
