"""The outcome of a run: one JSON file with a schema and its own checksum."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from typing import Any, Literal

from benchmarks.store.record_text import SCHEMA, BadRecordError, check, signed
from benchmarks.store.spec import RunSpec, cell_of

MAX_CURVE_POINTS = 200


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
        curves: Series by name, at most ``MAX_CURVE_POINTS`` each; see ``TaskResult.curves``.
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
    return signed(json.loads(json.dumps(plain, default=dict)))


def from_json(content: Any, text: bytes = b"") -> RunRecord:
    """Return the record that ``to_json`` made.

    Args:
        content: Parsed.
        text: The file it was parsed from; without it the checksum takes longer.

    Raises:
        BadRecordError: It breaks the schema, is of a newer one, was edited, or holds a number that
            is none.
    """
    check(content, text)
    if RunSpec(**content["spec"]).run_id != content["run_id"]:
        raise BadRecordError("its run_id does not belong to its spec")
    return from_checked_json(content)


def from_checked_json(content: Mapping[str, Any]) -> RunRecord:
    """Return the record in content that ``from_json`` has accepted before; nothing is checked."""
    values = {name: content[name] for name in _names()}
    spec = RunSpec(**content["spec"])
    # Found to belong to it when the content was accepted; hashing again would take longer.
    vars(spec)["run_id"] = content["run_id"]
    values["spec"] = spec
    values["labels"] = Labels(**content["labels"])
    values["backbone"] = BackboneFacts(**content["backbone"])
    values["attempts"] = tuple(Attempt(**attempt) for attempt in content["attempts"])
    values["failure"] = Failure(**content["failure"]) if content["failure"] else None
    values["columns"] = tuple(content["columns"])
    values["warnings"] = tuple(content["warnings"])
    values["files"] = tuple(content["files"])
    return RunRecord(**values)


@cache
def _names() -> tuple[str, ...]:
    return tuple(item.name for item in fields(RunRecord))


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
