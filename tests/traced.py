"""Do a run and note the files in the order in which it first enters them.

``python -m tests.traced FOLDER``: FOLDER/trace.txt gets a line a file of ours, also from forked
loader workers.
"""

import os
import sys
from pathlib import Path

from benchmarks.entries import parse_entries
from benchmarks.leaderboard.shown import shown_tables
from benchmarks.plan.assemble import PlanRequest, assemble
from benchmarks.store.folders import Store
from benchmarks.suites import get_suite
from benchmarks.work import worker

ROOT = Path(__file__).resolve().parents[1]
OURS = tuple(str(ROOT / name) for name in ("backbones", "pretrain", "detection", "benchmarks"))


def while_loading(frame):
    """Tell whether a call comes from the loading of a module: decorators, bodies of classes."""
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_code.co_filename.startswith(OURS):
            return True
        frame = frame.f_back
    return False


def main(folder):
    store = Store(Path(folder) / "runs")
    order = PlanRequest(get_suite("coco"), parse_entries(["resnet-nano"]), limit_images=8)
    seen, trace = set(), os.open(f"{folder}/trace.txt", os.O_CREAT | os.O_WRONLY | os.O_APPEND)

    def enter(frame, event, _):
        path = frame.f_code.co_filename
        if event != "call" or path in seen or not path.startswith(OURS) or while_loading(frame):
            return
        seen.add(path)
        os.write(trace, f"{path.removeprefix(str(ROOT) + os.sep)}\n".encode())

    sys.setprofile(enter)
    (request,) = assemble(order, store.cache)
    run = store.prepare(request)
    code = worker.main([str(run.path)])
    shown_tables(store.scan(), store)
    return code


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
