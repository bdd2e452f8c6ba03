"""How fast the commands answer that a person waits for: medians of whole processes.

Targets: ``--help`` and ``--dry-run`` under a second; a plan of 1,000 runs, ``status`` of 1,000 run
folders under two; a leaderboard of 10,000 records under five. Records are as large as one of a COCO
run.
"""

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

from benchmarks.sweep.record import (
    MAX_CURVE_POINTS,
    Attempt,
    BackboneFacts,
    Labels,
    RunRecord,
    to_json,
)
from benchmarks.sweep.spec import RunSpec
from benchmarks.sweep.store import Store

_RUN = Path(__file__).resolve().parents[1] / "run.py"
_ROUNDS = 5
_RECORDS = 1_000
_MANY_RECORDS = 10_000


def main() -> None:
    """Measure, and print one line a command."""
    with tempfile.TemporaryDirectory() as folder:
        full = Path(folder) / "full"
        _fill(Store(full), _RECORDS)
        many = Path(folder) / "many"
        _fill(Store(many), _MANY_RECORDS)
        profile = Path(folder) / "cluster.toml"
        profile.write_text("")
        slurm = ["--executor", "slurm", "--cluster", str(profile)]
        commands = {
            "--help": ["--help"],
            "--dry-run": ["--dry-run", "--out", f"{folder}/empty"],
            "list": ["list"],
            "scripts for 1,000 runs": [
                *("--dry-run", "--seeds", "1000", "--entries", "vit-nano", *slurm),
                *("--out", f"{folder}/empty"),
            ],
            f"--dry-run beside {_RECORDS} records": ["--dry-run", "--out", str(full)],
            f"status of {_RECORDS} records": ["status", "--out", str(full)],
            f"leaderboard of {_RECORDS} records": ["leaderboard", "--out", str(full)],
            f"leaderboard of {_MANY_RECORDS} records": ["leaderboard", "--out", str(many)],
        }
        for name, arguments in commands.items():
            times = [_time(arguments) for _ in range(_ROUNDS)]
            print(f"{name:32} median {median(times):6.2f} s   best {min(times):6.2f} s")


def _time(arguments: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, str(_RUN), *arguments], check=True, capture_output=True)
    return time.perf_counter() - start


def _fill(store: Store, number: int) -> None:
    """Write records that differ in backbone and seed alone."""
    example = _example()
    for index in range(number):
        spec = replace(example.spec, backbone=f"net-{index // 3}", seed=index % 3)
        record = replace(example, spec=spec)
        folder = store.folder(record.run_id)
        folder.path.mkdir(parents=True)
        # Not flushed to the disk, as a run would do it: writing is not what is measured.
        folder.record.write_text(json.dumps(to_json(record)))


def _example() -> RunRecord:
    metric = {"value": 12.345, "unit": "percent", "higher_is_better": True, "reason": None}
    names = [f"{score}{kind}" for kind in ("box", "mask") for score in _scores()]
    curve = [index / 7 for index in range(MAX_CURVE_POINTS)]
    return RunRecord(
        spec=RunSpec(
            task="coco",
            task_version=1,
            data_fingerprint="0" * 64,
            backbone="net",
            weights_sha256="random",
            weights_format="backbench",
            weights_branch="",
            recipe={"protocol": "mini/v1", **{f"value {i}": i for i in range(60)}},
            seed=0,
            precision="fp32",
            batch_size=8,
            limit_images=None,
        ),
        status="done",
        attempt=1,
        created="2026-01-01T00:00:00+00:00",
        finished="2026-01-01T00:01:00+00:00",
        labels=Labels("coco", "net", "mini", "mini/v1", "coco", False),
        backbone=BackboneFacts("net", method="random"),
        headline="APbox",
        columns=("APbox", "APmask"),
        metrics=dict.fromkeys(names, metric),
        per_class={f"class {i}": {"APbox": 1.5, "APmask": 2.5} for i in range(80)},
        curves={f"curve {i}": curve for i in range(8)},
        cost={"images_per_second_train": 8.0, "seconds": 60.0},
        environment={"python": "3.11"},
        attempts=(Attempt(1, "host", "", "", "done", ""),),
        failure=None,
        warnings=(),
        details={},
        files=(),
    )


def _scores() -> list[str]:
    sizes = ["", "50", "75", "s", "m", "l"]
    return [f"AP{size}" for size in sizes] + [f"AR{i}" for i in range(6)]


if __name__ == "__main__":
    main()
