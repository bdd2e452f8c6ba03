"""Where a run's weights come from: a source the user typed, or another run."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from msgspec import structs

from backbones.base.errors import PreflightError, UserError
from backbones.base.registry import lookup
from backbones.base.sections import as_plain
from backbones.catalog import get_spec
from backbones.checkpoint import Checkpoint, read_record
from backbones.weights.source import open_checkpoint
from backbones.weights.use import WeightsUse
from benchmarks.data.mini import mini_data
from benchmarks.data.roots import DataRoot
from benchmarks.entries import Entry, absolute_source
from benchmarks.overrides import apply_overrides, overrides_outside_identity
from benchmarks.plan.how import without_effect
from benchmarks.plan.rules import RunFacts, rules_of
from benchmarks.store.folders import RunFolder
from benchmarks.store.record_file import BadRecordError
from benchmarks.store.spec import FirstWeights, RunRequest, RunSpec
from benchmarks.suites import get_task
from benchmarks.task import PRETRAIN, Facts, Task

WEIGHTS_FILE = "weights.safetensors"
# Begins the note of a plan that says what a training begins with, where it is not the usual.
FIRST_WEIGHTS = "first weights: "
# The same, of one that says why the protocol is not that of the recipe.
PROTOCOL = "protocol: "


@dataclass(frozen=True)
class Pretraining:
    """A pretraining run that somebody asked for.

    Attributes:
        recipe: Name of the recipe.
        arch: Backbone; empty takes the recipe's.
        seed: Seed of everything random.
        overrides: ``section.field=value`` texts.
        init_from: First weights, as the user named them; empty draws them from the seed.
    """

    recipe: str
    arch: str = ""
    seed: int = 0
    overrides: tuple[str, ...] = ()
    init_from: str = ""


@dataclass(frozen=True)
class PlanContext:
    """What all runs of an order share.

    Attributes:
        data: Folders by data kind.
        plugins: Folder of additional backbones.
        limit_images: Use only that many images of each split.
        cache: Folder that facts about data are remembered in.
        suite: Name of the suite that asks.
    """

    data: Mapping[str, Path]
    plugins: Path | None
    limit_images: int | None
    cache: Path
    suite: str


def parse_pretraining(entry: Entry) -> Pretraining | None:
    """Return what an entry ``pretrain:RECIPE?arch=NAME&seed=N`` asks for, None for other entries.

    Raises:
        UserError: It has another form.
    """
    kind, _, rest = entry.source.partition(":")
    if kind != PRETRAIN:
        return None
    recipe, _, query = rest.partition("?")
    try:
        options = dict(parse_qsl(query, strict_parsing=True)) if query else {}
        seed = int(options.pop("seed", "0"))
    except ValueError as error:
        raise UserError(f"{entry.source}: write {PRETRAIN}:RECIPE?arch=NAME&seed=N.") from error
    arch = options.pop("arch", "")
    for name in options:
        lookup("option", name, {"arch": None, "seed": None})
    return Pretraining(recipe, arch, seed)


def pretraining_request(wanted: Pretraining, where: PlanContext) -> RunRequest:
    """Return the run that makes the weights.

    Raises:
        UserError: Recipe, backbone or an override is unknown.
        PreflightError: There are no such images or weights.
    """
    task = get_task(PRETRAIN)
    named = lookup("pretraining recipe", wanted.recipe, dict(task.recipes()))()
    network = [text for text in wanted.overrides if text.partition("=")[0] == "backbone"]
    arch = wanted.arch or apply_overrides(named, network).backbone
    first = open_checkpoint(f"random:{arch}", where.plugins)
    backbone = get_spec(first.backbone, where.plugins)
    overrides = without_effect(task, named, backbone, wanted.overrides)
    config = apply_overrides(named, overrides)
    config = task.check(replace(config, backbone=wanted.arch or config.backbone))
    config = task.fit(config, backbone)
    data = task.find_data(where.data)
    inputs = RunInputs(
        entry=wanted.recipe + (f"?arch={wanted.arch}" if wanted.arch else ""),
        weights=first,
        recipe=wanted.recipe,
        data=data,
        facts=task.read_facts(data, where.cache),
        seed=wanted.seed,
    )
    aside = overrides_outside_identity(named, overrides)
    if not wanted.init_from:
        request = make_request(task, config, inputs, where)
        return structs.replace(request, overrides_not_in_spec=aside)
    # Imports torch: a file that does not fit shall not wait in a queue first.
    from pretrain.initial import Planned, plan_initial

    images = data.path or mini_data().imagenet / "train"
    planned = Planned(config, images, where.cache, where.plugins)
    first, said = plan_initial(absolute_source(wanted.init_from), planned)
    request = make_request(task, config, replace(inputs, weights=first), where)
    notes = (*request.notes, f"{FIRST_WEIGHTS}{said}")
    return structs.replace(request, notes=notes, overrides_not_in_spec=aside)


def first_weights(request: RunRequest) -> list[str]:
    """Return what the plan says of a pretraining's first weights; empty for fresh ones."""
    return [note for note in request.notes if note.startswith(FIRST_WEIGHTS)]


