"""The code of a submission, kept as it was, so that jobs run what was submitted. No torch."""

import json
import shutil
import tempfile
from pathlib import Path

from backbones.errors import PreflightError
from backbones.files import cannot_write
from benchmarks.sweep.environment import PACKAGES, ROOT, SNAPSHOT, code_sha256, git_commit


def take_snapshot(folder: Path) -> Path:
    """Copy the packages into ``folder``, under a name that is their hash, and return the place.

    Equal code is kept once; submitting from inside a snapshot makes no other.

    Raises:
        PreflightError: The copy cannot be written, or the code changed meanwhile.
    """
    target = folder / code_sha256()[:16]
    if (target / SNAPSHOT).exists():
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=folder, prefix=".part-"))
        try:
            _copy(part)
            # Whoever comes second finds the same content there.
            if not target.exists():
                part.rename(target)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        raise cannot_write(target, error) from error
    return target


def _copy(part: Path) -> None:
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, part / package, ignore=shutil.ignore_patterns("__pycache__", "*.pyc")
        )
    if code_sha256(part) != code_sha256():
        raise PreflightError("The code changed while it was copied; submit again.")
    # mkdtemp makes folders private; other nodes and people may have to read this one.
    part.chmod(0o755)
    (part / SNAPSHOT).write_text(json.dumps({"git": git_commit()}), "utf-8")
