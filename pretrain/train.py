"""The front door: images in, a ``Checkpoint`` out."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from backbones.base import devices
from backbones.base.distributed import rank, world_size
from backbones.base.monitor import Monitor, say_card
from backbones.base.sections import as_plain
from backbones.checkpoint import Checkpoint
from backbones.spec import BackboneSpec
from backbones.timing.alone import time_alone
from backbones.timing.conditions import Rates
from backbones.training.config import ScheduleConfig
from backbones.training.engine import Hook, Training, fit
from backbones.training.fitted import Fitted
from backbones.training.objective import Objective
from backbones.training.optim import make_optimizer, parameter_groups
from backbones.training.pixels import Pixels
from backbones.training.schedules import make_plan
from backbones.training.session import (
    card_of,
    cost_of,
    joined,
    parameters_millions,
    scalar_writer,
)
from backbones.training.settle import Settled, Trial, settle
from backbones.training.state import StateFolder, random_seed
from backbones.training.stream import Loaded, batches, share_out
from backbones.weights.files import save_weights
from pretrain.config import PretrainConfig
from pretrain.data.find import find_images, take_fraction
from pretrain.identity import identity_of, with_classes
from pretrain.initial import load_initial
from pretrain.method import Method, get_method
from pretrain.objective_file import save_objective
from pretrain.pictures import NUM_ROWS, PictureTaker
from pretrain.stream import Samples


@dataclass(frozen=True)
class PretrainJob:
    """One pretraining run.

    Attributes:
        spec: Of the backbone.
        config: The recipe, overrides applied.
        images: What to train on, see ``pretrain.data.find.find_images``.
        out_dir: For states, curves, pictures and weights; a run goes on from what it finds there.
        seed: Of fresh weights, order, augmentation and masks.
        cache: For listings of large image sets.
        recipe: The recipe's name, for the checkpoint's record.
        limit_images: Train on this many images at most, for a quick look.
        num_workers: Loader processes beside each training process.
        init_from: Weights to begin with, as ``pretrain.initial.plan_initial`` returns them; None
            draws all weights from the seed.
        data_name: Of the images, for the checkpoint's record; empty takes the folder's.
        timed: Whether to time training alone at the end.
    """

    spec: BackboneSpec
    config: PretrainConfig
    images: Path
    out_dir: Path
    seed: int
    cache: Path
    recipe: str = ""
    limit_images: int | None = None
    num_workers: int = 1
    init_from: Checkpoint | None = None
    data_name: str = ""
    timed: bool = False


@dataclass(frozen=True)
class PretrainResult:
    """What a pretraining run made.

    Attributes:
        checkpoint: The backbone's weights and their record.
        objective_file: Weights of the whole objective, heads included.
        curves: Columns of the training curve.
        cost: images_per_second_train (None when too short to be timed), loader_wait_percent,
            parameters_millions, peak_memory_gib, seconds (of training steps, over all starts).
        pictures: PNG files of the last picture taken.
        details: The start-up card: what was decided for the user, in plain values.
        warnings: What a reader of the numbers has to know, one sentence each.
        rates: Speed of training, timed alone at the end; see ``timing.alone``.
    """

    checkpoint: Checkpoint
    objective_file: Path
    curves: dict[str, list[float]]
    cost: dict[str, float | None]
    pictures: tuple[Path, ...]
    details: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    rates: Rates = field(default_factory=Rates)


def pretrain(job: PretrainJob, monitor: Monitor) -> PretrainResult:
    """Pretrain a backbone, going on where an earlier start stopped.

    Every process of a distributed run calls this.

    Args:
        job: What to do.
        monitor: Told of progress by the first process; asked in all whether to stop.

    Raises:
        UserError: Recipe, method and backbone do not go together, or the loss is no finite
            number, or ``out_dir`` holds another run.
        PreflightError: Images, weights or disk cannot serve the run.
        StoppedError: The monitor wanted to stop; the state is saved.
    """
    config = job.config.resolved()
    method = get_method(config.method)
    method.check(job.spec, config)
    with joined(monitor) as (device, quiet):
        return _Run(replace(job, config=config), method, device, quiet).run()


def build_objective(
    method: Method, spec: BackboneSpec, config: PretrainConfig, seed: int
) -> Objective:
    """Return the objective with weights drawn from ``seed``; torch's generator stays as it was.

    Raises:
        UserError: Backbone and config do not go together.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(random_seed("weights", seed))
        return method.build(spec, config)


