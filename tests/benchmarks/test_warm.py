"""Workers forked from a process with libraries loaded: the real one, with small libraries."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.local.warm_start import Order, WarmStart
from benchmarks.task import NETWORK_LIBRARIES

ROOT = Path(__file__).resolve().parents[2]

# In the place of the worker: says who it is and what is loaded, then does as its argument says.
WORKER = """
import json, os, signal, sys, time

def main(arguments):
    asked = []
    signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    print(json.dumps({"pid": os.getpid(), "group": os.getpgrp(), "parent": os.getppid(),
                      "follows": int(os.environ["BACKBENCH_FOLLOW_PARENT"]),
                      "threads": len(os.listdir("/proc/self/task")),
                      "loaded": sorted({"wave", "numpy"} & set(sys.modules)),
                      "files": len(os.listdir("/proc/self/fd"))}), flush=True)
    print("to the log", file=sys.stderr)
    if arguments[0] == "wait":
        while not asked:
            time.sleep(0.01)
        return 130
    if arguments[0] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    return int(arguments[0])
"""


@pytest.fixture
def package(tmp_path):
    """Return a folder whose ``benchmarks`` is ours with another worker."""
    code = tmp_path / "code" / "benchmarks"
    for room in (code, code / "local", code / "work"):
        room.mkdir(parents=True)
        (room / "__init__.py").touch()
    for name in ("local/warm.py", "work/contract.py"):
        (code / name).write_text((ROOT / "benchmarks" / name).read_text())
    (code / "work" / "worker.py").write_text(WORKER)
    return tmp_path / "code"


@pytest.fixture
def warm(package):
    """Return the launcher's end of a warm process."""
    started = WarmStart({**os.environ, "PYTHONPATH": str(package)})
    yield started
    started.close()


def begin(warm, log, *arguments, libraries=("wave",)):
    with log.open("a") as file:
        return warm.start(Order(libraries=libraries, arguments=list(arguments)), file)


def end(child):
    limit = time.monotonic() + 30
    while child.poll() is None:
        assert time.monotonic() < limit
        child.wait(1.0)
    child.stdout.close()
    return child.poll()


def test_a_worker_is_a_process_of_its_own_with_the_libraries_loaded(warm, tmp_path):
    log = tmp_path / "log.txt"
    child = begin(warm, log, "0")
    said = json.loads(child.stdout.read())
    assert end(child) == 0
    assert said["pid"] == child.pid == said["group"]
    assert said["follows"] == said["parent"] != os.getpid()
    assert said["loaded"] == ["wave"]
    assert said["threads"] == 1
    assert said["files"] == 4, "0, 1, 2 and the listing itself"
    assert log.read_text() == "to the log\n"


def test_one_after_the_other_ends_in_its_own_way(warm, tmp_path):
    log = tmp_path / "log.txt"
    children = []
    for how, code in (("3", 3), ("kill", -signal.SIGKILL), ("0", 0)):
        children.append(begin(warm, log, how))
        assert end(children[-1]) == code
    assert warm.lives()
    assert len({child.pid for child in children}) == 3


def test_a_run_loads_the_code_as_it_is_when_the_run_begins(warm, package, tmp_path):
    assert end(begin(warm, tmp_path / "log.txt", "0")) == 0
    worker = package / "benchmarks" / "work" / "worker.py"
    worker.write_text("def main(arguments):\n    return 77\n")
    assert end(begin(warm, tmp_path / "log.txt", "0")) == 77


def test_who_is_asked_to_stop_before_it_is_there_stops(warm, tmp_path):
    child = begin(warm, tmp_path / "log.txt", "wait")
    child.terminate()
    assert end(child) == 130


def test_a_library_that_cannot_be_loaded_is_left_to_the_run(warm, tmp_path):
    assert end(begin(warm, tmp_path / "log.txt", "0", libraries=("no_such_library",))) == 0


def test_a_launcher_that_hangs_up_leaves_no_process(package, tmp_path):
    warm = WarmStart({**os.environ, "PYTHONPATH": str(package)})
    child = begin(warm, tmp_path / "log.txt", "wait")
    said = json.loads(child.stdout.readline())
    child.stdout.close()
    warm.close()
    assert not warm.lives()
    status = Path(f"/proc/{said['pid']}/stat").read_text().rpartition(")")[2].split()
    assert int(status[1]) != said["parent"], "the worker sees that its parent is gone"
    os.kill(said["pid"], signal.SIGTERM)


def test_a_warm_process_that_is_killed_is_seen(warm, tmp_path):
    child = begin(warm, tmp_path / "log.txt", "wait")
    said = json.loads(child.stdout.readline())
    os.kill(said["parent"], signal.SIGKILL)
    assert end(child) == -signal.SIGKILL
    assert not warm.lives()
    os.kill(said["pid"], signal.SIGTERM)


@pytest.mark.slow
def test_loading_starts_no_threads_of_torch_and_asks_for_no_device():
    """Threads and drivers do not survive a fork; numpy's OpenBLAS, which stops its own, may."""
    code = (
        "import os, importlib, numpy, torch\n"
        "before = len(os.listdir('/proc/self/task'))\n"
        "def asked(): raise SystemExit('a device was asked for')\n"
        "torch._C._cuda_getDeviceCount = asked\n"
        f"for name in {NETWORK_LIBRARIES}: importlib.import_module(name)\n"
        "assert len(os.listdir('/proc/self/task')) == before\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    side = torch.rand(600, 600)\n"
        "    product = (side @ side).numpy() - side.numpy() @ side.numpy()\n"
        "    os._exit(int(abs(product).max() > 1e-3))\n"
        "assert os.waitpid(pid, 0)[1] == 0\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**os.environ, "OMP_NUM_THREADS": "2"}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
