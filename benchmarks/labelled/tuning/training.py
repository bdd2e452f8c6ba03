"""One fine-tuning from weights to verdicts; the tasks finetune and partial are made of these."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from backbones.base import devices
from backbones.base.cores import loader_workers
from backbones.base.distributed import rank, world_size
from backbones.base.files import hash16
from backbones.base.monitor import Monitor, say_card
from backbones.spec import BuildOptions
from backbones.timing.alone import Rehearsal
from backbones.training.config import ScheduleConfig
from backbones.training.engine import Training, fit
from backbones.training.fitted import Fitted
from backbones.training.optim import make_optimizer, parameter_groups
from backbones.training.pixels import Pixels
from backbones.training.schedules import make_plan
from backbones.training.session import card_of, cost_of, scalar_writer
from backbones.training.settle import Settled, Trial, settle
from backbones.training.state import StateFolder, random_seed
from backbones.training.stream import Loaded, batches, share_out
from backbones.vit.network import VisionTransformer
from backbones.weights.loading import Coverage, build_backbone
from benchmarks.labelled.scores import ClassificationScores, about_top5, about_unreadable, score
from benchmarks.labelled.sets.folders import LabelledImages, labels_of
from benchmarks.labelled.sets.subsets import list_of, read_list, take_per_class
from benchmarks.labelled.tuning.config import FinetuneConfig
from benchmarks.labelled.tuning.objective import FinetuneObjective
from benchmarks.labelled.tuning.predict import Tested, classify_all, rehearse_test
from benchmarks.task import TaskInputs
from pretrain.data.images import ImageSet, Subset
from pretrain.identity import settings_hash
from pretrain.methods.supervised import SupervisedViews
from pretrain.stream import Samples


@dataclass(frozen=True)
class Tuned:
    """What a training came to.

    Attributes:
        fitted: How it went.
        tested: What the classifier says of the test images.
        scores: The same in percent.
        coverage: How the weights were loaded.
        card: What was decided for the user, in plain values.
        training_cost: What the training cost, by name.
        rehearsals: The work to be timed once the weights are not needed any more, by cost.
    """

    fitted: Fitted
    tested: Tested
    scores: ClassificationScores
    coverage: Coverage
    card: dict[str, Any]
    training_cost: dict[str, float | None]
    rehearsals: dict[str, Callable[[], Rehearsal]]

    def cost(self) -> dict[str, float | None]:
        """Return what it cost, by name."""
        return {**self.training_cost, "images_per_second_test": self.tested.images_per_second}


class Tuning:
    """A training that goes on from what its folder holds."""

    def __init__(
        self,
        inputs: TaskInputs,
        config: FinetuneConfig,
        images: LabelledImages,
        device: torch.device,
        monitor: Monitor,
    ) -> None:
        """Build everything.

        Args:
            inputs: Of the run; ``out_dir`` holds the state.
            config: The recipe; ``inputs.config`` may be that of several trainings.
            images: To train and test on.
            device: Of this process.
            monitor: To report to.

        Raises:
            UserError: Recipe, images and backbone do not go together.
            PreflightError: The weights do not fit, or the list of labels not the images.
        """
        self._inputs = inputs
        self._config = config
        self._images = images
        self._monitor = monitor
        self._workers = loader_workers()
        self._threads = devices.choose_threads(device, self._workers)
        self._train, self._labels_from = self._with_labels()
        self._objective, self._coverage = make_objective(inputs, config, len(images.classes))
        self._objective.to(device)
        self._plan = make_plan(config.schedule, config.optim, len(self._train))
        self._pixels = Pixels(inputs.backbone, device)
        spec, crop = inputs.backbone, config.training().data
        views = SupervisedViews(crop, config.model, spec.mean, spec.std)
        self._samples = Samples(self._train, views, inputs.seed, crop.max_corrupt)
        self._device = device
        self._settled = self._settle()
        self._share = share_out(self._settled.schedule, rank(), world_size())

    def run(self) -> Tuned:
        """Train and test.

        Raises:
            UserError: A loss is no finite number, or the folder holds another run's state.
            PreflightError: A state cannot be written, or too many images cannot be read.
            StoppedError: The monitor wanted to stop; the state is saved.
        """
        config, out_dir = self._config, self._inputs.out_dir
        groups = parameter_groups(self._objective, config.optim)
        training = Training(
            objective=self._objective,
            optimizer=make_optimizer(groups, config.optim),
            plan=self._plan,
            share=self._share,
            seed_key=("step", self._inputs.seed),
            ready=self._pixels.ready,
            optim=config.optim,
            schedule=self._settled.schedule,
            runtime=config.runtime,
            max_corrupt=config.data.max_corrupt,
            phase="finetune",
            fewer=self._settled.fewer,
        )
        common = card_of(training, groups, self._threads, self._workers, held_as=self._settled.why)
        card = {**self._card(), **common}
        say_card(self._monitor, card)
        states = StateFolder(out_dir / "states", self._identity())
        with scalar_writer(out_dir) as writer:
            fitted = fit(training, states, self._batches, self._monitor, writer=writer)
        tested = classify_all(
            self._objective, self._pixels, self._images.val, config, self._monitor
        )
        return Tuned(
            fitted=fitted,
            tested=tested,
            scores=score(tested.verdict, tested.labels, len(self._images.classes)),
            coverage=self._coverage,
            card={**card, "speed": fitted.speed},
            training_cost=cost_of(fitted, self._objective),
            rehearsals={
                "images_per_second_test": self._rehearse_test,
                "images_per_second_train": fitted.rehearse,
            },
        )

    def _settle(self) -> Settled[ScheduleConfig]:
        """Return how many images are held at once."""
        inputs, config = self._inputs, self._config
        trial = Trial(
            objective=self._objective,
            batch_of=lambda count: self._pixels.ready(self._samples(range(count)).batch),
            network=inputs.backbone.name,
            settings=[vars(config.tune), config.data.img_size, vars(config.runtime)],
            cache=inputs.cache,
        )
        held = config.training().held(inputs.backbone)
        return settle(config.schedule, held, trial)

    def _rehearse_test(self) -> Rehearsal:
        return rehearse_test(self._objective, self._pixels, self._images.val, self._config)

    def _batches(self, start_step: int) -> Iterator[Loaded]:
        pin = self._device.type == "cuda"
        return batches(self._samples, self._share, start_step, self._workers, pin)

    def _with_labels(self) -> tuple[ImageSet, str]:
        """Return the training images in use, and where the choice comes from."""
        images, share = self._images.train, self._config.tune.labels
        if share == 1.0:
            return images, "all"
        path = list_of(self._images.root, share)
        if path.is_file() and self._inputs.limit_images is None:
            names = [images.name_of(index) for index in range(len(images))]
            return Subset(images, read_list(path, names).tolist()), path.name
        seed = self._inputs.seed
        return Subset(
            images, take_per_class(labels_of(images), share, seed).tolist()
        ), f"seed {seed}"

    def _card(self) -> dict[str, Any]:
        """Return what was decided for the user about a fine-tuning, in words."""
        return {
            "weights": self._coverage.sentence(),
            "images": f"{len(self._train)} of {self._images.train.name}, labels: "
            f"{self._labels_from}",
        }

    def _identity(self) -> dict[str, str]:
        """Return all that decides the course of the training."""
        inputs, config = self._inputs, self._config
        tuned = vars(config.tune)
        return {
            "backbone": inputs.backbone.name,
            "protocol": config.protocol,
            "settings": hash16([settings_hash(config.training()), tuned]),
            "images": self._train.fingerprint,
            "seed": str(inputs.seed),
            "first weights": inputs.checkpoint.sha256[:16],
        }


def make_objective(
    inputs: TaskInputs, config: FinetuneConfig, num_classes: int
) -> tuple[FinetuneObjective, Coverage]:
    """Return what is trained, with its weights, the head drawn from the run's seed.

    Position tables fit the size of the images: those of Swin and BEiT by loading, that of the plain
    ViT for good here, so that it is trained at that size.

    Raises:
        UserError: Recipe and backbone do not go together.
        PreflightError: The weights do not fit.
    """
    options = BuildOptions(img_size=config.data.img_size, drop_path=config.model.drop_path)
    backbone, coverage = build_backbone(inputs.backbone, inputs.checkpoint, options, inputs.seed)
    if isinstance(backbone, VisionTransformer):
        backbone.resize_table(config.data.img_size)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(random_seed("head", inputs.seed))
        objective = FinetuneObjective(backbone, num_classes, config.model, config.tune)
    return objective, coverage


def warnings_of(tuned: Tuned, num_classes: int) -> list[str]:
    """Return what a reader of the numbers should know."""
    found = about_top5(num_classes)
    texts = {"training": tuned.fitted.unreadable, "test": tuned.tested.unreadable}
    for what, unreadable in texts.items():
        found += about_unreadable(unreadable, what)
    return [*found, *tuned.fitted.warnings()]
