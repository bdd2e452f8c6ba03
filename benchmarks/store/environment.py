"""What a run ran on and with, and what its process should be started with."""

import contextlib
import hashlib
import json
import math
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from importlib import metadata, util
from operator import attrgetter
from pathlib import Path
from typing import Any

from backbones.base.cores import share_of, threads_of, usable_cores

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("backbones", "pretrain", "detection", "benchmarks")
# In the folder of a copy of the code: where it came from.
SNAPSHOT = "snapshot.json"
# What a record keeps of a job, by the variables behind SLURM_.
_SLURM = {
    "id": "JOB_ID",
    "array": "ARRAY_JOB_ID",
    "index": "ARRAY_TASK_ID",
    "cluster": "CLUSTER_NAME",
    "partition": "JOB_PARTITION",
    "nodes": "JOB_NODELIST",
    "processes": "NTASKS",
    "restarts": "RESTART_COUNT",
}
_LIBRARIES = ("torch", "torchvision", "timm", "fvcore", "pycocotools", "hotcoco", "numpy", "pillow")
# Beginnings of the names of vector instruction sets, of x86 and of ARM processors.
_VECTOR = ("sse4", "avx", "fma", "amx", "asimd", "sve", "bf16", "i8mm")
# Without these, glibc hands large tensors back to the kernel at every free and pays for fresh
# pages at every allocation: up to 1.8 times the time of a training step on the CPU.
_MALLOC = {
    "glibc.malloc.hugetlb": "1",
    "glibc.malloc.mmap_threshold": str(4 * 2**30),
    "glibc.malloc.trim_threshold": str(8 * 2**30),
}


def describe() -> dict[str, Any]:
    """Return versions, host, threads and code, for a record."""
    return {
        "code": {
            "version": version("backbench") or "checkout",
            "sha256": code_sha256(),
            "git": git_commit(),
        },
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in _LIBRARIES},
        "detectron2": detectron2_version(),
        "os": platform.platform(),
        "host": socket.gethostname(),
        "cpu": _cpu_name(),
        "instructions": vector_instructions(),
        "kernels": _torch_says("backends.cpu.get_cpu_capability"),
        "cores": usable_cores(),
        "gpus": _gpu_names(),
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
        "threads": os.environ.get("OMP_NUM_THREADS", ""),
        "threads_used": _torch_says("get_num_threads"),
        "allocator": os.environ.get("GLIBC_TUNABLES", ""),
        **_slurm_job(),
    }


def _slurm_job() -> dict[str, Any]:
    """Return which job of Slurm this process belongs to, nothing outside of one."""
    given = {key: os.environ.get(f"SLURM_{name}", "") for key, name in _SLURM.items()}
    if not given["id"]:
        return {}
    array, index = given.pop("array"), given.pop("index")
    return {"slurm": {**given, "job": f"{array}_{index}" if array else given["id"]}}


def worker_environment(base: Mapping[str, str], *, gpu: bool = False) -> dict[str, str]:
    """Return the environment that a training process starts with.

    What the user set stays as it is.

    Args:
        base: The environment of this process.
        gpu: Whether it trains on a GPU.
    """
    environment = dict(base)
    cores = min(usable_cores(), share_of(base) or usable_cores())
    threads = str(threads_of(cores, gpu=gpu))
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        # An empty variable chooses nothing, as the OpenMP library reads it.
        environment[name] = environment.get(name) or environment.get("OMP_NUM_THREADS") or threads
    path = [str(ROOT), *filter(None, [environment.get("PYTHONPATH")])]
    environment["PYTHONPATH"] = os.pathsep.join(path)
    if platform.libc_ver()[0] == "glibc":
        environment["GLIBC_TUNABLES"] = with_tunables(environment.get("GLIBC_TUNABLES", ""))
    return environment


def memory_gib() -> float:
    """Return how much memory the processes of this machine, or of this container, may fill."""
    limit = math.inf
    with contextlib.suppress(OSError, ValueError):
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text("utf-8"))
    return min(limit, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")) / 2**30


def version(distribution: str) -> str:
    """Return the installed version of a distribution, empty when it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def detectron2_version() -> str:
    """Return the version of the detectron2 that an import would find, empty without one."""
    spec = util.find_spec("detectron2")
    if spec is None or spec.origin is None:
        return ""
    for text in Path(spec.origin).read_text("utf-8").splitlines():
        if text.startswith("__version__"):
            return text.partition("=")[2].strip().strip("\"'")
    return "unknown"


@cache
def code_sha256(root: Path = ROOT) -> str:
    """Return a hash over every source file of the four packages under ``root``."""
    digest = hashlib.sha256()
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            digest.update(str(path.relative_to(root)).encode() + b"\0")
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def with_tunables(given: str) -> str:
    """Return glibc tunables: those given, and ours where they say nothing."""
    present = {part.partition("=")[0] for part in given.split(":") if part}
    ours = [f"{name}={value}" for name, value in _MALLOC.items() if name not in present]
    return ":".join(filter(None, [given, *ours]))


def git_commit() -> str:
    """Return the commit of the checkout, "+changes" where files differ, empty outside of one.

    In a copy of the code, that of the checkout it was made from.
    """
    if (ROOT / SNAPSHOT).exists():
        try:
            return str(json.loads((ROOT / SNAPSHOT).read_text("utf-8"))["git"])
        except (OSError, ValueError, KeyError, TypeError):
            return "unknown"
    if not (ROOT / ".git").exists():
        return ""
    try:
        commit = _git("rev-parse", "HEAD")
        return commit + ("+changes" if _git("status", "--porcelain") else "")
    except (OSError, subprocess.SubprocessError):
        return ""


def _git(*arguments: str) -> str:
    done = subprocess.run(  # the arguments are constants of this file
        ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, timeout=10, check=True
    )
    return done.stdout.strip()


def _gpu_names() -> list[str]:
    """Return the names of the CUDA devices, if the run has loaded torch at all."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]


def _torch_says(name: str) -> Any:
    """Return what a function of torch returns, None if the run has not loaded torch.

    Args:
        name: Of the function, without "torch.".
    """
    torch = sys.modules.get("torch")
    return attrgetter(name)(torch)() if torch is not None else None


def _cpu_name() -> str:
    return _cpu_info("model name") or platform.processor() or sys.platform


def vector_instructions() -> list[str]:
    """Return the processor's vector instruction sets, sorted; empty where nobody says.

    Libraries choose by them in which order they add, so they decide how sums round.
    """
    flags = f"{_cpu_info('flags')} {_cpu_info('Features')}".split()
    return sorted(flag for flag in set(flags) if flag.startswith(_VECTOR))


def _cpu_info(name: str) -> str:
    """Return a value of the first core in /proc/cpuinfo, empty where there is none."""
    info = Path("/proc/cpuinfo")
    for text in info.read_text("utf-8").splitlines() if info.exists() else []:
        if text.partition(":")[0].strip() == name:
            return text.partition(":")[2].strip()
    return ""
