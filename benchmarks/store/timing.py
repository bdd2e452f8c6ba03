"""What a record says of how its costs were measured."""

from collections.abc import Mapping
from typing import Literal

import msgspec

from backbones.timing.conditions import Conditions
from benchmarks.store.record import RunRecord

# Where a record's details keep it: by cost, the fields of ``Conditions``.
TIMING = "timing"
# Costs that depend on what else the machine does.
TIMED = ("images_per_second_train", "images_per_second_test", "seconds")
# Behind the name of a rate that was timed alone: the rate over the whole run, loading included.
OVERALL = "_overall"

Doubt = Literal["loaded", "unknown"]
# In words, for legends and tooltips.
DOUBTS: Mapping[Doubt, str] = {
    "loaded": "measured while other work used the machine",
    "unknown": "measured while nobody noted what else used the machine",
}


def conditions_of(record: RunRecord, cost: str) -> Conditions | None:
    """Return how a cost was measured; None where the record does not say.

    Records of before have nothing, and a damaged entry says nothing.

    Args:
        record: Of a finished run.
        cost: Its name.
    """
    found = record.details.get(TIMING)
    if not isinstance(found, Mapping) or cost not in found:
        return None
    try:
        return msgspec.convert(found[cost], Conditions)
    except msgspec.ValidationError:
        return None


def doubt_of(record: RunRecord, cost: str) -> Doubt | None:
    """Return why a cost must not be compared, None where it may or does not depend on that.

    Args:
        record: Of a finished run.
        cost: Its name.
    """
    if cost not in TIMED or record.cost.get(cost) is None:
        return None
    conditions = conditions_of(record, cost)
    quiet = conditions.quiet if conditions else None
    if quiet is None:
        return "unknown"
    return None if quiet else "loaded"
