"""The work of the task partial: a fine-tuning for each number of trained blocks, and the curve."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import sqrt
from pathlib import Path

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from backbones.base.distributed import rank
from backbones.base.errors import UserError
from backbones.base.files import atomic_file
from backbones.base.monitor import Monitor
from backbones.spec import BackboneSpec, BuildOptions
from backbones.timing.alone import time_alone
from backbones.timing.conditions import Rates
from backbones.training.session import joined
from benchmarks.by_image.classified import PREDICTIONS_FILE
from benchmarks.labelled.scores import write_predictions
from benchmarks.labelled.sets.folders import open_labelled
from benchmarks.labelled.tuning.config import ALL_BLOCKS
from benchmarks.labelled.tuning.objective import mlp_names
from benchmarks.labelled.tuning.training import Tuned, Tuning, warnings_of
from benchmarks.task import TaskInputs, TaskResult
from benchmarks.tasks.partial.recipes import PartialConfig

CURVE_FILE = "partial.png"
_HALF = 0.5
_Z95 = 1.96
# By metric, the number of trained blocks; figure 9 of He et al. 2022 speaks of these.
POINTS: Mapping[str, float] = {
    "partial1_top1": 1.0,
    "partial_half_top1": 0.5,
    "partial0_top1": 0.0,
    "partial4_top1": 4.0,
    "partial_all_top1": ALL_BLOCKS,
}


def run_partial(inputs: TaskInputs, monitor: Monitor) -> TaskResult:
    """Fine-tune once for each number of blocks; what is done already is only tested again.

    Raises:
        UserError: Recipe and backbone do not go together, or the loss is no finite number.
        PreflightError: Weights, images or disk cannot serve.
        StoppedError: The monitor asked to stop; the state is saved.
    """
    config: PartialConfig = inputs.config
    numbers = _numbers(config, inputs.backbone)
    with joined(monitor) as (device, quiet):
        images = open_labelled(inputs.data, inputs.cache, inputs.limit_images)
        tuned: dict[float, Tuned] = {}
        for number in numbers:
            quiet.say(f"trained: {name_of(number)} of {inputs.backbone.num_layers} blocks")
            own = replace(inputs, out_dir=inputs.out_dir / f"blocks-{name_of(number)}")
            tuned[number] = Tuning(own, config.of(number), images, device, quiet).run()
        files = _write(inputs, tuned) if rank() == 0 else ()
        last = tuned[numbers[-1]]
        rates = time_alone(last.rehearsals, quiet) if inputs.timed else Rates()
    shown = [_place(number, inputs.backbone.num_layers) for number in numbers]
    top1 = {number: found.scores.top1 for number, found in tuned.items()}
    return TaskResult(
        metrics={name: top1.get(number) for name, number in POINTS.items()},
        cost={
            **last.cost(),
            "seconds": sum(found.fitted.seconds for found in tuned.values()),
        },
        curves={"step": shown, "blocks": shown, "top1": list(top1.values())},
        coverage=last.coverage.sentence(),
        details={name_of(number): found.card for number, found in tuned.items()},
        files=files,
        rates=rates,
        warnings=tuple(warnings_of(last, len(images.classes))),
        unmeasured="this number of blocks was not trained",
    )


def _numbers(config: PartialConfig, spec: BackboneSpec) -> list[float]:
    """Return the points that a backbone has; one without MLPs has no half block.

    Raises:
        UserError: It has none of them.
    """
    with torch.device("meta"):
        half = bool(mlp_names(spec.build(BuildOptions())))
    numbers = [n for n in config.numbers(spec.num_layers) if half or n != _HALF]
    if not numbers:
        raise UserError(f"{spec.name} has none of the points in blocks; --set blocks to others.")
    return numbers


def name_of(blocks: float) -> str:
    """Return a number of trained blocks as people read it."""
    return "all" if blocks == ALL_BLOCKS else f"{blocks:g}"


def draw_curve(
    path: Path, title: str, blocks: Sequence[float], top1: Sequence[float], num_images: int
) -> None:
    """Draw accuracy over the number of trained blocks, in the manner of figure 9.

    Bars span the 95 % interval over test images, so that a wiggle does not pass for a finding.

    Args:
        path: PNG file, written atomically.
        title: Above the curve.
        blocks: Rising.
        top1: In percent.
        num_images: Tested images.

    Raises:
        PreflightError: The file cannot be written.
    """
    figure = Figure(figsize=(5.0, 3.2), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    shares = [value / 100 for value in top1]
    half = [100 * _Z95 * sqrt(share * (1 - share) / num_images) for share in shares]
    axes.errorbar(blocks, top1, yerr=half, marker="o", elinewidth=1, capsize=3)
    for place, value in zip(blocks, top1, strict=True):
        axes.annotate(
            f"{value:.1f}", (place, value), textcoords="offset points", xytext=(6, 5), ha="left"
        )
    axes.set_xlabel("blocks fine-tuned")
    axes.set_ylabel("top1 (%)")
    axes.set_title(title)
    axes.set_xticks(list(blocks))
    axes.margins(x=0.12, y=0.15)
    axes.grid(alpha=0.3)
    with atomic_file(path) as file:
        figure.savefig(file, format="png")


def _write(inputs: TaskInputs, tuned: Mapping[float, Tuned]) -> tuple[Path, ...]:
    """Write the curve, and what each classifier says of each image."""
    curve, predictions = inputs.out_dir / CURVE_FILE, inputs.out_dir / PREDICTIONS_FILE
    places = [_place(number, inputs.backbone.num_layers) for number in tuned]
    names = {number: metric.removesuffix("_top1") for metric, number in POINTS.items()}
    verdicts = {
        names.get(n, f"blocks-{name_of(n)}"): found.tested.verdict for n, found in tuned.items()
    }
    tested = next(iter(tuned.values())).tested
    title = f"{inputs.backbone.name} ({inputs.checkpoint.method or inputs.checkpoint.format})"
    top1 = [found.scores.top1 for found in tuned.values()]
    draw_curve(curve, title, places, top1, len(tested.labels))
    headline = "partial1" if "partial1" in verdicts else next(iter(verdicts))
    write_predictions(predictions, tested.indices, tested.labels, verdicts, headline)
    return curve, predictions


def _place(blocks: float, num_layers: int) -> float:
    """Return where a number of trained blocks stands on the axis."""
    return float(num_layers) if blocks == ALL_BLOCKS else blocks
