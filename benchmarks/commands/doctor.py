"""``run.py doctor``: what this machine has and lacks, a line each, with the fix."""

import os
import platform
import shutil
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import import_module, util
from pathlib import Path

from backbones.base.cores import loader_workers, usable_cores
from backbones.base.errors import UserError
from benchmarks import output
from benchmarks.data.mini.cache import default_cache
from benchmarks.data.roots import VARIABLES, parse_data
from benchmarks.local.resources import visible_gpus
from benchmarks.options import DoctorOptions
from benchmarks.store.environment import detectron2_version, version, worker_environment
from benchmarks.store.folders import Store
from benchmarks.suites import get_task, suite_tasks
from benchmarks.task import Task

_CANNOT_SERVE = 4
_SETUP = "run `make setup`, or pip install {}"
_GIB = 2**30
# A mini suite needs a few hundred MiB; a ViT-B run keeps two states of about 1.3 GiB each.
_ENOUGH_DISK = 10 * _GIB


@dataclass(frozen=True)
class Requirement:
    """One requirement.

    Attributes:
        name: What is required.
        state: "ok", "note" for what may be improved, "missing" for what stops a run.
        found: State of this machine.
        fix: How to fix it; empty if nothing is missing.
    """

    name: str
    state: str
    found: str
    fix: str = ""


def main(options: DoctorOptions) -> int:
    """Run the command; the exit code is 4 when something required is missing."""
    findings = [
        *_software(),
        *_detectron2(),
        *_device(),
        *_data(options.data, Store(options.out).cache),
        *_disk(options.out),
        *_processes(),
    ]
    missing = [finding for finding in findings if finding.state == "missing"]
    if options.json:
        output.document([asdict(finding) for finding in findings])
    else:
        width = max(len(finding.name) for finding in findings) + 2
        for finding in findings:
            fix = f"  -> {finding.fix}" if finding.fix else ""
            output.line(
                output.clean(f"{finding.state:8}{finding.name:{width}}{finding.found}{fix}")
            )
        output.line(f"{len(missing)} missing" if missing else "ready")
    return _CANNOT_SERVE if missing else 0


def _software() -> Iterator[Requirement]:
    enough = sys.version_info >= (3, 11)
    fix = "" if enough else "install Python 3.11 or newer"
    yield Requirement("python", "ok" if enough else "missing", platform.python_version(), fix)
    yield _library("torch", (2, 6))
    yield _library("torchvision", (0, 21))
    yield _library("timm", (1, 0, 20))
    for name in ("fvcore", "pycocotools", "hotcoco", "shapely", "safetensors", "scikit-image"):
        yield _library(name, (0,))


def _library(name: str, least: tuple[int, ...]) -> Requirement:
    found = version(name)
    fix = _SETUP.format(name)
    if not found:
        return Requirement(name, "missing", "not installed", fix)
    if _numbers(found) < least:
        return Requirement(name, "missing", f"{found}, needs {'.'.join(map(str, least))}", fix)
    return Requirement(name, "ok", found)


def _numbers(text: str) -> tuple[int, ...]:
    pieces = text.partition("+")[0].split(".")
    return tuple(int(piece) for piece in pieces if piece.isdecimal())


def _detectron2() -> Iterator[Requirement]:
    fix = "run `make setup`, which unpacks its pinned sources; see docs/install.md"
    found = detectron2_version()
    if not found:
        yield Requirement("detectron2", "missing", "not importable", fix)
        return
    spec = util.find_spec("detectron2")
    place = Path(spec.origin).parent if spec and spec.origin else "unknown"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the libraries' own, about each other
            import_module("detection.transfer")
    except Exception as error:  # whatever breaks the import is what the user has to know
        yield Requirement("detectron2", "missing", f"{found} from {place} fails: {error!r}", fix)
        return
    yield Requirement("detectron2", "ok", f"{found} from {place}")


def _device() -> Iterator[Requirement]:
    if util.find_spec("torch") is None:
        return
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        yield Requirement("CUDA", "ok", f"{torch.version.cuda}: {', '.join(names)}")
    elif torch.version.cuda:
        found = f"no device, runs go to the CPU; torch is built for {torch.version.cuda}"
        fix = "where there should be one, check `nvidia-smi` and its driver's version"
        yield Requirement("CUDA", "note", found, fix)
    else:
        yield Requirement("CUDA", "note", "torch is built without; runs go to the CPU")


def _data(given: Sequence[str], cache: Path) -> Iterator[Requirement]:
    """Yield what tasks find, once for tasks that find the same."""
    tasks: dict[Requirement, list[str]] = {}
    for name in suite_tasks():
        for finding in _data_of(get_task(name), given, cache):
            tasks.setdefault(finding, []).append(name)
    for finding, names in tasks.items():
        yield replace(finding, found=f"{finding.found} (for {', '.join(names)})")


def _data_of(task: Task, given: Sequence[str], cache: Path) -> Iterator[Requirement]:
    kind = task.data_kind
    try:
        root = task.find_data(parse_data(given, own_names=True))
        kind = root.kind
        # Exactly what a run checks; data that nobody named may take hours to read.
        checked = root.path is not None and root.origin.startswith("--data")
        facts = task.read_facts(root, cache) if checked else None
    except UserError as error:
        yield Requirement(f"{kind} data", "missing", str(error))
        return
    if facts is not None:
        found = f"{root.path} ({root.origin}): {facts.num_train:,} training images"
        tested = f", {facts.num_test:,} test images" if facts.num_test else ""
        yield Requirement(f"{kind} data", "ok", f"{found}{tested}")
        for note in facts.notes:
            yield Requirement(f"{kind} data", "note", note)
    elif root.path is not None:
        yield Requirement(f"{kind} data", "ok", f"{root.path} ({root.origin})")
    else:
        fix = f"--data {kind}=DIR or {VARIABLES[kind]} names real data"
        yield Requirement(f"{kind} data", "note", f"embedded mini data in {default_cache()}", fix)


def _disk(out: Path) -> Iterator[Requirement]:
    try:
        Store(out).check_writable()
    except UserError as error:
        yield Requirement("disk", "missing", str(error))
        return
    free = shutil.disk_usage(out).free
    state, fix = ("ok", "") if free >= _ENOUGH_DISK else ("note", "large runs need more")
    yield Requirement("disk", state, f"{free / _GIB:.1f} GiB free in {out.resolve()}", fix)


def _processes() -> Iterator[Requirement]:
    environment = worker_environment(os.environ, gpu=bool(visible_gpus()))
    threads = environment["OMP_NUM_THREADS"]
    found = f"{usable_cores()} cores: {threads} for training, {loader_workers()} for loading"
    yield Requirement("threads", "ok", found)
    tunables = environment.get("GLIBC_TUNABLES")
    if tunables:
        yield Requirement("allocator", "ok", f"runs start with GLIBC_TUNABLES={tunables}")
    else:
        fix = "on a CPU under Linux, a Python built against glibc trains up to 1.8 times as fast"
        yield Requirement("allocator", "note", f"{platform.libc_ver()[0] or 'no'} glibc", fix)
