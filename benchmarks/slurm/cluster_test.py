"""``run.py cluster test``: one small job that shows what a cluster can do."""

import json
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from benchmarks import output
from benchmarks.slurm import client as slurm
from benchmarks.slurm.cluster import Cluster, RunResources, read_cluster
from benchmarks.slurm.launch import sbatch, take_snapshot
from benchmarks.slurm.lock import submitting
from benchmarks.slurm.sbatch import check_folder, sbatch_text
from benchmarks.slurm.submission import CODE, FOLDER, Array, Submission

_MODULE = "benchmarks.slurm.test_job"
_MINUTES = 6
_QUEUE_SECONDS = 900.0
_START_SECONDS = 120.0
_SIGNAL_SECONDS = 30.0
# A requeued job waits two minutes for its next start, which no option of Slurm changes.
_REQUEUE_SECONDS = 300.0
_CANNOT_SERVE = 4


@dataclass(frozen=True)
class _TestJob:
    folder: Path
    job: str
    shape: RunResources

    @property
    def ranks(self) -> range:
        return range(self.shape.world_size)

    def reports(self, kind: str, seconds: float) -> list[dict[str, Any]]:
        """Return what the processes reported in time."""
        paths = [self.folder / f"{kind}-{rank}.json" for rank in self.ranks]
        _wait(lambda: all(path.exists() for path in paths), seconds)
        return [json.loads(path.read_text("utf-8")) for path in paths if path.exists()]


def run_test_job(name: str, out: Path, as_json: bool) -> int:
    """Submit the job, check what it writes, and print a verdict for each item.

    Args:
        name: Name of the profile.
        out: Folder of runs, which the nodes must see as well.
        as_json: Print one JSON document instead.

    Raises:
        UserError: The profile or the folder is wrong.
        PreflightError: Slurm refuses the job.
    """
    check_folder(out)
    with submitting(out):
        test = _submit(read_cluster(name), out)
    if not as_json:
        output.line(f"job {test.job} submitted; this takes about three minutes")
    found: dict[str, str] = {}
    try:
        for item, fault in _verdicts(test):
            found[item] = fault
            if not as_json:
                output.line(f"{'FAIL' if fault else 'pass'}  {item}  {fault}".rstrip())
    finally:
        slurm.cancel([test.job])
    if as_json:
        output.document({"job": test.job, "faults": found})
    return _CANNOT_SERVE if any(found.values()) else 0


def _submit(cluster: Cluster, out: Path) -> _TestJob:
    shape = replace(cluster.shape, minutes=_MINUTES)
    base = (out / FOLDER).absolute()
    folder = base / f"test-{secrets.token_hex(4)}"
    name = f"backbench:test:{folder.name[-4:]}"
    array = Array(name, "", shape, ("test",))
    submission = Submission(folder, cluster.name, time.time(), take_snapshot(base / CODE), (array,))
    folder.mkdir(parents=True)
    text = sbatch_text(cluster, submission, 0, 0, modules=(_MODULE, _MODULE))
    return _TestJob(folder, f"{sbatch(submission, text)}_0", shape)


def _verdicts(test: _TestJob) -> Iterator[tuple[str, str]]:
    """Yield each item and what is wrong with it, empty for nothing."""
    started = _wait(lambda: _state(test.job) not in ("PENDING", "CONFIGURING"), _QUEUE_SECONDS)
    yield "starts", "" if started else "the job waits in the queue for more than 15 minutes"
    if not started:
        return
    found = test.reports("start", _START_SECONDS)
    count = len(test.ranks)
    shared = len(found) == count
    fault = f"{len(found)} of {count} processes wrote into {test.folder}; see the log there"
    yield "shared files", "" if shared else fault
    if not shared:
        return
    gpus = sorted({report["gpus"] for report in found})
    short = test.shape.gpus and min(gpus) < 1
    yield "GPUs", "torch sees none" if short else ""
    sums = {report["processes"] for report in found}
    yield "process group", "" if sums == {count} else f"an all-reduce counts {sums}, not {count}"
    slurm.ask(["scancel", "--signal=USR2", test.job])
    heard = [report["signal"] for report in test.reports("signal", _SIGNAL_SECONDS)]
    yield "signal", "" if heard == ["SIGUSR2"] * count else f"the processes heard {heard}"
    again = len(test.reports("again", _REQUEUE_SECONDS)) == count
    yield "requeue", "" if again else "the job did not start again within five minutes"


def _state(job: str) -> str:
    return next((one.state for one in slurm.queue() if one.job == job), "gone")


def _wait(condition: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(1.0)
    return True
