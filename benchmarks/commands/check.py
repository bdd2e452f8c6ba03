"""``run.py check NAME``: the proof that a backbone works, detection included, or a recipe."""

import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from backbones.catalog import get_spec, spec_for
from backbones.check_result import CheckResult, attempt
from backbones.checkpoint import Checkpoint
from backbones.spec import BackboneSpec
from backbones.weights.source import open_checkpoint
from benchmarks import output
from benchmarks.entries import Entry, parse_entries
from benchmarks.options import CheckOptions
from benchmarks.plan.weights import parse_pretraining
from benchmarks.suites import get_task, suite_tasks
from pretrain.catalog import get_recipe
from pretrain.config import PretrainConfig

_FAILED = 3


def main(options: CheckOptions) -> int:
    """Run the command; the exit code is 3 when a check fails.

    Raises:
        UserError: A name is unknown, or its weights cannot be had; nothing has been checked then.
    """
    entries = parse_entries([name for text in options.names for name in text.split(",")])
    # All names are known before the first check begins.
    checks = {entry.name: _results(entry, options.plugins) for entry in entries}
    content: dict[str, list[dict[str, Any]]] = {}
    passed = True
    for name, results in checks.items():
        if not options.json:
            output.line(output.clean(name))
        content[name] = []
        for result in results:
            passed = passed and result.passed
            content[name].append(asdict(result))
            if not options.json:
                output.line(_line(result))
    if options.json:
        output.document(content)
    return 0 if passed else _FAILED


def _line(result: CheckResult) -> str:
    state = "ok" if result.passed else "FAILED"
    detail = output.clean(result.detail)
    return f"  {state:7} {result.name:16} {result.seconds:5.1f} s  {detail}"


def _results(entry: Entry, plugins: Path | None) -> Iterator[CheckResult]:
    """Return the checks of an entry, which begin when asked for.

    Raises:
        UserError: A name is unknown, or weights cannot be had.
    """
    wanted = parse_pretraining(entry)
    if wanted is None:
        checkpoint = open_checkpoint(entry.source, plugins)
        return _of_backbone(spec_for(checkpoint, plugins), checkpoint)
    recipe = get_recipe(wanted.recipe)
    config = replace(recipe, backbone=wanted.arch or recipe.backbone).resolved()
    return _of_recipe(get_spec(config.backbone, plugins), config)


def _of_recipe(spec: BackboneSpec, config: PretrainConfig) -> Iterator[CheckResult]:
    # torch is imported only here, so that a mistyped name is reported at once.
    from pretrain.check import check_recipe

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the libraries' own, about each other
        yield from check_recipe(spec, config)


def _of_backbone(spec: BackboneSpec, checkpoint: Checkpoint) -> Iterator[CheckResult]:
    """Yield the backbone's own checks, then one small run of every task."""
    from backbones.check import check_backbone

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the libraries' own, about each other
        for result in check_backbone(spec, checkpoint):
            yield result
            if result.name == "weights" and not result.passed:
                return
        for name in suite_tasks():
            yield attempt(f"task {name}", partial(_try_out, name, spec, checkpoint))


def _try_out(task: str, spec: BackboneSpec, checkpoint: Checkpoint) -> str:
    with tempfile.TemporaryDirectory() as folder:
        return get_task(task).try_out(spec, checkpoint, Path(folder))
