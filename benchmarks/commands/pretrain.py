"""``run.py pretrain RECIPE``: make one checkpoint, and say how to measure it."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks import output
from benchmarks.commands.run import (
    carry_out,
    exit_code,
    facts,
    facts_cache,
    print_failures,
)
from benchmarks.data.roots import parse_data
from benchmarks.options import HowToRun, PretrainOptions
from benchmarks.plan.plan import Cell, make_plan
from benchmarks.plan.weights import WEIGHTS_FILE, PlanContext, Pretraining, pretraining_request
from benchmarks.store.folders import Store
from benchmarks.store.spec import RunRequest
from benchmarks.task import PRETRAIN
from benchmarks.work.outcome import Ended


def main(options: PretrainOptions) -> int:
    """Run the command.

    Raises:
        UserError: The request is wrong, or cannot be served; nothing has been run then.
    """
    store = Store(options.out)
    if not options.dry_run:
        store.check_writable()
    with facts_cache(options, store) as cache:
        requests = _requests(options, cache)
    return carry_out(options, store, requests, _report)


def _requests(options: PretrainOptions, cache: Path) -> list[RunRequest]:
    where = PlanContext(
        parse_data(options.data), options.plugins, options.limit_images, cache, PRETRAIN
    )
    first = options.init_from or ""
    wanted = [
        Pretraining(options.recipe, options.arch, seed, tuple(options.overrides), first)
        for seed in options.seeds
    ]
    return [pretraining_request(one, where) for one in wanted]


def _report(options: HowToRun, store: Store, cells: Sequence[Cell], ended: Sequence[Ended]) -> int:
    code = exit_code(cells, ended)
    now = make_plan([cell.request for cell in cells], store, store.scan())
    made = [
        store.folder(c.request.spec.run_id).work / WEIGHTS_FILE for c in now if c.state == "done"
    ]
    if options.json:
        output.document({"exit_code": code, "cells": [facts(c) for c in now],
                         "weights": [str(path) for path in made]})  # fmt: skip
        return code
    for path in made:
        output.line(f"weights: {path}; measure them with --entries ckpt:{path}")
    print_failures(ended)
    return code
