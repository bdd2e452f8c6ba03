"""How fast records are read: microseconds of CPU time a record, best of a few rounds.

Records are as large as one of a COCO run (39 kB). Target: reading and checking 10,000 of them at
every look takes no longer than reading them without a check did, 90 microseconds each.
"""

import gc
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.perf.synthetic_records import fill
from benchmarks.store.folders import Store
from benchmarks.store.record_file import read_full_text, read_text, to_text

_ROUNDS = 5
_RECORDS = 1_500


def main() -> None:
    """Measure, and print one line a way to read."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        fill(store, _RECORDS)
        texts = [path.read_bytes() for path in store.root.glob("*/record.json")]
        records = [read_full_text(text) for text in texts]
        ways: dict[str, Callable[[], object]] = {
            "scan of a folder": store.scan,
            "text, without bulky parts": lambda: [read_text(text) for text in texts],
            "text, all of it": lambda: [read_full_text(text) for text in texts],
            "back to text": lambda: [to_text(record) for record in records],
        }
        for name, way in ways.items():
            best = min(_cpu_seconds(way) for _ in range(_ROUNDS))
            sys.stdout.write(f"{name:26} {1e6 * best / len(texts):6.0f} us a record\n")


def _cpu_seconds(way: Callable[[], object]) -> float:
    gc.collect()
    gc.disable()
    start = time.process_time()
    kept = way()
    seconds = time.process_time() - start
    del kept
    gc.enable()
    return seconds


if __name__ == "__main__":
    main()
