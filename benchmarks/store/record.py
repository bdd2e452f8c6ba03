"""The outcome of a run, as types; ``record_file`` reads and writes them."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from benchmarks.store.spec import Count, RunSpec, cell_of

MAX_CURVE_POINTS = 200

Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
# An integer stays one, so that a record that is read and written again keeps its bytes. One of more
# than 64 bits has no float.
Number = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | float
PerClass = Mapping[str, Mapping[str, Number | None]]
Curves = Mapping[str, Annotated[Sequence[Number | None], Meta(max_length=MAX_CURVE_POINTS)]]


class Failure(Struct, frozen=True, forbid_unknown_fields=True):
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


class Attempt(Struct, frozen=True, forbid_unknown_fields=True):
    """One start of a run, from the journal next to its record.

    Attributes:
        number: Counts from 1.
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


class Labels(Struct, frozen=True, forbid_unknown_fields=True):
    """Names that a table shows and that are no part of a run's identity."""

    suite: str
    entry: str
    recipe: str
    protocol: str
    data: str
    mini: bool


class BackboneFacts(Struct, frozen=True, forbid_unknown_fields=True):
    """The network and where its weights come from; see ``backbones.checkpoint.Checkpoint``.

    ``coverage`` says in one sentence how the weights were loaded; ``mean`` and ``std`` are the
    normalisation of the weights, None where it is the backbone's own.
    """

    name: str
    format: str = ""
    branch: str = ""
    method: str = ""
    data: str = ""
    epochs: Number | None = None
    img_size: int | None = None
    licence: str = ""
    coverage: str = ""
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None


class MetricValue(Struct, frozen=True, forbid_unknown_fields=True):
    """A metric of a run.

    Attributes:
        value: Its value in ``unit``; None where it could not be measured.
        unit: Unit of the value.
        higher_is_better: Direction of the metric.
        reason: Why there is no value; None where there is one.
    """

    value: Number | None
    unit: str
    higher_is_better: bool
    reason: str | None


class RunFile(Struct, frozen=True, forbid_unknown_fields=True):
    """A file next to a record.

    Attributes:
        path: Its path relative to the run's folder.
        sha256: SHA-256 of its bytes, in hex.
        bytes: Its size.
    """

    path: str
    sha256: str
    bytes: int


class RunRecord(Struct, frozen=True):
    """The outcome of a run, without its two bulky parts: see ``FullRecord``.

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
        metrics: All metrics, by name.
        cost: Costs by name with the unit in it.
        environment: Versions, host, threads, code.
        attempts: All starts of the run, this one included.
        failure: Why there are no numbers; None when done.
        warnings: What a reader of the numbers should know.
        details: What the run was, beyond its recipe.
        files: Files next to the record.
    """

    spec: RunSpec
    status: Literal["done", "failed"]
    attempt: Count
    created: str
    finished: str
    labels: Labels
    backbone: BackboneFacts
    headline: str
    columns: tuple[str, ...]
    metrics: Mapping[str, MetricValue]
    cost: Mapping[str, Number | None]
    environment: Mapping[str, Any]
    attempts: tuple[Attempt, ...]
    failure: Failure | None
    warnings: tuple[str, ...]
    details: Mapping[str, Any]
    files: tuple[RunFile, ...]

    @property
    def run_id(self) -> str:
        """The id of its spec."""
        return self.spec.run_id

    @property
    def cell(self) -> str:
        """See ``RunRequest.cell``."""
        return cell_of(self.spec, self.labels.recipe, self.labels.protocol)

    def value(self, metric: str) -> float | None:
        """Return a metric's value, None where it has none."""
        entry = self.metrics.get(metric)
        return entry.value if entry else None


class FullRecord(RunRecord, frozen=True, kw_only=True):
    """The whole outcome of a run: all that its file holds.

    Most bytes of a record are in these two fields, and no table's numbers; a folder of thousands
    is read without them.

    Attributes:
        per_class: Metric by class by name.
        curves: Series by name, at most ``MAX_CURVE_POINTS`` points each; see
            ``TaskResult.curves``.
    """

    per_class: PerClass
    curves: Curves


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
