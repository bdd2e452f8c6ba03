"""``run.py check NAME``: the half-minute proof that a backbone works, detection included."""

import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbones.catalog import get_spec
from backbones.checkpoint import Checkpoint
from backbones.errors import UserError
from backbones.source import open_checkpoint
from backbones.spec import BackboneSpec
from benchmarks import output
from benchmarks.entries import parse_entries
from benchmarks.suites import SUITES, get_task

if TYPE_CHECKING:
    from backbones.check import CheckResult

_FAILED = 3


@dataclass(frozen=True)
class Options:
    """What was typed; see the command line's own help."""

    names: Sequence[str]
    plugins: Path | None
    json: bool


def main(options: Options) -> int:
    """Run the command; the exit code is 3 when a check fails.

    Raises:
        UserError: A name is unknown, or its weights cannot be had; nothing has been checked then.
    """
    entries = parse_entries([name for text in options.names for name in text.split(",")])
    opened = [(entry, open_checkpoint(entry.source, options.plugins)) for entry in entries]
    content: dict[str, list[dict[str, Any]]] = {}
    passed = True
    for entry, checkpoint in opened:
        spec = get_spec(checkpoint.backbone, options.plugins)
        if not options.json:
            output.line(output.clean(entry.name))
        content[entry.name] = []
        for result in _results(spec, checkpoint):
            passed = passed and result.passed
            content[entry.name].append(asdict(result))
            if not options.json:
                output.line(_line(result))
    if options.json:
        output.document(content)
    return 0 if passed else _FAILED


def _line(result: "CheckResult") -> str:
    state = "ok" if result.passed else "FAILED"
    detail = output.clean(result.detail)
    return f"  {state:7} {result.name:16} {result.seconds:5.1f} s  {detail}"


def _results(spec: BackboneSpec, checkpoint: Checkpoint) -> "Iterator[CheckResult]":
    """Yield the backbone's own checks, then one small run of every task."""
    # torch comes in here, so that a mistyped name is told at once.
    from backbones.check import CheckResult, check_backbone

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the libraries' own, about each other
        built = True
        for result in check_backbone(spec, checkpoint):
            yield result
            built = result.passed or result.name != "weights"
        for name in sorted({name for suite in SUITES.values() for name in suite.tasks}):
            if not built:
                return
            start = time.perf_counter()
            try:
                with tempfile.TemporaryDirectory() as folder:
                    passed, detail = True, get_task(name).try_out(spec, checkpoint, Path(folder))
            except Exception as error:  # a plug-in may raise anything, and that is a result
                known = isinstance(error, UserError)
                passed, detail = False, str(error) if known else f"{type(error).__name__}: {error}"
            yield CheckResult(f"task {name}", passed, detail, time.perf_counter() - start)
