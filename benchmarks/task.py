"""The ``Task`` contract: something that turns a checkpoint into numbers."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from backbones.base.monitor import Monitor
from backbones.checkpoint import Checkpoint
from backbones.spec import BackboneSpec
from backbones.timing.conditions import Rates
from backbones.training.held import Held
from benchmarks.by_image.images import ImageFile
from benchmarks.data.roots import DataRoot
from benchmarks.seed_floors import SeedFloor
from benchmarks.store.spec import FirstWeights, Start

# The task whose product is a checkpoint. Its losses mean nothing to one another, so that no table
# ranks them.
PRETRAIN = "pretrain"
# The measurement of results files that other programs wrote. It needs no checkpoint, so that no
# suite has it.
EXTERNAL = "external"
# What every task that builds a backbone loads.
NETWORK_LIBRARIES = ("torch", "torchvision", "timm")


@dataclass(frozen=True)
class Metric:
    """What a number means.

    Attributes:
        unit: "percent", "images/s" and the like.
        higher_is_better: The direction of a ranking.
        decimals: Digits behind the point in tables; records keep full precision.
    """

    unit: str = "percent"
    higher_is_better: bool = True
    decimals: int = 1


def percentages(*names: str) -> Mapping[str, Metric]:
    """Return metrics in percent, of which more is better, by name."""
    return {name: Metric() for name in names}


@dataclass(frozen=True)
class Facts:
    """What a plan must know of a data set.

    Attributes:
        fingerprint: Identity of the content, wherever it lies.
        num_train: Training images.
        num_test: Images that the metrics are computed on.
        former_fingerprint: What identified the data before their content did: names and sizes of
            files. Records of then bear it; empty where the identity is the same.
        notes: What was mended, and what a reader of the numbers has to know, one sentence each.
    """

    fingerprint: str
    num_train: int
    num_test: int
    former_fingerprint: str = ""
    notes: tuple[str, ...] = ()

    def bear(self, fingerprint: str) -> bool:
        """Return whether a record's fingerprint is that of these data, by today's or former rule.

        By the former rule, images of the same names and sizes are the same images.
        """
        return fingerprint in (self.fingerprint, self.former_fingerprint)


@dataclass(frozen=True)
class Workload:
    """What a configuration comes to on a data set.

    Attributes:
        protocol: Id of the rules that make numbers comparable.
        precision: "fp32" or "bf16".
        batch_size: Global, in images.
        num_steps: Optimizer updates.
        num_images: Training images drawn in all, repeats counted.
        batch_size_per_device: Images a process holds at once, where the processes of a run share
            out each batch and ``Task.held`` says nothing; 0 where they do not.
    """

    protocol: str
    precision: str
    batch_size: int
    num_steps: int
    num_images: int
    batch_size_per_device: int = 0


@dataclass(frozen=True)
class TaskInputs:
    """Everything one run of a task is given.

    Attributes:
        backbone: The network's name card.
        checkpoint: Its weights.
        config: The recipe, overrides applied; a frozen dataclass of the task's own.
        data: Where the data lies.
        out_dir: Folder for state and files; a run that finds state there goes on from it.
        cache: Folder for facts that can be computed anew.
        seed: Of everything random.
        limit_images: Use only that many images of each split; for testing.
        evaluator: Name of the evaluation engine; empty means the task's default.
        channels_last: Whether the network's weights may be laid out with channels last, as
            convolutions on a GPU like them.
        timed: Whether to time the run alone at its end, see ``backbones.timing.alone``.
        first: Detector that training begins with, in a task that ``begin`` planned so.
    """

    backbone: BackboneSpec
    checkpoint: Checkpoint
    config: Any
    data: DataRoot
    out_dir: Path
    cache: Path
    seed: int
    limit_images: int | None = None
    evaluator: str = ""
    channels_last: bool = True
    timed: bool = False
    first: FirstWeights | None = None


def inputs_on_mini(
    kind: str,
    backbone: BackboneSpec,
    checkpoint: Checkpoint,
    config: Any,
    folder: Path,
    limit_images: int,
) -> TaskInputs:
    """Return the inputs of a run on a few images of the mini data, for ``Task.try_out``.

    Args:
        kind: Of data, as in ``--data``.
        backbone: The network.
        checkpoint: Its weights.
        config: The recipe.
        folder: For whatever the run writes.
        limit_images: Of each split.
    """
    return TaskInputs(
        backbone=backbone,
        checkpoint=checkpoint,
        config=config,
        data=DataRoot(kind, "mini", None, "embedded"),
        out_dir=folder / "work",
        cache=folder,
        seed=0,
        limit_images=limit_images,
        # Nobody has tried whether the network can.
        channels_last=False,
    )


@dataclass(frozen=True)
class TaskResult:
    """What one run of a task found.

    Attributes:
        metrics: By name; None, or left out, where there is nothing to say.
        per_class: Metric by class by name.
        cost: Measured cost by name; the names carry the unit.
        curves: Series by name over "step"; those named GROUP/NAME over GROUP/step.
        coverage: One sentence on how the weights were loaded.
        details: What the run was, beyond the recipe (groups, sizes); plain JSON values.
        files: Results that stay beside the record, such as detections per image.
        warnings: Sentences that a reader of the numbers should know.
        unmeasured: Why metrics have no value, in a few words.
        rates: Speeds that were timed alone, by the names of the costs that they replace.
    """

    metrics: Mapping[str, float | None]
    per_class: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    cost: Mapping[str, float | None] = field(default_factory=dict)
    curves: Mapping[str, list[float]] = field(default_factory=dict)
    coverage: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    warnings: tuple[str, ...] = ()
    unmeasured: str = "no ground truth of this kind"
    rates: Rates = field(default_factory=Rates)


@dataclass(frozen=True)
class PublishedResults:
    """The data set on which others published results of a task, and how close to them is close.

    Attributes:
        data: Name of the data set, as tables show it.
        tolerance: How far from a printed figure an honest repetition may lie, in the unit of the
            metrics.
        is_data: Takes the name of measured data and the names of their classes (none if results say
            nothing of classes), returns whether they are this data set.
    """

    data: str
    tolerance: float
    is_data: Callable[[str, Collection[str]], bool]


class Measurement(Protocol):
    """What tables, pages and comparisons know of the numbers that records hold.

    Attributes that have a value here are optional. Raise ``version`` whenever the same inputs give
    another number.

    Attributes:
        name: As in records and suites.
        version: Of the measurement; rows of different versions never share a table.
        metrics: Every metric it can report.
        headline: The metric that ranks.
        columns: Metrics that a table shows, most important first.
        data_kind: Which data it reads: the KIND of ``--data KIND=DIR``, see ``data.roots.KINDS``.
        image_file: File in which every run keeps its results by image; without one, rows have no
            interval over test images and no paired comparison.
        published: Results of others to compare with, None where there are none.
        seed_floors: By protocol, how far trainings lie apart when only the seed differs; the key
            ``seed_floors.ANY_PROTOCOL`` stands for every other protocol. Rows with one seed of a
            protocol without a floor get no interval and no verdict.
        predictor: What the headline is called in the sentence on whether it predicts a transfer,
            such as "k-NN"; empty if no such sentence is wanted.
        is_transfer: Whether the headline is what others shall predict.
    """

    name: str
    version: int
    metrics: Mapping[str, Metric]
    headline: str
    columns: tuple[str, ...]
    data_kind: str
    image_file: ImageFile | None = None
    published: PublishedResults | None = None
    seed_floors: Mapping[str, SeedFloor] = {}
    predictor: str = ""
    is_transfer: bool = False

    def find_data(self, given: Mapping[str, Path]) -> DataRoot:
        """Return where the data lies.

        Args:
            given: Folders by data kind, from the command line.

        Raises:
            PreflightError: The folder is not what the task needs.
        """

    def read_facts(self, data: DataRoot, cache: Path) -> Facts:
        """Return what a plan needs to know; slow on first sight of large data, then cached.

        Args:
            data: From ``find_data``.
            cache: Folder to remember facts in.
        """

    def recipes(self) -> Mapping[str, Callable[[], Any]]:
        """Return the recipes by name; each call makes a frozen dataclass."""

    def check(self, config: Any) -> Any:
        """Return ``config`` with derived values filled in.

        Raises:
            UserError: A value is impossible, alone or beside another.
        """


class Task(Measurement, Protocol):
    """The measurement of a checkpoint; a folder in ``benchmarks/tasks`` registers its TASK.

    Derive from this class; docs/extending.md shows a whole task.

    Attributes:
        evaluators: Names of the evaluation engines, default first; empty where there is no choice.
        distributed: Whether all processes of a run form a group and do ``run`` together. Else the
            first runs alone, and the others help as far as ``take_part`` can.
        libraries: Modules of others that every run loads before it does anything. Runs of one
            command may share the loading, so nothing in them may compute when imported.
        trains: Whether a run also passes gradients back through the backbone, which an estimate of
            its cost counts.
        reads_maps: Whether it reads a network's maps, or only pooled features: networks that fail
            the check of their maps are refused.
        takes_detector: Whether a run may begin with the weights of a trained detector.
    """

    evaluators: tuple[str, ...] = ()
    distributed: bool = False
    libraries: tuple[str, ...] = NETWORK_LIBRARIES
    trains: bool = False
    reads_maps: bool = False
    takes_detector: bool = False

    def default_recipe(self, backbone: BackboneSpec, data: DataRoot) -> str:
        """Return the name of the recipe that fits a backbone and data set."""

    def fit_to_data(self, config: Any, facts: Facts, kept: Any) -> tuple[Any, tuple[str, ...]]:
        """Return what a recipe becomes on the data, and a sentence on each change.

        Args:
            config: Checked.
            facts: Of the data.
            kept: The recipe before overrides: what differs from it, a person asked for.
        """
        del facts, kept
        return config, ()

    def fit(self, config: Any, backbone: BackboneSpec) -> Any:
        """Return the recipe that a backbone is measured by, under another protocol id if need be.

        Args:
            config: From ``check``.
            backbone: The network.

        Raises:
            UserError: The backbone cannot be measured by this recipe.
        """
        del backbone
        return config

    def begin(
        self, config: Any, start: Start, backbone: BackboneSpec, data: DataRoot, cache: Path
    ) -> tuple[Any, str]:
        """Return a recipe whose training begins with a detector's weights, and what it takes.

        Only tasks of ``takes_detector`` are asked.

        Args:
            config: From ``fit``.
            start: The detector.
            backbone: The network.
            data: What the run trains on.
            cache: Folder for what is known of data.

        Returns:
            The recipe under a protocol of its own, and a sentence on what is loaded and fresh.

        Raises:
            UserError: The weights do not fit.
        """
        del start, backbone, data, cache
        return config, ""

    def held(self, config: Any, backbone: BackboneSpec) -> Held | None:
        """Return how many images a device may hold at once; None where ``config`` does not say."""
        del config, backbone
        return None

    def workload(self, config: Any, facts: Facts, limit_images: int | None) -> Workload:
        """Return what ``config`` comes to."""

    def multiply_adds(self, recipe: Mapping[str, Any], img_size: int) -> float:
        """Return about how many multiply-adds an image needs outside the backbone, forward.

        Args:
            recipe: The recipe's values as a record keeps them, possibly by an older version.
            img_size: Side of the image, in pixels.

        Raises:
            KeyError: The recipe lacks a value that the count needs.
        """
        del recipe, img_size
        return 0.0

    def try_out(self, backbone: BackboneSpec, checkpoint: Checkpoint, folder: Path) -> str:
        """Run the smallest possible run on the mini data, in seconds, and say how it went.

        Args:
            backbone: The network.
            checkpoint: Its weights.
            folder: For whatever it writes.

        Raises:
            Exception: The backbone does not work in this task; the message says how.
        """

    def run(self, inputs: TaskInputs, monitor: Monitor) -> TaskResult:
        """Measure, going on from whatever state ``inputs.out_dir`` holds.

        Raises:
            StoppedError: The monitor asked to stop; the state is saved.
            UserError: The weights or the data are not what they should be.
        """

    def take_part(self, inputs: TaskInputs, monitor: Monitor) -> None:
        """Do the share of a further process of a run, whose first process measures.

        Raises:
            StoppedError: As ``run``.
            UserError: As ``run``.
        """
