"""The work of the task finetune: one training, its scores."""

import numpy as np
import numpy.typing as npt

from backbones.base.distributed import rank
from backbones.base.monitor import Monitor
from backbones.timing.alone import time_alone
from backbones.timing.conditions import Rates
from backbones.training.session import joined
from benchmarks.by_image.classified import PREDICTIONS_FILE
from benchmarks.labelled.scores import write_predictions
from benchmarks.labelled.sets.folders import LabelledImages, class_name, open_labelled
from benchmarks.labelled.sets.real_labels import judge_real, read_real_labels, real_top1
from benchmarks.labelled.sets.vision_sets import about_mean_class
from benchmarks.labelled.tuning.predict import Tested
from benchmarks.labelled.tuning.training import Tuning, warnings_of
from benchmarks.task import TaskInputs, TaskResult


def run_finetune(inputs: TaskInputs, monitor: Monitor) -> TaskResult:
    """Train and test.

    Raises:
        UserError: Recipe and backbone do not go together, or the loss is no finite number.
        PreflightError: Weights, images or disk cannot serve.
        StoppedError: The monitor asked to stop; the state is saved.
    """
    with joined(monitor) as (device, quiet):
        images = open_labelled(inputs.data, inputs.cache, inputs.limit_images)
        tuned = Tuning(inputs, inputs.config, images, device, quiet).run()
        tested = tuned.tested
        real = _judge_real(images, tested)
        path = inputs.out_dir / PREDICTIONS_FILE
        if rank() == 0:
            verdicts = {"finetune": tested.verdict}
            write_predictions(path, tested.indices, tested.labels, verdicts, "finetune", real)
        rates = time_alone(tuned.rehearsals, quiet) if inputs.timed else Rates()
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
        rates=rates,
        warnings=(
            *warnings_of(tuned, len(images.classes)),
            *about_mean_class(inputs.data),
        ),
    )


def _judge_real(images: LabelledImages, tested: Tested) -> npt.NDArray[np.int8] | None:
    """Return the verdict on reassessed labels, (N,), None where the data have none."""
    names = [images.val.name_of(int(index)) for index in tested.indices]
    return judge_real(tested.verdict.predicted.tolist(), read_real_labels(images.root, names))
