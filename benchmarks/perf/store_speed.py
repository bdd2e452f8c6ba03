"""What commands cost in a folder of 10,000 records, each as large as one of a COCO run.

Targets on idle cores: ``bundle`` and ``merge`` within 15 s, the first leaderboard within 4 s and
0.5 GB. Wall time depends on what else the machine does and on its disk, so the time on the cores is
printed next to it. To compare with another version, run this file with PYTHONPATH set to its
folder; ``fill`` and the commands are then those of that version.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

_RECORDS = 10_000
_FILL = """
import sys
from pathlib import Path
from benchmarks.perf.synthetic_records import fill
from benchmarks.store.folders import Store
fill(Store(Path(sys.argv[1])), int(sys.argv[2]))
"""
_COMMAND = "import sys; from benchmarks.cli import main; sys.exit(main(sys.argv[1:]))"


def main() -> None:
    """Measure, and print one line a command."""
    records = int(sys.argv[1]) if len(sys.argv) > 1 else _RECORDS
    with tempfile.TemporaryDirectory() as folder:
        runs, merged, file = (str(Path(folder) / name) for name in ("runs", "merged", "all.zip"))
        _run([_FILL, runs, str(records)])
        commands = {
            "first leaderboard": ["leaderboard", "--out", runs],
            "leaderboard again": ["leaderboard", "--out", runs],
            "status": ["status", "--out", runs],
            "bundle": ["bundle", file, "--out", runs],
            "merge": ["merge", file, "--out", merged],
            "merge again": ["merge", file, "--out", merged],
        }
        load = os.getloadavg()[0]
        sys.stdout.write(f"{records} records, load average {load:.1f}\n")
        for name, arguments in commands.items():
            wall, cores, memory = _run([_COMMAND, *arguments])
            sys.stdout.write(
                f"{name:18} {wall:6.1f} s wall {cores:6.1f} s on cores {memory:6.0f} MB\n"
            )
            sys.stdout.flush()


def _run(arguments: list[str]) -> tuple[float, float, float]:
    """Return wall seconds, seconds on the cores and peak memory in MB of a Python process."""
    start = time.perf_counter()
    silent = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    command = [sys.executable, "-c", *arguments]
    pid = os.posix_spawn(sys.executable, command, os.environ, file_actions=silent)
    _, status, used = os.wait4(pid, 0)
    if status:
        raise RuntimeError(f"{arguments[1:]} ended with status {os.waitstatus_to_exitcode(status)}")
    cores = used.ru_utime + used.ru_stime
    return time.perf_counter() - start, cores, used.ru_maxrss * 1024 / 1e6


if __name__ == "__main__":
    main()
