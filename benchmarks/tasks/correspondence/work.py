"""The work of the task correspondence: two views, matches, their mean."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from backbones.base.monitor import Monitor
from benchmarks.labelled.regions.config import RegionConfig
from benchmarks.labelled.regions.evaluation import RegionEvaluation, Seen
from benchmarks.task import TaskInputs, TaskResult
from benchmarks.tasks.correspondence.by_image import CORRESPONDENCE, IMAGE_FILE
from benchmarks.tasks.correspondence.matches import RegionMatches, ShowPairs, match_mirrored
from benchmarks.tasks.correspondence.pictures import draw_matches
from pretrain.parts.distilled.regions import encode_regions
from pretrain.pictures import grid, write_png

PICTURE_FILE = "correspondence.png"
_COLUMNS = ("numbers", "accuracy", "pixels")


def run_correspondence(inputs: TaskInputs, monitor: Monitor) -> TaskResult:
    """Match the regions of every test image with those of its mirrored, grey view.

    Raises:
        PreflightError: Weights, images or disk cannot serve.
        StoppedError: The monitor asked to stop.
    """
    config: RegionConfig = inputs.config
    look = RegionEvaluation(inputs, monitor)
    backbone = look.frozen.backbone
    stride = backbone.strides[-1]
    columns = -(-config.data.img_size // stride)
    found, pairs = _Found(look.saved), partial(ShowPairs, seed=inputs.seed)

    def match(seen: Seen) -> RegionMatches:
        with torch.no_grad():
            first, second = (
                encode_regions(backbone, look.ready(view))[1] for view in seen.views.unbind(dim=1)
            )
        return match_mirrored(first, second, columns, stride, config.look.num_pairs)

    for seen in look.batches("match", found.tensors, pairs):
        if seen.numbers:
            found.add(seen, match(seen), stride)
    numbers, *measured = (found.parts[name].numpy() for name in _COLUMNS)
    by_image = dict(zip(_COLUMNS[1:], measured, strict=True))
    files = _write(inputs.out_dir, {"indices": numbers, **by_image}, found.parts["pictures"])
    regions = columns * columns
    return TaskResult(
        metrics={
            "correspondence_accuracy": 100 * float(by_image["accuracy"].mean()),
            "correspondence_distance": float(by_image["pixels"].mean()),
        },
        cost=look.cost(),
        coverage=look.frozen.coverage.sentence(),
        details={
            "num_test": len(numbers),
            "regions": regions,
            "region_pixels": stride,
            "num_pairs": min(config.look.num_pairs, regions),
            "chance_accuracy": 100 / regions,
            "device": str(look.frozen.device),
        },
        files=files,
        warnings=tuple(look.warnings()),
        rates=look.rates(match, pairs),
    )


class _Found:
    """What the images so far came to.

    Attributes:
        parts: Columns with a row an image, and pictures of some images.
    """

    def __init__(self, saved: Mapping[str, Tensor]) -> None:
        empty = {"numbers": torch.empty(0, dtype=torch.int64), "pictures": torch.empty(0)}
        fresh = {name: torch.empty(0, dtype=torch.float64) for name in _COLUMNS[1:]}
        self.parts: dict[str, Tensor] = {**fresh, **empty, **saved}

    def tensors(self) -> dict[str, Tensor]:
        return self.parts

    def add(self, seen: Seen, matches: RegionMatches, stride: int) -> None:
        self._append("numbers", torch.tensor(seen.numbers))
        self._append("accuracy", matches.right.double().mean(dim=1))
        self._append("pixels", matches.pixels.mean(dim=1))
        if seen.drawn:
            self._append("pictures", _draw(seen, matches, stride))

    def _append(self, name: str, rows: Tensor) -> None:
        """Add (n, ...) rows to the end of a column."""
        before = self.parts[name]
        self.parts[name] = torch.cat([before, rows.cpu()]) if len(before) else rows.cpu()


def _draw(seen: Seen, matches: RegionMatches, stride: int) -> Tensor:
    """Return pictures of the n drawn images' matches, (n, 1, 3, height, width) uint8."""
    chosen = torch.tensor(seen.drawn, device=matches.first.device)
    parts = (matches.first, matches.second, matches.right, matches.pixels)
    own = RegionMatches(*(part[chosen].cpu() for part in parts))
    return draw_matches(seen.views[seen.drawn], own, stride)


def _write(folder: Path, columns: dict[str, Any], pictures: Tensor) -> tuple[Path, ...]:
    """Write each image's columns and (n, 1, 3, height, width) pictures; return the files."""
    CORRESPONDENCE.write(folder / IMAGE_FILE.name, columns)
    if not len(pictures):
        return (folder / IMAGE_FILE.name,)
    write_png(folder / PICTURE_FILE, grid(pictures))
    return folder / IMAGE_FILE.name, folder / PICTURE_FILE
