"""Workers forked from a process with libraries loaded: the real server, with small libraries."""

import json
import os
import signal
import subprocess
import sys
import time
from multiprocessing import forkserver
from pathlib import Path

import pytest

from benchmarks.local.fork import ForkServer
from benchmarks.task import NETWORK_LIBRARIES

ROOT = Path(__file__).resolve().parents[3]

# In the place of the worker: says who it is and what is loaded, then does as its argument says.
WORKER = """
import json, multiprocessing, os, signal, sys, time

def main(arguments):
    asked = []
    signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    print(json.dumps({"pid": os.getpid(), "group": os.getpgrp(), "parent": os.getppid(),
                      "follows": int(os.environ["BACKBENCH_FOLLOW_PARENT"]),
                      "session": os.getsid(0),
                      "threads": len(os.listdir("/proc/self/task")),
                      "loaded": sorted({"wave", "numpy"} & set(sys.modules)),
                      "main": getattr(sys.modules["__main__"], "__file__", None),
                      "path": sys.path,
                      "input": os.readlink("/proc/self/fd/0"),
                      "environment": dict(os.environ),
                      "start_method": multiprocessing.get_start_method()}), flush=True)
    print("to the log", file=sys.stderr)
    if arguments[0] == "wait":
        while not asked and multiprocessing.parent_process().is_alive():
            time.sleep(0.01)
        return 130
    if arguments[0] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if arguments[0] == "raise":
        raise ValueError("of the worker")
    return int(arguments[0])
"""
LAUNCHER = """
import os, sys, time
from pathlib import Path
from benchmarks.local.fork import ForkServer

environment = {**os.environ, "PYTHONPATH": sys.argv[1]}
worker = ForkServer(("wave",)).start([sys.argv[3]], environment, Path(sys.argv[2]))
print(worker.stdout.readline(), end="", flush=True)
time.sleep(60)
"""


@pytest.fixture
def package(tmp_path):
    """Return a folder whose ``benchmarks`` is ours with another worker."""
    code = tmp_path / "code" / "benchmarks"
    for room in (code, code / "local", code / "work"):
        room.mkdir(parents=True)
        (room / "__init__.py").touch()
    for name in ("local/preload.py", "local/forked.py", "work/contract.py"):
        (code / name).write_text((ROOT / "benchmarks" / name).read_text())
    (code / "work" / "worker.py").write_text(WORKER)
    return tmp_path / "code"


@pytest.fixture
def environment(package):
    """Return the environment of workers that run the package."""
    return {**os.environ, "PYTHONPATH": str(package), "CHOSEN": "kept"}


@pytest.fixture
def server():
    """Return a fork server that loads a small library; another process for every test."""
    _stop_server()
    yield ForkServer(("wave",))
    _stop_server()


def _stop_server():
    """End the server of this process, which a test of another file may have started."""
    forkserver._forkserver._stop()
    ForkServer._environment = None


def end(worker):
    limit = time.monotonic() + 30
    while worker.poll() is None:
        assert time.monotonic() < limit
        worker.wait(1.0)
    worker.stdout.close()
    return worker.poll()


def gone(pid):
    """Return whether a process ends within a few seconds; one that nobody waits for counts."""
    limit = time.monotonic() + 10
    while time.monotonic() < limit:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def test_a_worker_is_a_process_of_its_own_with_the_libraries_loaded(server, environment, tmp_path):
    log = tmp_path / "log.txt"
    worker = server.start(["0"], environment, log)
    said = json.loads(worker.stdout.read())
    assert end(worker) == 0
    assert said["pid"] == worker.pid == said["group"] == said["session"]
    assert said["follows"] == said["parent"] != os.getpid()
    assert said["loaded"] == ["wave"]
    assert said["threads"] == 1
    assert said["input"] == os.devnull
    assert log.read_text() == "to the log\n"


def test_a_worker_has_the_environment_and_loaders_of_one_that_is_not_forked(
    server, environment, tmp_path
):
    worker = server.start(["0"], environment, tmp_path / "log.txt")
    said = json.loads(worker.stdout.read())
    assert end(worker) == 0
    assert said["environment"] == {**environment, "BACKBENCH_FOLLOW_PARENT": str(said["parent"])}
    plain = "import multiprocessing; print(multiprocessing.get_start_method())"
    started = subprocess.run([sys.executable, "-c", plain], capture_output=True, text=True,
                             check=True)  # fmt: skip
    assert said["start_method"] == started.stdout.strip()
    assert said["main"] is None, "a script that starts runs is not run again by every worker"


