"""``run.py follow FOLDER``: measure every checkpoint that another trainer writes."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from backbones.base.errors import UserError
from benchmarks import output
from benchmarks.commands.leaderboard import show
from benchmarks.commands.run import carry_out, exit_code, facts_cache, print_failures
from benchmarks.data.roots import parse_data
from benchmarks.entries import parse_entries
from benchmarks.options import FollowOptions, HowToRun
from benchmarks.plan.assemble import PlanRequest, assemble
from benchmarks.plan.plan import Cell, make_plan
from benchmarks.store.folders import Store
from benchmarks.store.followed import FollowedCheckpoint, remember_checkpoints
from benchmarks.store.spec import RunRequest
from benchmarks.suites import choose_suite
from benchmarks.work.contract import STOPPED
from benchmarks.work.outcome import Ended
from benchmarks.work.watcher import PATTERNS, Look, Watcher, epoch_of

_SOME_FAILED = 3


@dataclass
class _Following:
    """What a command knows of the folder so far.

    Attributes:
        planned: Runs of each file, as it was when they were planned.
        broken: Files that could not be planned, as they were.
        code: Exit code so far.
    """

    planned: dict[Path, tuple[Look, list[RunRequest]]] = field(default_factory=dict)
    broken: dict[Path, Look] = field(default_factory=dict)
    code: int = 0


def main(options: FollowOptions) -> int:
    """Run the command.

    Raises:
        UserError: The folder does not exist, or the request is wrong.
    """
    # A wrong request is told before the first checkpoint comes.
    _order(options, options.folder / "checkpoint.pth")
    store = Store(options.out)
    if not options.dry_run:
        store.check_writable()
    watcher = Watcher(options.folder, options.pattern or PATTERNS, options.settle)
    following, last_news = _Following(), time.monotonic()
    while True:
        news = _news(watcher.settled(), following)
        if news:
            last_news = time.monotonic()
            code = _measure(options, store, news, following)
            if code == STOPPED:
                return code
            following.code = following.code or code
        elif not watcher.waiting and (
            options.once or (options.idle and time.monotonic() - last_news >= options.idle)
        ):
            break
        time.sleep(min(options.every, options.settle) if watcher.waiting else options.every)
    if not following.planned and not following.broken:
        output.note(f"{options.folder} holds no checkpoint ({', '.join(PATTERNS)}).")
    return following.code


def _news(settled: dict[Path, Look], following: _Following) -> dict[Path, Look]:
    """Return the files that are new, or that were written over since."""
    known = {path: look for path, (look, _) in following.planned.items()} | following.broken
    return {path: look for path, look in settled.items() if known.get(path) != look}


def _measure(
    options: FollowOptions, store: Store, news: dict[Path, Look], following: _Following
) -> int:
    """Plan and run the measurements of new files; return the exit code."""
    code = 0
    with facts_cache(options, store) as cache:
        for path, look in news.items():
            try:
                following.planned[path] = look, assemble(_order(options, path), cache)
                following.broken.pop(path, None)
            except UserError as error:
                # A request that is wrong for the first file is wrong for all.
                if not following.planned and len(news) == 1 and not following.broken:
                    raise
                following.broken[path] = look
                output.note(output.clean(f"{path.name} is left out: {error}"))
                code = _SOME_FAILED
    requests = {r.spec.run_id: r for p in news if p in following.planned
                for r in following.planned[p][1]}  # fmt: skip
    if not requests:
        return code
    if not options.dry_run:
        remember_checkpoints(store.root, options.folder, _checkpoints(options, news, following))
    # What failed is not done again in every look; the same command, started again, does it.
    once = replace(options, rerun="missing") if following.code else options
    return carry_out(once, store, list(requests.values()), _report) or code


def _order(options: FollowOptions, path: Path) -> PlanRequest:
    source = f"ckpt:{path.absolute()}" + (f"?{options.weights}" if options.weights else "")
    return PlanRequest(
        suite=choose_suite("", options.tasks),
        entries=parse_entries([source]),
        recipe=options.recipe,
        overrides=options.overrides,
        seeds=options.seeds,
        data=parse_data(options.data, own_names=True),
        plugins=options.plugins,
        limit_images=options.limit_images,
    )


def _checkpoints(
    options: FollowOptions, news: dict[Path, Look], following: _Following
) -> list[FollowedCheckpoint]:
    return [
        FollowedCheckpoint(
            epoch_of(path),
            str(path.relative_to(options.folder)),
            following.planned[path][1][0].spec.weights_sha256,
        )
        for path in news
        if path in following.planned
    ]


def _report(options: HowToRun, store: Store, cells: Sequence[Cell], ended: Sequence[Ended]) -> int:
    now = make_plan([cell.request for cell in cells], store, store.scan())
    if options.json:
        output.document(
            {
                "exit_code": exit_code(cells, ended),
                "measured": [
                    {
                        "entry": cell.request.entry,
                        "epoch": epoch_of(Path(cell.request.source.partition("?")[0])),
                        "task": cell.request.spec.task,
                        "run_id": cell.request.spec.run_id,
                        "state": cell.state,
                        "value": cell.record.value(cell.record.headline) if cell.record else None,
                    }
                    for cell in now
                ],
            }
        )
    else:
        show(store.scan(), store, "table")
    print_failures(ended)
    return exit_code(cells, ended)
