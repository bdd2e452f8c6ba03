"""What tasks on labelled images share."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from backbones.base.errors import PreflightError
from backbones.base.monitor import Monitor, SilentMonitor
from backbones.checkpoint import Checkpoint
from backbones.spec import BackboneSpec
from benchmarks.data.roots import DataRoot, find_labelled_root
from benchmarks.labelled.sets.folders import has_train_folder, read_facts
from benchmarks.labelled.sets.vision_sets import VISION_SETS, vision_set
from benchmarks.task import (
    Facts,
    PublishedResults,
    Task,
    TaskInputs,
    TaskResult,
    Workload,
    inputs_on_mini,
)

# Of each split, for a try-out: as many as the headline of k-NN needs neighbours.
_TRIED = 20
_IMAGENET_CLASSES = 1000


@dataclass(frozen=True)
class Passes:
    """Images that a recipe shows a backbone.

    Attributes:
        train: Times that each training image is seen.
        test: Times that each test image is seen.
    """

    train: int = 1
    test: int = 1


def published_on_imagenet(tolerance: float) -> PublishedResults:
    """Return what a task compares with whose published results are of ImageNet-1K.

    Args:
        tolerance: How far from a printed figure an honest repetition may lie, in percent points.
    """
    return PublishedResults("ImageNet-1K", tolerance, _is_imagenet)


def _is_imagenet(data: str, classes: Collection[str]) -> bool:
    if classes:
        return len(classes) == _IMAGENET_CLASSES
    return any(name in data.lower() for name in ("imagenet", "ilsvrc", "in1k"))


class LabelledTask(Task):
    """Base of the tasks; see ``benchmarks.task.Task`` for what each part means.

    Attributes:
        choices: Recipes by name.
        defaults: Names of the recipes for the mini data and for all others.
        on_features: Whether the task reads features of whole splits, which processes can share.
    """

    choices: ClassVar[Mapping[str, Callable[[], Any]]]
    defaults: tuple[str, str]
    data_kind = "imagenet"
    on_features: bool = False

    def find_data(self, given: Mapping[str, Path]) -> DataRoot:
        """Return where the images lie."""
        root = find_labelled_root(given)
        here = root.path is None or has_train_folder(root.path)
        if not here and vision_set(root) is None:
            raise PreflightError(
                f"{root.path} ({root.origin}) has no folder train; labelled images lie in "
                "train/CLASS and val/CLASS, in tar shards in train and val, or as torchvision "
                f"keeps {', '.join(VISION_SETS)}."
            )
        return root

    def read_facts(self, data: DataRoot, cache: Path) -> Facts:
        """Return what a plan needs to know; the mini data need not exist yet."""
        return read_facts(data, cache)

    def recipes(self) -> Mapping[str, Callable[[], Any]]:
        """Return the recipes by name."""
        return self.choices

    def default_recipe(self, backbone: BackboneSpec, data: DataRoot) -> str:
        """Return the recipe for the mini data, or the common one, the same for all backbones."""
        del backbone
        return self.defaults[0] if data.mini else self.defaults[1]

    def check(self, config: Any) -> Any:
        """Return ``config``, whose values are possible."""
        return config.resolved()

    def passes(self, config: Any) -> Passes:
        """Return how often a recipe shows the backbone each image."""
        del config
        return Passes()

    def workload(self, config: Any, facts: Facts, limit_images: int | None) -> Workload:
        """Return what ``config`` comes to: forward passes of the backbone, not updates."""
        train, test = (min(n, limit_images or n) for n in (facts.num_train, facts.num_test))
        passes = self.passes(config)
        size = config.extraction.batch_size
        steps = passes.train * -(-train // size) + passes.test * -(-test // size)
        return Workload(
            protocol=config.protocol,
            precision=config.extraction.precision,
            batch_size=size,
            num_steps=steps,
            num_images=steps * size,
        )

    def try_out_inputs(
        self, backbone: BackboneSpec, checkpoint: Checkpoint, folder: Path
    ) -> TaskInputs:
        """Return the inputs of a run on a few images of the mini data."""
        config = self.choices[self.defaults[0]]()
        return inputs_on_mini(self.data_kind, backbone, checkpoint, config, folder, _TRIED)

    def try_out(self, backbone: BackboneSpec, checkpoint: Checkpoint, folder: Path) -> str:
        """Measure on twenty images."""
        result = self.run(self.try_out_inputs(backbone, checkpoint, folder), SilentMonitor())
        return f"measured {self.headline} on {result.details['num_test']} images"

    def run(self, inputs: TaskInputs, monitor: Monitor) -> TaskResult:
        """Measure; see the contract."""
        raise NotImplementedError

    def take_part(self, inputs: TaskInputs, monitor: Monitor) -> None:
        """Train with the others, or extract features beside the first process."""
        if self.distributed:
            self.run(inputs, monitor)
        elif self.on_features:
            # torch comes in here, so that planning does without it.
            from benchmarks.labelled.features.frozen import FrozenEvaluation

            FrozenEvaluation(inputs, inputs.config.data, inputs.config.extraction, monitor)