def test_one_after_the_other_ends_in_its_own_way(server, environment, tmp_path):
    log = tmp_path / "log.txt"
    workers = []
    for how, code in (("3", 3), ("kill", -signal.SIGKILL), ("raise", 1), ("0", 0)):
        workers.append(server.start([how], environment, log))
        assert end(workers[-1]) == code
    assert len({worker.pid for worker in workers}) == 4
    assert "ValueError: of the worker" in log.read_text()


def test_several_at_a_time_are_told_apart(server, environment, tmp_path):
    workers = [server.start(["wait"], environment, tmp_path / f"{n}.txt") for n in range(3)]
    assert [json.loads(worker.stdout.readline())["pid"] for worker in workers] == [
        worker.pid for worker in workers
    ]
    workers[1].kill()
    assert end(workers[1]) == -signal.SIGKILL
    assert workers[0].poll() is workers[2].poll() is None
    workers[0].terminate()
    workers[2].terminate()
    assert end(workers[0]) == end(workers[2]) == 130


def test_a_run_loads_the_code_as_it_is_when_the_run_begins(server, package, environment, tmp_path):
    assert end(server.start(["0"], environment, tmp_path / "log.txt")) == 0
    worker = package / "benchmarks" / "work" / "worker.py"
    worker.write_text("def main(arguments):\n    return 77\n")
    assert end(server.start(["0"], environment, tmp_path / "log.txt")) == 77


def test_who_is_asked_to_stop_before_it_is_there_stops(server, environment, tmp_path):
    for _ in range(5):
        worker = server.start(["wait"], environment, tmp_path / "log.txt")
        worker.terminate()
        assert end(worker) == 130


def test_a_library_that_cannot_be_loaded_is_left_to_the_run(server, package, environment, tmp_path):
    (package / "broken.py").write_text("raise OSError('no such shared object')\n")
    server = ForkServer(("no_such_library", "broken", "wave"))
    worker = server.start(["0"], environment, tmp_path / "log.txt")
    assert json.loads(worker.stdout.read())["loaded"] == ["wave"]
    assert end(worker) == 0


def test_a_library_that_ends_the_server_leaves_workers_to_be_started_plainly(
    server, package, environment, tmp_path
):
    (package / "deadly.py").write_text("import os\nos._exit(1)\n")
    server = ForkServer(("deadly",))
    assert server.start(["0"], environment, tmp_path / "log.txt") is None
    assert server.start(["0"], environment, tmp_path / "log.txt") is None


def test_another_environment_is_not_mixed_up_with_the_first(server, environment, tmp_path):
    assert end(server.start(["0"], environment, tmp_path / "log.txt")) == 0
    other = {**environment, "OMP_NUM_THREADS": "7"}
    assert server.start(["0"], other, tmp_path / "log.txt") is None


def test_a_launcher_that_is_killed_leaves_no_process(package, tmp_path):
    launcher = launch(package, tmp_path, "wait")
    said = json.loads(launcher.stdout.readline())
    family = children(launcher.pid)
    assert said["parent"] in family
    launcher.kill()
    launcher.wait()
    launcher.stdout.close()
    assert gone(said["pid"]), "the worker sees that its launcher is gone"
    assert all(gone(pid) for pid in family), "the server and multiprocessing's tracker end as well"


def test_a_file_in_the_users_folder_does_not_pass_for_a_module(package, tmp_path):
    (tmp_path / "wave.py").write_text("raise SystemExit('of the user')\n")
    launcher = launch(package, tmp_path, "0")
    said = json.loads(launcher.stdout.readline())
    launcher.kill()
    launcher.communicate()
    assert said["loaded"] == ["wave"]
    assert said["path"][0] == str(package)
    assert not {"", str(tmp_path)} & set(said["path"])


def launch(package, folder, how):
    """Return a launcher of one worker, which runs in a folder that Python searches first."""
    return subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, str(package), str(folder / "log.txt"), how],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=folder, stdout=subprocess.PIPE,
    )  # fmt: skip


def children(pid):
    return [int(n) for path in Path(f"/proc/{pid}/task").glob("*/children")
            for n in path.read_text().split()]  # fmt: skip


def test_a_server_that_is_killed_is_seen_by_the_launcher_and_the_worker(
    server, environment, tmp_path
):
    worker = server.start(["wait"], environment, tmp_path / "log.txt")
    said = json.loads(worker.stdout.readline())
    os.kill(said["parent"], signal.SIGKILL)
    assert end(worker) == 255
    assert gone(said["parent"])
    os.kill(said["pid"], signal.SIGTERM)
    assert gone(said["pid"])
    again = server.start(["0"], environment, tmp_path / "log.txt")
    assert end(again) == 0, "another server takes its place"


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
