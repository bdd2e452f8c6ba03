"""The outcome of a run: one JSON file with a schema and its own checksum. Imports no torch."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from jsonschema.validators import extend

from backbones.files import canonical_json
from benchmarks.sweep.spec import RunSpec, cell_of

SCHEMA = "backbench.record/1"
MAX_CURVE_POINTS = 200


class BadRecordError(Exception):
    """A file that is no valid record; the message says why."""


@dataclass(frozen=True)
class Failure:
    """Why a run ended without numbers.

    Attributes:
        phase: What it was doing.
        type: Class of the exception, or "killed".
        message: What happened, one sentence.
        hint: What to do about it; may be empty.
        exit_code: What the command would end with if this were its only run.
    """

    phase: str
    type: str
    message: str
    hint: str
    exit_code: int


@dataclass(frozen=True)
class Attempt:
    """One start of a run, from the journal beside its record.

    Attributes:
        number: From 1.
        host: Where it ran.
        started: ISO time, UTC.
        ended: ISO time, UTC.
        outcome: How it ended; "lost" when its process vanished without a word.
        reason: More about that; may be empty.
    """

    number: int
    host: str
    started: str
    ended: str
    outcome: Literal["done", "failed", "stopped", "lost"]
    reason: str


@dataclass(frozen=True)
class Labels:
    """Names that a table shows and that are no part of a run's identity."""

    suite: str
    entry: str
    recipe: str
    protocol: str
    data: str
    mini: bool


@dataclass(frozen=True)
class BackboneFacts:
    """The network and where its weights come from; see ``backbones.checkpoint.Checkpoint``.

    ``coverage`` says in one sentence how the weights were loaded.
    """

    name: str
    format: str = ""
    branch: str = ""
    method: str = ""
    data: str = ""
    epochs: float | None = None
    img_size: int | None = None
    licence: str = ""
    coverage: str = ""


@dataclass(frozen=True)
class RunRecord:
    """The outcome of a run. The fields are those of ``record.schema.json``, which rules.

    Attributes:
        spec: Identity of the run.
        status: "done" or "failed".
        attempt: Which start of the run this is.
        created: When its first attempt started, ISO time, UTC.
        finished: When it ended.
        labels: Names for tables.
        backbone: The network and its weights' provenance.
        headline: Name of the metric that ranks.
        columns: Metrics that a table shows, in this order.
        metrics: By name, each with value (or None and a reason), unit and direction.
        per_class: Metric by class by name.
        curves: Series by name, at most ``MAX_CURVE_POINTS`` each.
        cost: By name with the unit in it.
        environment: Versions, host, threads, code.
        attempts: All starts of the run, this one included.
        failure: Why there are no numbers; None when done.
        warnings: What a reader of the numbers should know.
        details: What the run was, beyond its recipe.
        files: Files beside the record, by relative path, with checksum and size.
    """

    spec: RunSpec
    status: Literal["done", "failed"]
    attempt: int
    created: str
    finished: str
    labels: Labels
    backbone: BackboneFacts
    headline: str
    columns: tuple[str, ...]
    metrics: Mapping[str, Mapping[str, Any]]
    per_class: Mapping[str, Mapping[str, float | None]]
    curves: Mapping[str, Sequence[float | None]]
    cost: Mapping[str, float | None]
    environment: Mapping[str, Any]
    attempts: tuple[Attempt, ...]
    failure: Failure | None
    warnings: tuple[str, ...]
    details: Mapping[str, Any]
    files: tuple[Mapping[str, Any], ...]

    @property
    def run_id(self) -> str:
        """Of the spec."""
        return self.spec.run_id

    @property
    def cell(self) -> str:
        """See ``RunRequest.cell``."""
        return cell_of(vars(self.spec), self.labels.recipe, self.labels.protocol)

    def value(self, metric: str) -> float | None:
        """Return a metric's value, None where it has none."""
        entry = self.metrics.get(metric)
        return entry["value"] if entry else None


