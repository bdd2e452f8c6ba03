"""The outcome of a check, whatever is checked."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from backbones.base.errors import UserError


class BrokenError(Exception):
    """A check found a contract broken; the message says how."""


@dataclass(frozen=True)
class CheckResult:
    """Outcome of one check.

    Attributes:
        name: What was checked.
        passed: Whether the contract is kept.
        detail: What was found, one line.
        seconds: Time it took.
    """

    name: str
    passed: bool
    detail: str
    seconds: float


def attempt(name: str, check: Callable[[], str]) -> CheckResult:
    """Run a check; whatever it raises is a result.

    Args:
        name: What is checked.
        check: Returns what was found.
    """
    start = time.perf_counter()
    try:
        detail, passed = check(), True
    except Exception as error:  # a plug-in may raise anything, and that is a result
        known = isinstance(error, BrokenError | UserError)
        detail, passed = str(error) if known else f"{type(error).__name__}: {error}", False
    return CheckResult(name, passed, detail, time.perf_counter() - start)
