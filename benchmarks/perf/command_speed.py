"""How fast the commands answer that a person waits for: medians of whole processes.

Targets: ``--help`` and ``--dry-run`` under a second; a plan of 1,000 runs, ``status`` of 1,000 run
folders under two; a leaderboard of 10,000 records under five. Records are as large as one of a COCO
run.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.data.roots import DataRoot
from benchmarks.perf.synthetic_records import fill
from benchmarks.store.folders import Store
from benchmarks.store.spec import RunRequest, RunSpec

_RUN = Path(__file__).resolve().parents[1] / "run.py"
_ROUNDS = 3
_RECORDS = 1_000
_MANY_RECORDS = 10_000


def main() -> None:
    """Measure, and print one line a command."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _ask(Store(root / "asked"), _RECORDS)
        fill(Store(root / "full"), _RECORDS)
        fill(Store(root / "many"), _MANY_RECORDS)
        for name, arguments in _commands(root).items():
            times = [_time(arguments) for _ in range(_ROUNDS)]
            print(f"{name:36} median {median(times):6.2f} s   best {min(times):6.2f} s")


def _commands(root: Path) -> dict[str, list[str]]:
    profile = root / "cluster.toml"
    profile.write_text("", "utf-8")
    slurm = ["--executor", "slurm", "--cluster", str(profile)]
    plan = ["--dry-run", "--seeds", str(_RECORDS), "--entries", "vit-nano"]
    many, full, empty = (["--out", str(root / name)] for name in ("many", "full", "empty"))
    board = ["leaderboard", *many]
    return {
        "--help": ["--help"],
        "--dry-run": ["--dry-run", *empty],
        "list": ["list"],
        f"--dry-run of {_RECORDS} runs": [*plan, *empty],
        f"scripts for {_RECORDS} runs": [*plan, *slurm, *empty],
        f"--dry-run beside {_RECORDS} records": ["--dry-run", *full],
        f"status of {_RECORDS} records": ["status", *full],
        f"status of {_RECORDS} runs not begun": ["status", "--out", str(root / "asked")],
        f"leaderboard of {_RECORDS} records": ["leaderboard", *full],
        f"leaderboard of {_MANY_RECORDS} records": board,
        "the same as CSV": [*board, "--format", "csv"],
        "the same, filtered": [*board, "--filter", "APbox > 48 and seeds = 3"],
    }


def _time(arguments: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, str(_RUN), *arguments], check=True, capture_output=True)
    return time.perf_counter() - start


def _ask(store: Store, number: int) -> None:
    """Write the folders of runs that were asked for and have not begun."""
    for index in range(number):
        spec = RunSpec(
            task="coco",
            task_version=1,
            data_fingerprint="0" * 64,
            backbone=f"net-{index // 3}",
            backbone_sha256="",
            weights_sha256="random",
            weights_format="backbench",
            weights_branch="",
            recipe={"protocol": "mini/v1", **{f"value {i}": i for i in range(60)}},
            seed=index % 3,
            precision="fp32",
            batch_size=8,
            limit_images=None,
        )
        data = DataRoot("coco", "mini", None, "embedded")
        store.prepare(RunRequest(spec, "coco", "net", "net", "mini", "mini/v1", 10, 80, data))


if __name__ == "__main__":
    main()
