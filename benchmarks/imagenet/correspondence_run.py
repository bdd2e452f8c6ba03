"""The work of the task correspondence: two views, matches, their mean."""

from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from backbones.files import write_atomically
from backbones.monitor import Monitor
from benchmarks.imagenet.correspondence import Matches, ShowPairs, match_mirrored
from benchmarks.imagenet.look import Look, Seen
from benchmarks.imagenet.region_pictures import draw_matches
from benchmarks.imagenet.region_recipes import RegionConfig
from benchmarks.task import TaskInputs, TaskResult
from pretrain.parts.regions import encode_regions
from pretrain.pictures import grid, write_png

PICTURE_FILE = "correspondence.png"
IMAGES_FILE = "correspondence.npz"


def run_correspondence(inputs: TaskInputs, monitor: Monitor) -> TaskResult:
    """Match the regions of every test image with those of its mirrored, grey view.

    Raises:
        PreflightError: Weights, images or disk cannot serve.
        StoppedError: The monitor asked to stop.
    """
    config: RegionConfig = inputs.config
    look = Look(inputs, monitor)
    backbone = look.frozen.backbone
    stride = backbone.strides[-1]
    columns = -(-config.data.img_size // stride)
    numbers: list[int] = []
    accuracy, pixels, pictures = [], [], []
    for seen in look.batches("match", partial(ShowPairs, seed=inputs.seed)):
        if not seen.numbers:
            continue
        with torch.no_grad():
            first, second = (
                encode_regions(backbone, look.ready(view))[1] for view in seen.views.unbind(dim=1)
            )
        matches = match_mirrored(first, second, columns, stride, config.look.num_pairs)
        numbers += seen.numbers
        accuracy.append(matches.right.double().mean(dim=1).cpu())
        pixels.append(matches.pixels.mean(dim=1).cpu())
        if seen.drawn:
            pictures.append(_draw(seen, matches, stride))
    by_image = {"accuracy": torch.cat(accuracy).numpy(), "pixels": torch.cat(pixels).numpy()}
    files = _write(inputs.out_dir, {"indices": np.array(numbers), **by_image}, pictures)
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
    )


def _draw(seen: Seen, matches: Matches, stride: int) -> torch.Tensor:
    chosen = torch.tensor(seen.drawn, device=matches.first.device)
    parts = (matches.first, matches.second, matches.right, matches.pixels)
    own = Matches(*(part[chosen].cpu() for part in parts))
    return draw_matches(seen.views[seen.drawn], own, stride)


def _write(folder: Path, columns: dict[str, Any], pictures: list[torch.Tensor]) -> tuple[Path, ...]:
    """Write what each image came to, and the pictures; return the files."""

    def write(file: BinaryIO) -> None:
        np.savez_compressed(file, **columns)

    write_atomically(folder / IMAGES_FILE, write)
    if not pictures:
        return (folder / IMAGES_FILE,)
    write_png(folder / PICTURE_FILE, grid(torch.cat(pictures)))
    return folder / IMAGES_FILE, folder / PICTURE_FILE