@dataclass(frozen=True)
class RunInputs:
    """What a run begins with.

    Attributes:
        entry: The leaderboard entry, as shown.
        weights: First weights.
        recipe: Name of the recipe.
        data: Location of the data.
        facts: Facts about the data.
        seed: Seed of everything random.
        use: What the weights say about their use; None asks their checkpoint only.
        first: Detector that training begins with; None begins with ``weights``.
    """

    entry: str
    weights: Checkpoint
    recipe: str
    data: DataRoot
    facts: Facts
    seed: int
    use: WeightsUse | None = None
    first: FirstWeights | None = None


def make_request(task: Task, config: Any, inputs: RunInputs, where: PlanContext) -> RunRequest:
    """Return the run of a recipe.

    Args:
        task: Task of the run.
        config: The recipe, overrides applied and checked.
        inputs: Inputs of the run.
        where: Context that all runs of the request share.
    """
    weights = inputs.weights
    work = task.workload(config, inputs.facts, where.limit_images)
    spec = RunSpec(
        task=task.name,
        task_version=task.version,
        data_fingerprint=inputs.facts.fingerprint,
        backbone=weights.backbone,
        backbone_sha256=get_spec(weights.backbone, where.plugins).file_sha256,
        weights_sha256=weights.sha256,
        weights_format=weights.layout,
        weights_branch=weights.branch,
        recipe=as_plain(config),
        seed=inputs.seed,
        precision=work.precision,
        batch_size=work.batch_size,
        limit_images=where.limit_images,
        first_sha256=inputs.first.sha256 if inputs.first else "",
    )
    use = inputs.use or WeightsUse.of_checkpoint(weights)
    spec = structs.replace(spec, rules=rules_of(RunFacts(spec, use, where.plugins)))
    return RunRequest(
        spec=spec,
        suite=where.suite,
        entry=inputs.entry,
        source=weights.source,
        recipe=inputs.recipe,
        protocol=work.protocol,
        num_steps=work.num_steps,
        num_images=work.num_images,
        batch_size_per_device=_least_held(task, config, weights.backbone, where)
        or work.batch_size_per_device,
        data=inputs.data,
        plugins=where.plugins.resolve() if where.plugins else None,
        former_fingerprint=inputs.facts.former_fingerprint,
        notes=inputs.facts.notes,
        weights_notes=use.said,
        first=inputs.first,
    )


def _least_held(task: Task, config: Any, backbone: str, where: PlanContext) -> int:
    """Return the smallest number of images that a process of the run may hold at once, or 0."""
    held = task.held(config, get_spec(backbone, where.plugins))
    if held is None:
        return 0
    schedule = config.schedule
    return int(schedule.micro_batch or held.least(schedule.batch_size))


def promised(request: RunRequest, entry: Entry) -> Checkpoint:
    """Return the checkpoint that a pretraining run will make, as plans need it.

    Its checksum is unknown before; its identity is that of the run.
    """
    return Checkpoint(
        backbone=request.spec.backbone,
        path=None,
        sha256=f"{PRETRAIN}:{request.spec.run_id}",
        method=request.spec.recipe["method"],
        img_size=request.spec.recipe.get("data", {}).get("img_size"),
        source=entry.source,
    )


def open_weights(request: RunRequest, store: Path) -> Checkpoint:
    """Return the checkpoint of a run, and make sure that it is the planned one.

    Args:
        request: The run.
        store: Folder of all runs.

    Raises:
        PreflightError: The weights changed since the plan was made, the pretraining run has not
            made them, or they are gone.
    """
    if request.needs:
        return structs.replace(
            _made_by(RunFolder(store / request.needs), request), source=request.source
        )
    if request.spec.task == PRETRAIN and not request.source.startswith("random:"):
        from pretrain.initial import open_initial

        checkpoint = open_initial(request.source, request.spec.backbone, request.plugins)
    else:
        checkpoint = open_checkpoint(request.source, request.plugins)
    planned = (request.spec.weights_sha256, request.spec.weights_format)
    if (checkpoint.sha256, checkpoint.layout) != planned:
        raise PreflightError(
            f"{request.source} changed since the plan was made. Run the same command again."
        )
    return checkpoint


def _made_by(folder: RunFolder, request: RunRequest) -> Checkpoint:
    try:
        record = folder.read_record()
    except BadRecordError as error:
        raise PreflightError(
            f"The record of the pretraining run {folder.path} is bad: {error}."
        ) from error
    if record is None or record.status != "done":
        raise PreflightError(
            f"The pretraining of {request.entry} (run {folder.path.name}) is not done, so there "
            "are no weights to measure; fix that first."
        )
    weights = folder.work / WEIGHTS_FILE
    recorded = {file.path: file.sha256 for file in record.files}
    checkpoint = read_record(weights)
    if recorded.get(str(weights.relative_to(folder.path))) != checkpoint.sha256:
        raise PreflightError(
            f"{weights} is not what run {folder.path.name} made; make it again with --rerun all."
        )
    return checkpoint
