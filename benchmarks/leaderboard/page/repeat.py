"""The command line that does a run again."""

import json
import shlex
from collections.abc import Sequence
from typing import Any

from msgspec import structs

from backbones.base.errors import UserError
from backbones.base.files import canonical_json
from backbones.base.sections import as_plain
from backbones.catalog import get_spec
from benchmarks.overrides import apply_overrides, leaves_of
from benchmarks.store.record import RunRecord
from benchmarks.store.spec import RunRequest, RunSpec
from benchmarks.suites import find_measurement, get_task
from benchmarks.task import EXTERNAL, PRETRAIN, Task
from detection.small_sets import without_start

_PROGRAM = ("python", "benchmarks/run.py")
# Words for what no record knows.
_DIR, _KIND, _RESULTS, _RUN = "DIR", "KIND", "RESULTS.json", "RUN"


class Repeater:
    """Writes commands; what many runs share is looked up once."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[list[str], str]] = {}

    def of_record(self, record: RunRecord, request: RunRequest | None) -> dict[str, str]:
        """Return the command that does a record's run again, and what it cannot promise.

        Args:
            record: Of the run.
            request: What its worker was asked, if that is still there: it knows where data and
                weights lay.
        """
        if request is not None:
            return self.of_request(request)
        labels = record.labels
        data = [] if labels.mini else ["--data", f"{_kind(record.spec.task)}={_DIR}"]
        if record.spec.task == EXTERNAL:
            note = "Put in where the results and the data lie."
            return _scored(record.spec, labels.entry, [_RESULTS], data, note)
        note = "Put in where the data lie." if data else ""
        if record.spec.first_sha256:
            data += ["--init-from", _RUN]
            note = " ".join(filter(None, [note, "Put in the detector that training began with."]))
        arguments = [
            *self._what(record.spec, labels.entry),
            *("--recipe", labels.recipe),
        ]
        return self._command(record.spec, labels.recipe, [*arguments, *data], note)

    def of_request(self, request: RunRequest) -> dict[str, str]:
        """Return the command that does a requested run (again)."""
        spec = request.spec
        if spec.task == EXTERNAL:
            path = request.data.path
            data = [] if path is None else ["--data", f"{request.data.kind}={path}"]
            return _scored(spec, request.entry, request.source.splitlines(), data, "")
        arguments = [
            *self._what(spec, request.source or request.entry),
            *("--recipe", request.recipe),
        ]
        if request.data.path is not None:
            arguments += ["--data", f"{request.data.kind}={request.data.path}"]
        if request.plugins is not None:
            arguments += ["--plugins", str(request.plugins)]
        if request.first is not None:
            arguments += ["--init-from", request.first.source]
        if request.evaluator:
            arguments += ["--evaluator", request.evaluator]
        for text in request.overrides_not_in_spec:
            arguments += ["--set", text]
        return self._command(spec, request.recipe, arguments, "")

    def _what(self, spec: RunSpec, source: str) -> list[str]:
        if spec.task == PRETRAIN:
            return ["pretrain", "--arch", spec.backbone]
        return ["--tasks", spec.task, "--entries", source]

    def _command(
        self, spec: RunSpec, recipe: str, arguments: list[str], note: str
    ) -> dict[str, str]:
        overrides, changed = self._overrides(spec, recipe)
        words = [*_PROGRAM, *arguments, "--seeds", f"{spec.seed},"]
        for override in overrides:
            words += ["--set", override]
        if spec.limit_images is not None:
            words += ["--limit-images", str(spec.limit_images)]
        if spec.task == PRETRAIN:
            # The recipe is what the command is about, not an option of it.
            at = words.index("--recipe")
            words[at : at + 2] = []
            words.insert(words.index("pretrain") + 1, recipe)
        return {"command": shlex.join(words), "note": " ".join(filter(None, [note, changed]))}

    def _overrides(self, spec: RunSpec, recipe: str) -> tuple[list[str], str]:
        """Return the ``--set`` texts that make a recipe what a run had, and a warning."""
        if spec.first_sha256:
            # ``--init-from`` marks the protocol, not a value of the recipe.
            plain = {**spec.recipe, "protocol": without_start(str(spec.recipe["protocol"]))}
            spec = structs.replace(spec, recipe=plain)
        key = canonical_json([spec.task, recipe, spec.recipe])
        if key not in self._known:
            self._known[key] = _overrides(spec, recipe)
        return self._known[key]


def _scored(
    spec: RunSpec, entry: str, files: Sequence[str], data: Sequence[str], note: str
) -> dict[str, str]:
    """Return the command that scores results files again."""
    boxes = ["--boxes-only"] if spec.recipe.get("boxes_only") else []
    words = [*_PROGRAM, "score", *files, "--name", entry, *boxes, *data]
    return {"command": shlex.join(words), "note": note}


def _overrides(spec: RunSpec, recipe: str) -> tuple[list[str], str]:
    gone = f"This version of the code has another recipe {recipe}; use the one named below."
    try:
        task = get_task(spec.task)
        make = task.recipes()[recipe]
        if as_plain(task.check(make())) == spec.recipe:
            return [], ""
        named = _fitted(task, task.check(make()), spec.backbone)
        plain = dict(leaves_of(as_plain(named)))
        wanted = dict(leaves_of(spec.recipe))
        texts = [
            f"{name}={_text(value)}"
            for name, value in wanted.items()
            if name != "protocol" and plain.get(name) != value
        ]
        again = _fitted(task, task.check(apply_overrides(make(), texts)), spec.backbone)
        same = as_plain(again) == spec.recipe
    except (KeyError, UserError):
        return [], gone
    return texts, "" if same else gone


def _fitted(task: Task, config: Any, backbone: str) -> Any:
    """Return the recipe that a plan gives a backbone, as it stands where the backbone is unknown.

    Raises:
        UserError: The task refuses the backbone.
    """
    try:
        spec = get_spec(backbone)
    except UserError:
        return config  # of a plug-in
    return task.fit(config, spec)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _kind(task: str) -> str:
    """Return the kind of data that ``--data`` gives a task; a placeholder if the task is gone."""
    known = find_measurement(task)
    return known.data_kind if known else _KIND
