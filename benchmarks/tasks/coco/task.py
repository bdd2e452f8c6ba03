"""Mask R-CNN on COCO-format data: APbox, APmask and what they cost."""

import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from backbones.base.cores import loader_workers
from backbones.base.errors import PreflightError
from backbones.base.files import hash16
from backbones.base.monitor import Monitor, SilentMonitor
from backbones.checkpoint import Checkpoint
from backbones.spec import BackboneSpec
from backbones.training.held import Held
from benchmarks.annotated.detected import (
    COCO_COLUMNS,
    COCO_EVALUATORS,
    COCO_HEADLINE,
    COCO_METRICS,
    MATCHED_IMAGES,
)
from benchmarks.annotated.task import AnnotatedTask
from benchmarks.data.coco import open_coco
from benchmarks.data.roots import DataRoot
from benchmarks.seed_floors import COCO_FLOORS
from benchmarks.store.folders import CACHE
from benchmarks.store.spec import Start
from benchmarks.task import (
    Facts,
    PublishedResults,
    TaskInputs,
    TaskResult,
    Workload,
    inputs_on_mini,
)
from detection.config import DetectionConfig
from detection.model.arithmetic import head_multiply_adds
from detection.protocols import fit, held
from detection.recipes import RECIPES, default_recipe
from detection.schedule import images_in_use, num_steps
from detection.small_sets import FEWEST_STEPS, begun_with, lengthened, with_more_detections

# Three times the scatter of ViTDet's five seeds (0.1 APbox, detectron2 projects/ViTDet README).
_TOLERANCE = 0.3
# Other data in COCO's layout are told from COCO itself by their classes.
_NUM_CLASSES, _SOME_CLASSES = 80, frozenset({"person", "hair drier", "toothbrush"})


def _is_coco(data: str, classes: Collection[str]) -> bool:
    if classes:
        return len(classes) == _NUM_CLASSES and set(classes) >= _SOME_CLASSES
    return "coco" in data.lower()


