"""Builds the stand-in's two libraries, once for each state of their sources."""

import os
import shutil
import subprocess
import tempfile
from hashlib import sha256
from importlib import util
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
_SOURCES = ("runtime.cpp", "driver.c")
_HEADER = "cuda_runtime_api.h"


def built() -> tuple[Path | None, str]:
    """Return the folder of the libraries, or None and what is missing to build them."""
    headers, compilers = _headers(), [shutil.which(name) for name in ("g++", "gcc")]
    if headers is None:
        return None, f"no {_HEADER} (a CUDA toolkit or the package triton brings it)"
    if None in compilers:
        return None, "no g++ and gcc"
    content = _SMI.encode() + b"".join((HERE / name).read_bytes() for name in _SOURCES)
    folder = (
        Path(tempfile.gettempdir()) / f"stand-in-{os.getuid()}-{sha256(content).hexdigest()[:12]}"
    )
    if not (folder / "done").exists():
        folder.mkdir(exist_ok=True)
        _compile("g++", "-O1", "-I", headers, HERE / "runtime.cpp", out=folder / "libstandin.so")
        _compile("gcc", "-w", HERE / "driver.c", out=folder / "libcuda.so.1")
        _write_smi(folder / "nvidia-smi")
        (folder / "done").touch()
    return folder, ""


def environment(folder: Path, gpus: int, gib: int = 80) -> dict[str, str]:
    """Return the environment variables of a process that sees the stand-in's GPUs.

    Args:
        folder: From ``built``.
        gpus: Number of GPUs.
        gib: Memory of each in GiB.
    """
    base = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"}
    path = [str(HERE), str(ROOT), *filter(None, [base.get("PYTHONPATH")])]
    return {
        **base,
        "LD_PRELOAD": str(folder / "libstandin.so"),
        "LD_LIBRARY_PATH": str(folder),
        "PYTHONPATH": os.pathsep.join(path),
        "PATH": f"{folder}{os.pathsep}{base['PATH']}",
        "STAND_IN_GPUS": str(gpus),
        "STAND_IN_GIB": str(gib),
    }


def _compile(compiler: str, *arguments: object, out: Path) -> None:
    # To a name of its own first: other processes may build at the same time.
    made = out.with_name(f"{out.name}.{os.getpid()}")
    command = [compiler, "-fPIC", "-shared", *map(str, arguments), "-o", str(made)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    made.replace(out)


_SMI = """#!/bin/sh
case "$*" in *memory.total*) said=$((STAND_IN_GIB * 1024));; *) said=;; esac
i=0; while [ $i -lt "$STAND_IN_GPUS" ]; do echo "${said:-$i}"; i=$((i + 1)); done
"""


def _write_smi(path: Path) -> None:
    """Write the tool that our launcher asks for the GPUs."""
    path.write_text(_SMI, "utf-8")
    path.chmod(0o755)


def _headers() -> Path | None:
    """Return a folder with CUDA's headers, that of a toolkit or of the package triton."""
    places = [Path(root) / "include" for root in _toolkits()]
    triton = util.find_spec("triton")
    if triton is not None and triton.origin is not None:
        places.append(Path(triton.origin).parent / "backends" / "nvidia" / "include")
    whole = (
        p for p in places if (p / _HEADER).exists() and (p / "crt" / "host_defines.h").exists()
    )
    return next(whole, None)


def _toolkits() -> list[str]:
    named = [os.environ[name] for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    return [*named, *map(str, sorted(Path("/usr/local").glob("cuda*"), reverse=True))]
