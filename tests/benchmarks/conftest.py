"""The real command line on a task that costs nothing."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.data.roots import DataRoot
from benchmarks.store.record import (
    Attempt,
    BackboneFacts,
    Failure,
    FullRecord,
    Labels,
    MetricValue,
)
from benchmarks.store.spec import RunRequest, RunSpec

ROOT = Path(__file__).resolve().parents[2]
RUN = ROOT / "benchmarks" / "run.py"
STAND_IN = Path(__file__).with_name("stand_in")


@dataclass
class CommandLine:
    """Runs ``run.py`` in a folder of its own, with the stand-in task."""

    folder: Path

    def start(self, *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **environment):
        return subprocess.Popen(
            [sys.executable, str(RUN), *map(str, arguments)],
            cwd=self.folder,
            env=self.environment(**environment),
            stdout=stdout,
            stderr=stderr,
            text=True,
        )

    def __call__(self, *arguments, **environment):
        process = self.start(*arguments, **environment)
        out, err = process.communicate(timeout=300)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def environment(self, **changes):
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("STAND_IN", "DETECTRON"))}
        return {**clean, "PYTHONPATH": str(STAND_IN), **changes}

    @property
    def runs(self):
        return self.folder / "runs"

    def record(self):
        """Return the content of the one record."""
        (path,) = self.runs.glob("*/record.json")
        return json.loads(path.read_text())

    def steps(self):
        """Return the steps that every run really did, by backbone, in order."""
        done = {}
        for path in self.runs.glob("*/work/steps.txt"):
            log = (path.parents[1] / "log.txt").read_text().split()
            done[log[log.index("training") + 1]] = [int(n) for n in path.read_text().split()]
        return done


@pytest.fixture
def run_py(tmp_path):
    """Return the command line."""
    return CommandLine(tmp_path)


def _spec(**changes):
    values = {
        "task": "coco",
        "task_version": 1,
        "data_fingerprint": "f" * 64,
        "backbone": "vit-nano",
        "backbone_sha256": "",
        "weights_sha256": "random",
        "weights_format": "backbench",
        "weights_branch": "",
        "recipe": {"protocol": "mini/v1", "optim": {"lr": 0.1}},
        "seed": 0,
        "precision": "fp32",
        "batch_size": 8,
        "limit_images": None,
    }
    return RunSpec(**{**values, **changes})


def _request(spec=None, **changes):
    values = {
        "spec": spec or _spec(),
        "suite": "coco",
        "entry": "vit-nano",
        "source": "vit-nano",
        "recipe": "mini",
        "protocol": "mini/v1",
        "num_steps": 10,
        "num_images": 80,
        "data": DataRoot("coco", "mini", None, "embedded"),
    }
    return RunRequest(**{**values, **changes})


def _record(spec=None, score=10.0, **changes):
    metrics = {
        name: MetricValue(value, "percent", higher_is_better=True, reason=reason)
        for name, value, reason in (
            ("APbox", score, None),
            ("APmask", None, "no ground truth of this kind"),
        )
    }
    values = {
        "spec": spec or _spec(),
        "status": "done",
        "attempt": 1,
        "created": "2026-01-01T00:00:00+00:00",
        "finished": "2026-01-01T00:01:00+00:00",
        "labels": Labels("coco", "vit-nano", "mini", "mini/v1", "mini", True),
        "backbone": BackboneFacts("vit-nano", "backbench", method="random"),
        "headline": "APbox",
        "columns": ("APbox", "APmask"),
        "metrics": metrics,
        "per_class": {"ring": {"APbox": score}},
        "curves": {"step": [1, 2], "loss": [3.0, None]},
        "cost": {"images_per_second_train": 8.0, "gflops": None},
        "environment": {"python": "3.11"},
        "attempts": (Attempt(1, "host", "a", "b", "done", ""),),
        "failure": None,
        "warnings": (),
        "details": {},
        "files": (),
    }
    return FullRecord(**{**values, **changes})


def _failure(message="The image is truncated.", exit_code=4):
    return Failure("train", "PreflightError", message, "", exit_code)


@pytest.fixture
def make_spec():
    """Return a function that makes a spec, given fields changed."""
    return _spec


@pytest.fixture
def make_request():
    """Return a function that makes a request, given fields changed."""
    return _request


@pytest.fixture
def make_record():
    """Return a function that makes a record, given fields changed."""
    return _record


@pytest.fixture
def make_failure():
    """Return a function that makes a failure."""
    return _failure


@pytest.fixture
def real_records():
    """Return the files of records that real runs of earlier versions wrote, by version."""
    return sorted(Path(__file__).with_name("records").glob("*/record.json"))