class CocoTask(AnnotatedTask):
    """The task; see ``benchmarks.task.Task`` for what each part means.

    The twelve box and twelve mask numbers are those of COCO's own evaluation
    (https://cocodataset.org/#detection-eval).
    """

    name = "coco"
    version = 1
    headline = COCO_HEADLINE
    seed_floors = COCO_FLOORS
    evaluators = COCO_EVALUATORS
    distributed = True
    trains = True
    image_file = MATCHED_IMAGES
    published = PublishedResults("COCO 2017", _TOLERANCE, _is_coco)
    is_transfer = True
    reads_maps = True
    takes_detector = True
    columns = COCO_COLUMNS
    metrics = COCO_METRICS

    def recipes(self) -> Mapping[str, Callable[[], DetectionConfig]]:
        """Return the recipes by name."""
        return RECIPES

    def default_recipe(self, backbone: BackboneSpec, data: DataRoot) -> str:
        """Return the recipe of the backbone's family."""
        return default_recipe(backbone, data.mini)

    def check(self, config: DetectionConfig) -> DetectionConfig:
        """Return ``config`` with derived values filled in."""
        return with_more_detections(config.resolved())

    def fit_to_data(
        self, config: DetectionConfig, facts: Facts, kept: DetectionConfig
    ) -> tuple[DetectionConfig, tuple[str, ...]]:
        """Return the recipe with steps enough on a small set, unless a length was asked for."""
        longer = lengthened(config, facts.num_train)
        if longer is None or config.schedule.epochs != kept.schedule.epochs:
            return config, ()
        steps = num_steps(config.schedule, images_in_use(config.data, facts.num_train))
        sentence = (
            f"{config.schedule.epochs:g} epochs of {facts.num_train} training images are {steps} "
            f"steps, raised to {FEWEST_STEPS} ({longer.schedule.epochs:.0f} epochs) under protocol "
            f"{longer.protocol}; --set schedule.epochs=... sets another length, and "
            "--recipe small is made for such sets."
        )
        return longer, (sentence,)

    def fit(self, config: DetectionConfig, backbone: BackboneSpec) -> DetectionConfig:
        """Return the recipe that a backbone is measured by; see ``detection.protocols``."""
        return fit(config, backbone)

    def begin(
        self,
        config: DetectionConfig,
        start: Start,
        backbone: BackboneSpec,
        data: DataRoot,
        cache: Path,
    ) -> tuple[DetectionConfig, str]:
        """Return the recipe whose training begins with a detector, after a look whether it fits."""
        # torch and detectron2 come in here: weights that do not fit shall not wait in a queue.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the libraries' own, about each other
            from detection.start import DetectorStart, planned

        given = DetectorStart(start.first.path, start.first.sha256, start.first.class_names)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the libraries' own, about each other
                filled = planned(given, backbone, config, open_coco(data), cache)
        except PreflightError as error:
            raise PreflightError(
                f"--init-from {start.first.source}: {error} It was trained by {start.recipe} "
                f"({start.protocol}); use its recipe and size, or another detector."
            ) from error
        digits = hash16({"protocol": start.protocol, "data": start.fingerprint})[:6]
        name = Path(start.first.source).name
        sentence = (
            f"the detector {name} ({start.protocol} on {start.data}): {filled.sentence()}. Only "
            "rows that begin with detectors of this protocol and these data share a table."
        )
        return replace(config, protocol=begun_with(config.protocol, digits)), sentence

    def held(self, config: DetectionConfig, backbone: BackboneSpec) -> Held:
        """Return how many images a device may hold at once."""
        return held(config, backbone)

    def workload(self, config: DetectionConfig, facts: Facts, limit_images: int | None) -> Workload:
        """Return what ``config`` comes to."""
        num_train = min(facts.num_train, limit_images or facts.num_train)
        steps = num_steps(config.schedule, images_in_use(config.data, num_train))
        return Workload(
            protocol=config.protocol,
            precision=config.schedule.precision,
            batch_size=config.schedule.batch_size,
            num_steps=steps,
            num_images=steps * config.schedule.batch_size,
        )

    def multiply_adds(self, recipe: Mapping[str, Any], img_size: int) -> float:
        """Return about what neck and heads need for an image."""
        return head_multiply_adds(recipe["model"], img_size)

    def try_out(self, backbone: BackboneSpec, checkpoint: Checkpoint, folder: Path) -> str:
        """Train two steps on four images and evaluate on four."""
        config = RECIPES["mini"]()
        schedule = replace(config.schedule, epochs=1.0, batch_size=2, batch_size_per_device=2)
        small = self.fit(self.check(replace(config, schedule=schedule)), backbone)
        inputs = inputs_on_mini(self.data_kind, backbone, checkpoint, small, folder, limit_images=4)
        result = self.run(inputs, SilentMonitor())
        losses = ", ".join(f"{loss:.2f}" for loss in result.curves["loss"])
        return f"trained (loss {losses}) and evaluated on images of {config.data.img_size} pixels"

    def run(self, inputs: TaskInputs, monitor: Monitor) -> TaskResult:
        """Train and evaluate."""
        # detectron2 and torch come in here, so that planning does without them.
        from detection.start import DetectorStart
        from detection.transfer import TransferJob, transfer

        first = inputs.first
        job = TransferJob(
            spec=inputs.backbone,
            checkpoint=inputs.checkpoint,
            config=inputs.config,
            data=open_coco(inputs.data),
            out_dir=inputs.out_dir,
            seed=inputs.seed,
            cache=inputs.cache,
            limit_images=inputs.limit_images,
            evaluator=inputs.evaluator or self.evaluators[0],
            num_workers=loader_workers(),
            runs=inputs.cache.parent if inputs.cache.name == CACHE else None,
            channels_last=inputs.channels_last,
            timed=inputs.timed,
            start=DetectorStart(first.path, first.sha256, first.class_names) if first else None,
        )
        outcome = transfer(job, monitor)
        return TaskResult(
            metrics=outcome.metrics,
            per_class=outcome.per_class,
            cost=outcome.cost,
            curves=outcome.curves,
            coverage=outcome.coverage,
            details=outcome.details,
            warnings=outcome.warnings,
            rates=outcome.rates,
            files=(outcome.detections_file, outcome.matches_file),
        )

    def take_part(self, inputs: TaskInputs, monitor: Monitor) -> None:
        """Train and evaluate with the others."""
        self.run(inputs, monitor)


TASK = CocoTask()