class _Run:
    """A job while it runs: its images, objective, plan and helpers."""

    def __init__(
        self, job: PretrainJob, method: Method, device: torch.device, monitor: Monitor
    ) -> None:
        self._method = method
        self._monitor = monitor
        self._device = device
        found = find_images(job.images, job.cache)
        self._images = take_fraction(found, job.config.data.fraction, job.limit_images, job.seed)
        self._job = replace(job, config=with_classes(job.config, method, self._images))
        config = self._job.config
        self._plan = make_plan(config.schedule, config.optim, len(self._images))
        self._threads = devices.choose_threads(device, job.num_workers)
        views = method.views(job.spec, config)
        self._samples = Samples(self._images, views, job.seed, config.data.max_corrupt)
        self._pixels = Pixels(job.spec, device)
        self._objective = build_objective(method, job.spec, config, job.seed)
        self._initial = self._initialise()
        self._objective.to(device)
        self._settled = self._settle()
        self._share = share_out(self._settled.schedule, rank(), world_size())
        self._show_first_images()

    def run(self) -> PretrainResult:
        """Train, and write what came of it."""
        job, config = self._job, self._job.config
        groups = parameter_groups(self._objective, config.optim)
        training = Training(
            objective=self._objective,
            optimizer=make_optimizer(groups, config.optim),
            plan=self._plan,
            share=self._share,
            seed_key=("step", job.seed),
            ready=self._pixels.ready,
            optim=config.optim,
            schedule=self._settled.schedule,
            runtime=config.runtime,
            max_corrupt=config.data.max_corrupt,
            fewer=self._settled.fewer,
        )
        common = card_of(
            training,
            groups,
            self._threads,
            job.num_workers,
            couples_images=self._method.couples_images,
            held_as=self._settled.why,
        )
        card = {**self._card(), **common}
        say_card(self._monitor, card)
        states = StateFolder(job.out_dir / "states", self._identity())
        taken: list[Path] = []
        with scalar_writer(job.out_dir) as writer:
            hooks = [self._checkpoints(), self._pictures(writer, taken)]
            fitted = fit(training, states, self._batches, self._monitor, hooks, writer)
        self._monitor.say(f"speed: {fitted.speed}")
        outcome = self._outcome(fitted, tuple(taken), card)
        if not job.timed:
            return outcome
        # Last, because training steps change the weights.
        rates = time_alone({"images_per_second_train": fitted.rehearse}, self._monitor)
        return replace(outcome, rates=rates)

    def _settle(self) -> Settled[ScheduleConfig]:
        """Return how many images are held at once."""
        job, config = self._job, self._job.config
        trial = Trial(
            objective=self._objective,
            batch_of=lambda count: self._pixels.ready(self._samples(range(count)).batch),
            network=job.spec.name,
            settings=[as_plain(config.model), config.data.img_size, vars(config.runtime)],
            cache=job.cache,
        )
        return settle(config.schedule, config.held(job.spec), trial)

    def _initialise(self) -> str:
        job = self._job
        if job.init_from is None:
            return f"fresh, drawn from seed {job.seed}"
        size = job.config.data.img_size
        return load_initial(self._objective, self._method.name, job.spec, job.init_from, size)

    def _show_first_images(self) -> None:
        """Let the objective see the start of the stream, the same on every process."""
        count = self._objective.num_first_images
        if count:
            self._objective.prepare(self._pixels.ready(self._samples(range(count)).batch))

    def _batches(self, start_step: int) -> Iterator[Loaded]:
        pin = self._device.type == "cuda"
        return batches(self._samples, self._share, start_step, self._job.num_workers, pin)

    def _checkpoints(self) -> Hook:
        """Return the hook that keeps the backbone every few epochs."""
        every, epochs = self._job.config.schedule.checkpoint_epochs, self._plan.epochs
        # More often than after every step means after every step.
        every = max(every, epochs / self._plan.num_steps) if every else 0.0
        marks = [] if not every else [every * i for i in range(1, int(epochs / every) + 1)]
        steps = {self._plan.step_after(epoch): epoch for epoch in marks}

        def save(step: int) -> None:
            name = f"epoch-{steps[step]:g}".replace(".", "_")
            self._save(self._job.out_dir / "checkpoints" / f"{name}.safetensors", steps[step])

        return Hook(steps.__contains__, save)

    def _pictures(self, writer: Any, taken: list[Path]) -> Hook:
        """Return the hook that shows a few images; ``taken`` holds the last files."""
        every, last = self._job.config.runtime.picture_every, self._plan.num_steps

        def due(step: int) -> bool:
            return step == last or bool(every and step % every == 0)

        def take(step: int) -> None:
            batch = self._samples(range(min(NUM_ROWS, len(self._images)))).batch
            folder = self._job.out_dir / "pictures"
            taken[:] = PictureTaker(self._objective, self._pixels, batch, folder, writer).take(step)

        return Hook(due, take)

    def _save(self, path: Path, epochs: float) -> Checkpoint:
        job, first = self._job, self._job.init_from
        record = Checkpoint(
            backbone=job.spec.name,
            path=path,
            sha256="",
            # Images are normalised as those of the first weights were.
            mean=first.mean if first else None,
            std=first.std if first else None,
            method=self._method.name,
            data=job.data_name or self._images.name,
            epochs=epochs,
            img_size=job.config.data.img_size,
            recipe=job.recipe or job.config.protocol,
            code_version=_version(),
        )
        return save_weights(self._objective.backbone, path, record)

    def _outcome(
        self, fitted: Fitted, taken: tuple[Path, ...], card: dict[str, Any]
    ) -> PretrainResult:
        job = self._job
        objective_file = job.out_dir / "objective.safetensors"
        weights = job.out_dir / "weights.safetensors"
        if rank() == 0:
            checkpoint = self._save(weights, self._plan.epochs)
            made_by, norm = self._identity(), (checkpoint.mean, checkpoint.std)
            save_objective(self._objective, objective_file, job.config, made_by, norm)
        else:
            checkpoint = Checkpoint(job.spec.name, weights, "", method=self._method.name)
        return PretrainResult(
            checkpoint=checkpoint,
            objective_file=objective_file,
            curves=fitted.curve,
            cost=cost_of(fitted, self._objective),
            pictures=taken,
            details={**card, "speed": fitted.speed},
            warnings=(
                *(f"skipped an unreadable image: {text}" for text in fitted.unreadable),
                *fitted.warnings(),
            ),
        )

    def _card(self) -> dict[str, Any]:
        """Return what was decided for the user about a pretraining, in words."""
        own = parameters_millions(self._objective.backbone)
        return {
            "protocol": self._job.config.protocol,
            "backbone": f"{self._job.spec.name}, {own:.2f} M parameters of "
            f"{parameters_millions(self._objective):.2f} M in the objective",
            "weights": self._initial,
            "images": f"{len(self._images)} of {self._images.name}, fingerprint "
            f"{self._images.fingerprint}",
        }

    def _identity(self) -> dict[str, str]:
        job = self._job
        return identity_of(job.config, job.spec.name, self._images, job.seed, job.init_from)


def _version() -> str:
    try:
        return metadata.version("backbench")
    except metadata.PackageNotFoundError:
        return ""