def to_json(record: RunRecord) -> dict[str, Any]:
    """Return a record as the JSON content of its file, validated and signed.

    Raises:
        BadRecordError: The record breaks the schema: an error of ours, not the user's.
    """
    plain = {"schema": SCHEMA, "run_id": record.run_id, **asdict(record)}
    content: dict[str, Any] = json.loads(json.dumps(plain))
    content["sha256"] = _digest(content)
    _validate(content)
    return content


def from_json(content: Any) -> RunRecord:
    """Return the record that ``to_json`` made.

    Raises:
        BadRecordError: It breaks the schema, is of a newer one, was edited, or holds a number that
            is none.
    """
    if isinstance(content, dict) and content.get("schema") not in (SCHEMA, None):
        raise BadRecordError(f"its schema is {content['schema']!r}, this program reads {SCHEMA!r}")
    _validate(content)
    try:
        digest = _digest(content)
    except ValueError as error:
        raise BadRecordError(f"it holds a number that is none: {error}") from error
    if digest != content["sha256"]:
        raise BadRecordError("its checksum does not fit, so it was edited or damaged")
    record = from_checked_json(content)
    if record.run_id != content["run_id"]:
        raise BadRecordError("its run_id does not belong to its spec")
    return record


def from_checked_json(content: Mapping[str, Any]) -> RunRecord:
    """Return the record in content that ``from_json`` has accepted before; nothing is checked."""
    values = {f.name: content[f.name] for f in fields(RunRecord)}
    values["spec"] = RunSpec(**content["spec"])
    values["labels"] = Labels(**content["labels"])
    values["backbone"] = BackboneFacts(**content["backbone"])
    values["attempts"] = tuple(Attempt(**attempt) for attempt in content["attempts"])
    values["failure"] = Failure(**content["failure"]) if content["failure"] else None
    values["columns"] = tuple(content["columns"])
    values["warnings"] = tuple(content["warnings"])
    values["files"] = tuple(content["files"])
    return RunRecord(**values)


def finite(value: float | None) -> float | None:
    """Return ``value``, or None where it is NaN or infinite, which JSON cannot say."""
    return value if value is not None and math.isfinite(value) else None


def thinned(series: Sequence[float]) -> list[float | None]:
    """Return at most ``MAX_CURVE_POINTS`` values of a series, first and last among them."""
    last = len(series) - 1
    if last < MAX_CURVE_POINTS:
        return [finite(value) for value in series]
    steps = MAX_CURVE_POINTS - 1
    return [finite(series[round(i * last / steps)]) for i in range(MAX_CURVE_POINTS)]


def _digest(content: Mapping[str, Any]) -> str:
    unsigned = {key: value for key, value in content.items() if key != "sha256"}
    return hashlib.sha256(canonical_json(unsigned).encode()).hexdigest()


def _validate(content: Any) -> None:
    error = best_match(_validator().iter_errors(content))
    if error is not None:
        where = "/".join(str(part) for part in error.absolute_path) or "the file"
        raise BadRecordError(f"{where}: {error.message[:200]}")


@cache
def _validator() -> Any:
    path = Path(__file__).with_name("record.schema.json")
    return _QuickValidator(json.loads(path.read_text()))


_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "number": (int, float),
    "integer": (int,),
    "string": (str,),
    "null": (type(None),),
}


def _quick_items(validator: Any, items: Any, instance: Any, schema: Any) -> Iterator[Any]:
    """Check a list of plain values at once; the library's own way takes most of a scan's time."""
    if isinstance(instance, list) and set(items) == {"type"}:
        names = [items["type"]] if isinstance(items["type"], str) else items["type"]
        allowed = {kind for name in names for kind in _PYTHON_TYPES.get(name, ())}
        if all(type(value) in allowed for value in instance):
            return
    yield from Draft202012Validator.VALIDATORS["items"](validator, items, instance, schema)


_QuickValidator = extend(Draft202012Validator, {"items": _quick_items})
