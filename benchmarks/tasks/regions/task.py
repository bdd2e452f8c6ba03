"""The region probe: what frozen maps know about single objects, in one forward pass."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from backbones.base.monitor import Monitor, SilentMonitor
from backbones.checkpoint import Checkpoint
from backbones.spec import BackboneSpec
from benchmarks.annotated.task import AnnotatedTask
from benchmarks.by_image.images import ImageFile, ImageResults
from benchmarks.data.roots import DataRoot
from benchmarks.seed_floors import REGIONS_FLOORS
from benchmarks.task import (
    Facts,
    Metric,
    TaskInputs,
    TaskResult,
    Workload,
    inputs_on_mini,
)
from benchmarks.tasks.regions.boxes import SIZES
from benchmarks.tasks.regions.recipes import REGION_RECIPES, RegionProbeConfig
from benchmarks.tasks.regions.results import RESULTS_FILE, read_results
from detection.protocols import square_for, squared_name

_PERCENT = Metric()


def _read(path: Path, metrics: Sequence[str]) -> ImageResults:
    del metrics
    return read_results(path)


class RegionsTask(AnnotatedTask):
    """The task; see ``benchmarks.task.Task`` for what each part means.

    A detector's heads learn so much by themselves that a backbone's features hardly show on small
    data. Here the features of the annotated boxes are asked directly.
    """

    name = "regions"
    version = 1
    headline = "region_top1"
    seed_floors = REGIONS_FLOORS
    reads_maps = True
    image_file = ImageFile(RESULTS_FILE, _read)
    predictor = "region probe"
    columns = (
        "region_top1", "region_knn_top1", "region_iou", "region_mean_class",
        "region_background_top1", "region_iou75",
    )  # fmt: skip
    metrics: Mapping[str, Metric] = dict.fromkeys(
        (
            *columns,
            "region_iou50",
            *(f"region_{kind}_{size}" for kind in ("top1", "iou") for size in SIZES),
        ),
        _PERCENT,
    )

    def recipes(self) -> Mapping[str, Callable[[], RegionProbeConfig]]:
        """Return the recipes by name."""
        return REGION_RECIPES

    def default_recipe(self, backbone: BackboneSpec, data: DataRoot) -> str:
        """Return the recipe for the mini data, or the common one, the same for all backbones."""
        del backbone
        return "region-probe-mini" if data.mini else "region-probe"

    def check(self, config: RegionProbeConfig) -> RegionProbeConfig:
        """Return ``config``, whose values are possible."""
        return config.resolved()

    def fit(self, config: RegionProbeConfig, backbone: BackboneSpec) -> RegionProbeConfig:
        """Return the recipe; a network of one size gets squares, under a protocol of its own.

        Raises:
            UserError: The network cannot be built for the recipe's size.
        """
        images = config.images
        if not backbone.fixed_size or images.square:
            return config
        size = square_for(backbone, [images.max_size], config.protocol)
        return replace(
            config,
            protocol=squared_name(config.protocol, size),
            images=replace(images, square=True),
        )

    def workload(
        self, config: RegionProbeConfig, facts: Facts, limit_images: int | None
    ) -> Workload:
        """Return what ``config`` comes to: forward passes of the backbone, not updates."""
        most = config.images.max_train_images or facts.num_train
        train = min(facts.num_train, most, limit_images or facts.num_train)
        test = min(facts.num_test, limit_images or facts.num_test)
        size = config.extraction.batch_size
        steps = -(-train // size) + -(-test // size)
        return Workload(
            protocol=config.protocol,
            precision=config.extraction.precision,
            batch_size=size,
            num_steps=steps,
            num_images=steps * size,
        )

    def try_out(self, backbone: BackboneSpec, checkpoint: Checkpoint, folder: Path) -> str:
        """Probe the boxes of eight images."""
        config = self.fit(REGION_RECIPES["region-probe-mini"](), backbone)
        small = replace(config, heads=replace(config.heads, l2s=(0.1,), box_l2s=(1.0,)))
        inputs = inputs_on_mini(self.data_kind, backbone, checkpoint, small, folder, limit_images=8)
        result = self.run(inputs, SilentMonitor())
        return f"read {result.details['num_test_boxes']} boxes"

    def run(self, inputs: TaskInputs, monitor: Monitor) -> TaskResult:
        """Pool, fit and test."""
        # torch comes in here, so that planning does without it.
        from benchmarks.tasks.regions.work import run_regions

        return run_regions(inputs, monitor)

    def take_part(self, inputs: TaskInputs, monitor: Monitor) -> None:
        """Leave the work to the first process."""


TASK = RegionsTask()
