"""Settings that change no result: no part of what makes two runs the same run.

A recipe's value of this kind may be changed freely: the run keeps its id and its row, and a run
that is under way goes on.
"""

from collections.abc import Mapping
from dataclasses import Field
from typing import Any

# For ``dataclasses.field``.
NEUTRAL: Mapping[str, Any] = {"neutral": True}


def is_neutral(item: "Field[Any]") -> bool:
    """Tell whether a recipe's field was made with ``NEUTRAL``."""
    return bool(item.metadata.get("neutral"))
