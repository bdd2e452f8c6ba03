"""The work of the task finetune: one training, its scores."""

import numpy as np
import numpy.typing as npt

from backbones import devices
from backbones.distributed import leave_process_group, rank
from backbones.monitor import Monitor, SilentMonitor
from benchmarks.imagenet.by_image import PREDICTIONS_FILE
from benchmarks.imagenet.folders import LabelledImages, class_name, open_labelled
from benchmarks.imagenet.predict import Tested
from benchmarks.imagenet.real_labels import judge_real, read_real_labels, real_top1
from benchmarks.imagenet.scores import about_top5, write_predictions
from benchmarks.imagenet.tuning import Tuned, Tuning
from benchmarks.imagenet.vision_sets import about_mean_class
from benchmarks.task import TaskInputs, TaskResult

_NAMED = 3


def run_finetune(inputs: TaskInputs, monitor: Monitor) -> TaskResult:
    """Train and test.

    Raises:
        UserError: Recipe and backbone do not go together, or the loss is no finite number.
        PreflightError: Weights, images or disk cannot serve.
        StoppedError: The monitor asked to stop; the state is saved.
    """
    device = devices.join()
    try:
        quiet = monitor if rank() == 0 else Quiet(monitor)
        images = open_labelled(inputs.data, inputs.cache, inputs.limit_images)
        tuned = Tuning(inputs, inputs.config, images, device, quiet).run()
        tested = tuned.tested
        real = _judge_real(images, tested)
        path = inputs.out_dir / PREDICTIONS_FILE
        if rank() == 0:
            verdicts = {"finetune": tested.verdict}
            write_predictions(path, tested.indices, tested.labels, verdicts, "finetune", real)
    finally:
        leave_process_group()
    scores = tuned.scores
    return TaskResult(
        metrics={
            "finetune_top1": scores.top1,
            "finetune_top5": scores.top5,
            "finetune_mean_class": scores.mean_class,
            "finetune_real": real_top1(real),
        },
        per_class={
            class_name(inputs.data, number, images.classes): {"top1": value}
            for number, value in scores.per_class.items()
        },
        cost=tuned.cost(),
        curves=tuned.fitted.curve,
        coverage=tuned.coverage.sentence(),
        details={
            **tuned.card,
            "num_test": len(tested.indices),
            "num_classes": len(images.classes),
        },
        files=(path,),
        warnings=(
            *warnings_of(tuned, len(images.classes)),
            *about_mean_class(inputs.data),
        ),
    )


class Quiet(SilentMonitor):
    """Lets all processes but the first stop, and speak no word."""

    def __init__(self, monitor: Monitor) -> None:
        """Take over the wish to stop."""
        self.should_stop = monitor.should_stop  # type: ignore[method-assign]


def warnings_of(tuned: Tuned, num_classes: int) -> list[str]:
    """Return what a reader of the numbers should know."""
    found = about_top5(num_classes)
    texts = {"training": tuned.fitted.unreadable, "test": tuned.tested.unreadable}
    for what, unreadable in texts.items():
        if unreadable:
            named = "; ".join(unreadable[:_NAMED])
            more = f" and {len(unreadable) - _NAMED} more" if len(unreadable) > _NAMED else ""
            found.append(f"left out {len(unreadable)} unreadable {what} images: {named}{more}")
    return found


def _judge_real(images: LabelledImages, tested: Tested) -> npt.NDArray[np.int8] | None:
    """Return the verdict on reassessed labels, None where the data have none."""
    names = [images.val.name_of(int(index)) for index in tested.indices]
    return judge_real(tested.verdict.predicted, read_real_labels(images.root, names))
