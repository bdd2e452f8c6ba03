"""What a row cost in hours of devices."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from benchmarks.leaderboard.rows import COSTS, Row
from benchmarks.store.record import Attempt, RunRecord
from benchmarks.store.timing import Doubt, doubt_of
from benchmarks.task import EXTERNAL, PRETRAIN

# Key, header, decimals, and whether more is better: what every table shows, then the page's own.
HEADERS: tuple[tuple[str, str, int, bool], ...] = (
    *((key, cost.header, cost.decimals, cost.more_is_better) for key, cost in COSTS.items()),
    ("device_hours", "device-hours", 2, False),
    ("pretrain_device_hours", "pretraining device-hours", 2, False),
)


def paid_hours(records: Sequence[RunRecord]) -> float | None:
    """Return the hours a row's runs took, mean over seeds, times their devices.

    Attempts that failed or were cut off count, since somebody paid for them; evaluations during
    training do not, since they are for the onlooker. A run without a GPU took one device.
    """
    known = [hours for record in records if (hours := _hours(record)) is not None]
    return sum(known) / len(known) if known else None


def pretraining_hours(row: Row, records: Mapping[str, RunRecord]) -> float | None:
    """Return the hours of the run that made a row's weights.

    0 for fresh weights, None where no run of this folder made them.
    """
    if row.weights.startswith("random"):
        return 0.0
    maker = _maker(row, records)
    return _hours(maker) if maker else None


def doubts_of(row: Row, records: Mapping[str, RunRecord]) -> dict[str, Doubt]:
    """Return why costs of a row must not be compared, by key of ``HEADERS``.

    Hours are in doubt where the seconds are. The work of a whole attempt decides.
    """
    found = dict(row.doubts)
    if "seconds" in found:
        found["device_hours"] = found["seconds"]
    maker = _maker(row, records)
    doubt = doubt_of(maker, "seconds") if maker else None
    return {**found, "pretrain_device_hours": doubt} if doubt else found


def _maker(row: Row, records: Mapping[str, RunRecord]) -> RunRecord | None:
    """Return the run that made a row's weights, None where no run of this folder did."""
    sha256 = row.weights.split(" ")[0]
    return records.get(sha256.removeprefix(f"{PRETRAIN}:"))


def _hours(record: RunRecord) -> float | None:
    if record.spec.task == EXTERNAL:
        return None  # to score a file is not what its detector cost
    seconds = sum(_seconds(attempt) for attempt in record.attempts) or record.cost.get("seconds")
    if not seconds:
        return None
    if record.attempts:
        seconds = max(0.0, seconds - (record.cost.get("seconds_evaluating") or 0.0))
    return seconds / 3600 * max(1, len(record.environment.get("gpus", ())))


def _seconds(attempt: Attempt) -> float:
    try:
        started, ended = map(datetime.fromisoformat, (attempt.started, attempt.ended))
        return max(0.0, (ended - started).total_seconds())
    except (ValueError, TypeError):
        return 0.0
