"""COCO's numbers of a results file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pycocotools.mask as rle_tools

from backbones.base.errors import PreflightError
from detection.data.segmentation import BrokenMaskError, check_segmentation, segmentation_rle
from detection.scoring.cocoeval import score
from detection.scoring.detections import DETECTIONS_FILE, Detections, write_detections
from detection.scoring.matches import MATCHES_FILE, write_matches
from detection.scoring.matching import match
from detection.scoring.results.belonging import judge, positions_of, sizes_of
from detection.scoring.results.reading import ResultColumns, read_results
from detection.scoring.results.truth import ScoringTruth

# Of files that torch.save wrote.
_TORCH_SUFFIXES = (".pt", ".pth")


@dataclass(frozen=True)
class OpenedResults:
    """The detections of a results file that belong to the data.

    Attributes:
        detections: Of all images.
        remarks: What a reader of the scores has to know, one sentence each.
    """

    detections: Detections
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class ScoredResults:
    """COCO's numbers of a results file.

    Attributes:
        metrics: As ``detection.scoring.cocoeval.CocoScores``.
        per_class: As ``detection.scoring.cocoeval.CocoScores``.
        evaluator: Engine and version.
        files: Detections and matches.
    """

    metrics: dict[str, float | None]
    per_class: dict[str, dict[str, float | None]]
    evaluator: str
    files: tuple[Path, Path]


def open_results(path: Path, scoring: ScoringTruth, *, boxes_only: bool = False) -> OpenedResults:
    """Read a results file and check that it belongs to the data.

    Args:
        path: The file: JSON, or ``.pt`` and ``.pth`` by torch.save; see ``reading`` and
            ``torch_file``.
        scoring: What it is held against.
        boxes_only: Leave masks out.

    Raises:
        PreflightError: It cannot be read, or does not belong to the data; one sentence with counts
            and the likely cause.
    """
    columns = _read(path, boxes_only)
    judged = judge(columns, scoring)
    if judged.refusals:
        raise PreflightError(f"{path} does not fit the data: {'; '.join(judged.refusals)}.")
    return OpenedResults(_detections(path, columns, scoring), judged.remarks)


def _read(path: Path, boxes_only: bool) -> ResultColumns:
    if path.suffix not in _TORCH_SUFFIXES:
        return read_results(path, boxes_only=boxes_only)
    # torch comes in here, so that results in JSON do without it.
    from detection.scoring.results.torch_file import read_torch_results

    return read_torch_results(path, boxes_only=boxes_only)


def score_results(
    opened: OpenedResults, scoring: ScoringTruth, out_dir: Path, evaluator: str
) -> ScoredResults:
    """Score detections as an evaluation of a detector does.

    Args:
        opened: The detections.
        scoring: What they are held against.
        out_dir: Gets ``detections.npz`` and ``matches.npz``.
        evaluator: "hotcoco" or "pycocotools".

    Raises:
        UserError: The evaluator is unknown.
        PreflightError: A file cannot be written.
    """
    detections = opened.detections
    scores = score(scoring.truth, detections, evaluator)
    files = out_dir / DETECTIONS_FILE, out_dir / MATCHES_FILE
    write_detections(files[0], detections)
    write_matches(files[1], match(scoring.truth, detections))
    return ScoredResults(scores.metrics, scores.per_class, scores.evaluator, files)


def _detections(path: Path, columns: ResultColumns, scoring: ScoringTruth) -> Detections:
    """Return detections by image, in the file's order within one.

    Raises:
        PreflightError: A mask given as polygons cannot be right.
    """
    images = positions_of(columns, scoring)
    sizes = sizes_of(scoring)
    order = np.argsort(images, kind="stable")
    masks = _masks(path, columns, sizes[images].tolist())
    xywh = _xywh(columns, masks, sizes[images].tolist())[order]
    corners = xywh.copy()
    corners[:, 2:] += xywh[:, :2]
    classes = {number: index for index, number in enumerate(scoring.category_ids)}
    ids = np.array(sorted(image["image_id"] for image in scoring.truth.images), dtype=np.int64)
    return Detections(
        image_ids=ids,
        sizes=sizes.astype(np.int32),
        ends=np.cumsum(np.bincount(images, minlength=len(ids)), dtype=np.int64),
        boxes=corners.astype(np.float32),
        scores=columns.scores[order],
        classes=np.array([classes[n] for n in columns.category_ids[order].tolist()], np.int32),
        masks=None if masks is None else [masks[row] for row in order.tolist()],
        xywh=xywh,
    )


def _masks(path: Path, columns: ResultColumns, sizes: list[list[int]]) -> list[bytes] | None:
    """Return the run lengths of all masks, None where detections have none."""
    if any(mask is None for mask in columns.masks):
        return None
    found: list[bytes] = []
    for number, (mask, size) in enumerate(zip(columns.masks, sizes, strict=True), start=1):
        found.append(mask if isinstance(mask, bytes) else _drawn(path, number, mask, size))
    return found


def _drawn(path: Path, number: int, polygons: Any, size: list[int]) -> bytes:
    try:
        checked = check_segmentation(polygons, *size)
    except BrokenMaskError as error:
        raise PreflightError(f"{path}: entry {number} has {error}.") from error
    assert checked.segmentation is not None
    counts: bytes = segmentation_rle(checked.segmentation, *size)["counts"]
    return counts


def _xywh(
    columns: ResultColumns, masks: list[bytes] | None, sizes: list[list[int]]
) -> npt.NDArray[np.float64]:
    """Return the boxes, (N, 4); where an entry has none, that of its mask, as pycocotools does."""
    boxes = columns.boxes.copy()
    for row in np.flatnonzero(np.isnan(boxes).any(axis=1)).tolist():
        assert masks is not None
        boxes[row] = rle_tools.toBbox({"size": sizes[row], "counts": masks[row]})
    return boxes
