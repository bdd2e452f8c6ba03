"""Pretraining as a task: images in, a checkpoint out that the other tasks measure."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from msgspec import structs

from backbones.base.cores import loader_workers
from backbones.base.errors import UserError
from backbones.base.monitor import Monitor, SilentMonitor
from backbones.checkpoint import Checkpoint, record_path
from backbones.spec import BackboneSpec
from backbones.training.held import Held
from backbones.training.schedules import num_steps
from benchmarks.data.mini import MINI_SHA256, mini_data
from benchmarks.data.mini.imagenet import num_crops
from benchmarks.data.roots import DataRoot, find_images_root
from benchmarks.task import (
    Facts,
    Metric,
    Task,
    TaskInputs,
    TaskResult,
    Workload,
    inputs_on_mini,
)
from pretrain.catalog import recipes
from pretrain.config import PretrainConfig
from pretrain.data.find import find_images

# What the mini data are pretrained with when nobody names a recipe.
_MINI_RECIPES = {"plain": "mae-nano", "hierarchical": "simmim-nano"}


class PretrainTask(Task):
    """The task; see ``benchmarks.task.Task`` for what each part means.

    Its product is a file, ``weights.safetensors`` in the run's folder. The loss is there to be
    looked at: losses of different methods mean nothing to one another.
    """

    name = "pretrain"
    version = 1
    headline = "loss"
    distributed = True
    data_kind = "images"
    trains = True
    columns = ("loss",)
    metrics: Mapping[str, Metric] = {
        "loss": Metric(unit="1", higher_is_better=False, decimals=3),
    }

    def find_data(self, given: Mapping[str, Path]) -> DataRoot:
        """Return where the images lie."""
        return find_images_root(given)

    def read_facts(self, data: DataRoot, cache: Path) -> Facts:
        """Return what a plan needs to know; the mini data need not exist yet."""
        if data.path is None:
            return Facts(MINI_SHA256, num_crops("train"), 0)
        images = find_images(data.path, cache)
        return Facts(images.fingerprint, len(images), 0, images.former_fingerprint, images.notes)

    def recipes(self) -> Mapping[str, Callable[[], PretrainConfig]]:
        """Return the recipes by name."""
        return recipes()

    def default_recipe(self, backbone: BackboneSpec, data: DataRoot) -> str:
        """Return the recipe for the mini data; on real data no choice of ours would be right.

        Raises:
            UserError: The data are real.
        """
        if not data.mini:
            raise UserError("Say which pretraining recipe to run; `run.py list` names them.")
        return _MINI_RECIPES[backbone.layout]

    def check(self, config: PretrainConfig) -> PretrainConfig:
        """Return ``config``, whose values are possible."""
        return config.resolved()

    def fit(self, config: PretrainConfig, backbone: BackboneSpec) -> PretrainConfig:
        """Return ``config``, whose values go with the backbone.

        Raises:
            UserError: Some do not.
        """
        config.refuse_on(backbone.strides)
        return config

    def held(self, config: PretrainConfig, backbone: BackboneSpec) -> Held:
        """Return how many images a device may hold at once."""
        return config.held(backbone)

    def workload(self, config: PretrainConfig, facts: Facts, limit_images: int | None) -> Workload:
        """Return what ``config`` comes to."""
        in_use = max(1, round(facts.num_train * config.data.fraction))
        steps = num_steps(config.schedule, min(in_use, limit_images or in_use))
        return Workload(
            protocol=config.protocol,
            precision=config.schedule.precision,
            batch_size=config.schedule.batch_size,
            num_steps=steps,
            num_images=steps * config.schedule.batch_size,
        )

    def try_out(self, backbone: BackboneSpec, checkpoint: Checkpoint, folder: Path) -> str:
        """Pretrain two steps on four images, whatever weights are there."""
        data = DataRoot(self.data_kind, "mini", None, "embedded")
        config = recipes()[self.default_recipe(backbone, data)]()
        schedule = replace(
            config.schedule, epochs=1.0, batch_size=2, batch_size_per_device=2, warmup_epochs=0.0
        )
        small = replace(config, schedule=schedule)
        fresh = structs.replace(checkpoint, path=None)
        inputs = inputs_on_mini(self.data_kind, backbone, fresh, small, folder, limit_images=4)
        result = self.run(inputs, SilentMonitor())
        losses = ", ".join(f"{loss:.2f}" for loss in result.curves["loss"])
        return f"pretrained with {config.method} (loss {losses})"

    def run(self, inputs: TaskInputs, monitor: Monitor) -> TaskResult:
        """Pretrain."""
        # torch comes in here, so that planning does without it.
        from pretrain.train import PretrainJob, pretrain

        job = PretrainJob(
            spec=inputs.backbone,
            config=inputs.config,
            images=inputs.data.path or mini_data().imagenet / "train",
            out_dir=inputs.out_dir,
            seed=inputs.seed,
            cache=inputs.cache,
            recipe=inputs.config.protocol,
            limit_images=inputs.limit_images,
            num_workers=loader_workers(),
            init_from=inputs.checkpoint if inputs.checkpoint.path else None,
            data_name=inputs.data.name,
            timed=inputs.timed,
        )
        outcome = pretrain(job, monitor)
        assert outcome.checkpoint.path is not None
        weights = outcome.checkpoint.path
        return TaskResult(
            metrics={"loss": outcome.curves["loss"][-1]},
            cost=outcome.cost,
            curves=outcome.curves,
            coverage=outcome.details["weights"],
            details=outcome.details,
            files=(weights, record_path(weights), outcome.objective_file, *outcome.pictures),
            warnings=outcome.warnings,
            rates=outcome.rates,
        )

    def take_part(self, inputs: TaskInputs, monitor: Monitor) -> None:
        """Train and evaluate with the others."""
        self.run(inputs, monitor)


TASK = PretrainTask()
