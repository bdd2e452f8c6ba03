"""A worker whose launcher was killed ends, also while it is still building."""

import os
import subprocess
import sys
import time

import pytest

from benchmarks.store.folders import Store
from benchmarks.work.contract import FOLLOW_PARENT, STOPPED

_BUILDING = """
import sys, time
from pathlib import Path
from backbones.base.monitor import Progress
from benchmarks.store.folders import RunFolder
from benchmarks.work.interrupt import Interrupt
from benchmarks.work.monitor import WorkerMonitor
interrupt = Interrupt(lambda: None)
with WorkerMonitor(RunFolder(Path(sys.argv[1])), 1, interrupt, sys.stdout) as monitor:
    if sys.argv[2] == "training":
        monitor.progress(Progress("train", 1, 10))
    end = time.monotonic() + 20
    while time.monotonic() < end and not (sys.argv[2] == "training" and monitor.should_stop()):
        time.sleep(0.05)
sys.exit(9)
"""


@pytest.mark.parametrize(("doing", "code"), [("building", STOPPED), ("training", 9)])
def test_it_ends_soon_after_its_launcher(tmp_path, make_request, doing, code):
    folder = Store(tmp_path).prepare(make_request())
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    environment = {**os.environ, FOLLOW_PARENT: str(gone.pid)}
    command = [sys.executable, "-c", _BUILDING, str(folder.path), doing]
    start = time.monotonic()
    assert subprocess.run(command, env=environment, check=False).returncode == code
    assert time.monotonic() - start < 15
