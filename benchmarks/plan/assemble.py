"""From what a person asked for to the runs that answer it."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from backbones.base.errors import PreflightError, UserError
from backbones.base.registry import lookup
from backbones.catalog import get_spec
from backbones.checkpoint import OWN_FORMAT, Checkpoint
from backbones.trial import known_verdict, refuse_broken
from backbones.weights.source import open_checkpoint
from backbones.weights.use import WeightsUse
from benchmarks.data.collections import sets_for
from benchmarks.data.roots import DataRoot
from benchmarks.entries import Entry
from benchmarks.overrides import apply_overrides, overrides_outside_identity, settable
from benchmarks.plan.how import without_effect
from benchmarks.plan.weights import (
    FIRST_WEIGHTS,
    PROTOCOL,
    PlanContext,
    RunInputs,
    make_request,
    parse_pretraining,
    pretraining_request,
    promised,
)
from benchmarks.store.spec import RunRequest, Start
from benchmarks.suites import Suite, get_task, task_names
from benchmarks.task import Facts, Task
from detection.protocols import measured_as


@dataclass(frozen=True)
class PlanRequest:
    """What a person asked for.

    Attributes:
        suite: The question.
        entries: Entries to measure; empty means the suite's default.
        recipe: Name of the recipe for all entries, in tasks that have it; None means each
            backbone's default.
        overrides: ``section.field=value`` texts, for the tasks that have such a field.
        seeds: One run each.
        data: Folders by data kind.
        plugins: Folder of additional backbones.
        evaluator: Evaluation engine, in tasks that have it; empty means each task's default.
        limit_images: Use only that many images of each split.
        start: Detector that training begins with; None begins with the entries' weights.
    """

    suite: Suite
    entries: Sequence[Entry] = ()
    recipe: str | None = None
    overrides: Sequence[str] = ()
    seeds: Sequence[int] = (0,)
    data: Mapping[str, Path] | None = None
    plugins: Path | None = None
    evaluator: str = ""
    limit_images: int | None = None
    start: Start | None = None


def assemble(
    order: PlanRequest, cache: Path, faults: dict[str, str] | None = None
) -> list[RunRequest]:
    """Return the runs that an order comes to, each once, in the order of entries and seeds.

    A run that pretrains comes before the first that needs its weights.

    Args:
        order: The request.
        cache: Folder that facts about data are remembered in.
        faults: Gets the reason, by the name of the set, why one of several data sets cannot be
            used; None raises for the first.

    Raises:
        UserError: Any part of the order is wrong, or no data set can be used; nothing has been
            written then.
    """
    if order.start is not None:
        _refuse_other_tasks(order.suite, order.start)
    requests: dict[str, RunRequest] = {}
    asked = {get_task(name).data_kind for name in order.suite.tasks}
    for name in order.suite.tasks:
        task, broken = get_task(name), {} if faults is None else faults
        sets = sets_for(order.data or {}, task.data_kind, asked)
        known: dict[str, str] = {}
        for own, data in sets:
            try:
                _refuse_unread(own, data, task)
                found = [*_of_task(dataclasses.replace(order, data=data), task, cache)]
                _refuse_copy(own, found, known)
            except UserError as error:
                if not own or faults is None or {*broken, own} >= {name for name, _ in sets}:
                    raise _of_all(broken, own, error) from error
                broken[own] = str(error)
                continue
            for request in found:
                requests.setdefault(request.spec.run_id, request)
    return list(requests.values())


def _refuse_unread(own: str, data: Mapping[str, Path], task: Task) -> None:
    """Refuse a set that a task does not read, instead of measuring other data in its place.

    Raises:
        PreflightError: The path does not exist, or holds something else.
    """
    if not own or task.find_data(data).name == own:
        return
    path = data[own]
    if not path.exists():
        raise PreflightError(f"{path} does not exist; correct the path.")
    kind = "images annotated in COCO's format (docs/detection.md)"
    if task.data_kind != "coco":
        kind = "images in folders by class (docs/imagenet.md)"
    raise PreflightError(f"{path} does not hold {kind}, which {task.name} measures.")


def _refuse_copy(own: str, found: Sequence[RunRequest], known: dict[str, str]) -> None:
    """Refuse a set with the same content as an earlier one, which a mean would count twice.

    Args:
        own: Name of the set; empty for a single one.
        found: Its runs.
        known: Names of earlier sets by the identity of their content; gets this one's.

    Raises:
        PreflightError: An earlier set has the same content.
    """
    if not own:
        return
    fingerprint = found[-1].spec.data_fingerprint
    if fingerprint in known:
        raise PreflightError(f"it has the same content as {known[fingerprint]}.")
    known[fingerprint] = own


def _of_all(broken: Mapping[str, str], own: str, error: UserError) -> UserError:
    """Return what is wrong with every data set: one sentence where it is the same."""
    reasons = {**broken, own: str(error)}
    # What is said of several sets is wrong with the request, not with them.
    if len(reasons) == 1 or str(error) in broken.values():
        return error
    told = "; ".join(f"{name}: {why.rstrip('.')}" for name, why in reasons.items())
    return error.reworded(f"None of {len(reasons)} data sets can be used: {told}.")


def _refuse_other_tasks(suite: Suite, start: Start) -> None:
    """Refuse a suite with tasks that train no detector.

    Raises:
        UserError: With the tasks that may be asked for.
    """
    others = [name for name in suite.tasks if not get_task(name).takes_detector]
    if others:
        may = ", ".join(name for name in task_names() if get_task(name).takes_detector)
        raise UserError(
            f"--init-from {start.first.source}: the task {others[0]} trains no detector; use "
            f"--tasks {may}."
        )


def _for_task(order: PlanRequest, task: Task) -> PlanRequest:
    """Return the part of an order that means a task: where suites have several, each takes its own.

    Raises:
        UserError: No task of the suite knows a recipe, an override's field or an evaluator.
    """
    others = [get_task(name) for name in order.suite.tasks if name != task.name]
    recipe, evaluator = order.recipe, order.evaluator
    if recipe and recipe not in task.recipes() and any(recipe in t.recipes() for t in others):
        recipe = None
    if evaluator and evaluator not in task.evaluators:
        if not any(evaluator in other.evaluators for other in others):
            known = [name for one in (task, *others) for name in one.evaluators]
            raise UserError(
                f"--evaluator {evaluator}: the suite {order.suite.name} has "
                f"{', '.join(known) or 'no choice of evaluators'}."
            )
        evaluator = ""
    theirs = set().union(*map(_keys, others)) - _keys(task)
    overrides = [text for text in order.overrides if text.partition("=")[0] not in theirs]
    return dataclasses.replace(order, recipe=recipe, evaluator=evaluator, overrides=overrides)


def _keys(task: Task) -> set[str]:
    """Return what ``--set`` may name in a task; all its recipes have the same fields."""
    return set(settable(next(iter(task.recipes().values()))()))


def _of_task(order: PlanRequest, task: Task, cache: Path) -> Iterator[RunRequest]:
    order = _for_task(order, task)
    data = task.find_data(order.data or {})
    entries = order.entries or order.suite.default_entries(data, order.recipe)
    # Mistakes in names are reported before large data are read.
    chosen = [_choose(order, entry, cache) for entry in entries]
    facts = task.read_facts(data, cache)
    for one in chosen:
        if one.pretraining is not None:
            yield one.pretraining
        yield from _of_entry(order, task, data, facts, one, cache)


@dataclass(frozen=True)
class _Chosen:
    """An entry, its weights and their use, and the run that makes them, if one has to."""

    entry: Entry
    checkpoint: Checkpoint
    use: WeightsUse
    pretraining: RunRequest | None = None


def _choose(order: PlanRequest, entry: Entry, cache: Path) -> _Chosen:
    wanted = parse_pretraining(entry)
    if wanted is None:
        checkpoint = open_checkpoint(entry.source, order.plugins)
        use = WeightsUse.of_checkpoint(checkpoint)
        if checkpoint.path is not None and checkpoint.format != OWN_FORMAT:
            # A file that does not fit shall not wait in a queue first. Imports torch.
            from backbones.weights.examine import verify

            use = verify(checkpoint, order.plugins)
        return _Chosen(entry, checkpoint, use)
    request = pretraining_request(wanted, _context(order, cache))
    checkpoint = promised(request, entry)
    return _Chosen(entry, checkpoint, WeightsUse.of_checkpoint(checkpoint), request)


def _context(order: PlanRequest, cache: Path) -> PlanContext:
    return PlanContext(order.data or {}, order.plugins, order.limit_images, cache, order.suite.name)


def _refuse_other_weights(start: Start, chosen: _Chosen) -> None:
    """Refuse an entry whose name would stand for what another entry's detector found.

    Raises:
        UserError: The detector has another backbone, or was trained from other weights.
    """
    weights, name = chosen.checkpoint, chosen.entry.name
    own = f"--init-from {start.first.source}"
    if weights.backbone != start.backbone:
        raise UserError(
            f"{own} is a detector with the backbone {start.backbone}, but the entry {name} has "
            f"{weights.backbone}; name an entry of {start.backbone}."
        )
    if start.weights and weights.sha256 != start.weights:
        which = f"name {start.entry}" if start.entry else "name the entry that it was trained from"
        raise UserError(
            f"{own} was trained from other weights than those of the entry {name}, and a row has "
            f"one pretraining; {which} with --entries."
        )


def _of_entry(
    order: PlanRequest, task: Task, data: DataRoot, facts: Facts, chosen: _Chosen, cache: Path
) -> Iterator[RunRequest]:
    backbone = get_spec(chosen.checkpoint.backbone, order.plugins)
    recipe = order.recipe or task.default_recipe(backbone, data)
    named = lookup("recipe", recipe, dict(task.recipes()))()
    refuse_broken(backbone, known_verdict(backbone, cache), task.reads_maps)
    overrides = without_effect(task, named, backbone, order.overrides)
    asked = task.check(apply_overrides(named, overrides))
    config = task.fit(asked, backbone)
    if note := measured_as(backbone.name, asked.protocol, config.protocol):
        facts = dataclasses.replace(facts, notes=(*facts.notes, f"{PROTOCOL}{note}"))
    # A quick look at few images is as short as it is asked to be.
    if not data.mini and order.limit_images is None:
        config, told = task.fit_to_data(config, facts, named)
        facts = dataclasses.replace(facts, notes=(*facts.notes, *told))
    first = None
    if order.start is not None:
        first = order.start.first
        _refuse_other_weights(order.start, chosen)
        config, said = task.begin(config, order.start, backbone, data, cache)
        facts = dataclasses.replace(facts, notes=(*facts.notes, f"{FIRST_WEIGHTS}{said}"))
    inputs = RunInputs(
        chosen.entry.name, chosen.checkpoint, recipe, data, facts, seed=0, use=chosen.use,
        first=first,
    )  # fmt: skip
    request = replace(
        make_request(task, config, inputs, _context(order, cache)),
        source=chosen.entry.source,
        evaluator=order.evaluator,
        needs=chosen.pretraining.spec.run_id if chosen.pretraining else "",
        overrides_not_in_spec=overrides_outside_identity(named, overrides),
    )
    for seed in order.seeds:
        yield replace(request, spec=replace(request.spec, seed=seed))
