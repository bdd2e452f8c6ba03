"""How long the page of a large folder takes, and how large it is: medians of whole runs.

Targets: the best 300 rows of 10,000 records in under 10 s, of which building takes under 2 s; a
page of 300 rows of three seeds below 2 MB, also where every run kept detections, resamples and
pictures.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from benchmarks.leaderboard.page.document import MAX_ROWS
from benchmarks.leaderboard.page.publish import publish
from benchmarks.leaderboard.rows import make_tables
from benchmarks.perf.synthetic_pictures import fill_with_pictures
from benchmarks.perf.synthetic_records import fill
from benchmarks.store.folders import Store

_RUN = Path(__file__).resolve().parents[1] / "run.py"
_RECORDS = 10_000
_ROUNDS = 3


def main() -> None:
    """Measure, and print one line a figure."""
    with tempfile.TemporaryDirectory() as folder:
        root, page = Path(folder) / "runs", Path(folder) / "page.html"
        store = Store(root)
        fill(store, _RECORDS)
        run = [sys.executable, str(_RUN), "leaderboard", "--out", str(root), "--html", str(page)]
        _show("whole command", lambda: subprocess.run(run, check=True, capture_output=True))
        scan = store.scan()
        tables = make_tables(scan, store)
        _show("building alone", lambda: publish(page, tables, scan, store))
        print(f"{'size':20} {page.stat().st_size / 1e6:6.2f} MB")
    with tempfile.TemporaryDirectory() as folder:
        store, page = Store(Path(folder) / "runs"), Path(folder) / "page.html"
        fill_with_pictures(store, MAX_ROWS, 3, Path(folder) / "coco")
        scan = store.scan()
        publish(page, make_tables(scan, store), scan, store)
        print(f"{'size with pictures':20} {page.stat().st_size / 1e6:6.2f} MB")


def _show(name: str, act: Callable[[], object]) -> None:
    times = []
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        act()
        times.append(time.perf_counter() - start)
    print(f"{name:20} median {median(times):6.2f} s   best {min(times):6.2f} s")


if __name__ == "__main__":
    main()
