"""Where the mini data lies, made once and checked."""

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import filelock

from backbones.base.errors import PreflightError
from backbones.base.files import path_of, sha256_file, why_unwritable, write_json_atomically
from benchmarks.data.mini.generate import Files, checksum, generate

MINI_VERSION = "3"
MINI_SHA256 = "35439b57c27fdea863b2d76aa8e08abaef1b08f549994269daa158f4a01654d2"

_MANIFEST = "manifest.json"
_VARIABLE = "BACKBENCH_CACHE"


@dataclass(frozen=True)
class MiniData:
    """The two sets' roots."""

    coco: Path
    """``annotations/instances_{train,val}2017.json``, ``train2017/``, ``val2017/``."""
    imagenet: Path
    """``train/CLASS/*.png``, ``val/CLASS/*.png``."""


def mini_data(cache: Path | None = None) -> MiniData:
    """Return the mini data, generating it on first use in some ten seconds.

    The folder appears under its name only when it is whole and has the checksum in the code; a
    lock makes a second process wait rather than generate as well.

    Args:
        cache: Folder to keep it in; None for ``$BACKBENCH_CACHE``, else ``~/.cache/backbench``.

    Raises:
        PreflightError: The folder cannot be written, the photographs are not the expected ones, or
            the result has another checksum than the code.
    """
    cache = default_cache() if cache is None else cache
    folder = cache / f"mini-{MINI_VERSION}"
    if not _is_whole(folder):
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(cache / f".mini-{MINI_VERSION}.lock"):
                if not _is_whole(folder):
                    _make(cache, folder)
        except OSError as error:
            raise _not_kept(folder, error) from error
        except PreflightError as error:
            if isinstance(error.__cause__, OSError):
                raise _not_kept(folder, error.__cause__) from error
            raise
    return MiniData(folder / "coco", folder / "imagenet")


def default_cache() -> Path:
    """Return ``$BACKBENCH_CACHE`` or ``~/.cache/backbench``, by its full path.

    Raises:
        PreflightError: The variable cannot be a path, or this user has no home folder.
    """
    named = os.environ.get(_VARIABLE)
    if named:
        try:
            return path_of(named).absolute()
        except PreflightError as error:
            raise PreflightError(f"{_VARIABLE}={error}") from error
    try:
        return Path.home() / ".cache" / "backbench"
    except RuntimeError as error:
        raise PreflightError(
            f"This user has no home folder to keep the mini data in; set {_VARIABLE} to the full "
            "path of a folder."
        ) from error


def _not_kept(folder: Path, error: OSError) -> PreflightError:
    return PreflightError(
        f"The mini data cannot be written to {folder}: {why_unwritable(error)}. Free space, or set "
        f"{_VARIABLE} to the full path of another folder, then run the same command again."
    )


def _make(cache: Path, folder: Path) -> None:
    """Generate beside, check, and rename; the lock is held."""
    for left_behind in cache.glob(f".mini-{MINI_VERSION}.*/"):
        shutil.rmtree(left_behind, ignore_errors=True)
    staging = Path(tempfile.mkdtemp(dir=cache, prefix=f".mini-{MINI_VERSION}."))
    try:
        files = generate(staging)
        found = checksum(files)
        if found != MINI_SHA256:
            raise PreflightError(
                f"The generated mini data have the checksum {found[:12]} where version "
                f"{MINI_VERSION} has {MINI_SHA256[:12]}, so results would not compare: install the "
                "pinned dependencies with `make setup`, or give real data with --data coco=DIR."
            )
        write_json_atomically(staging / _MANIFEST, {"sha256": found, "files": files})
        staging.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        staging.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _is_whole(folder: Path) -> bool:
    """Check in some 20 ms that the folder is finished, of this version and undamaged.

    Every file's size is compared, and the annotations' checksum; images that keep their size but
    change their bytes are not found.
    """
    try:
        manifest = json.loads((folder / _MANIFEST).read_text("utf-8"))
        files: Files = {path: (size, sha) for path, (size, sha) in manifest["files"].items()}
        return (
            checksum(files) == MINI_SHA256
            and all((folder / path).stat().st_size == size for path, (size, _) in files.items())
            and all(
                sha256_file(folder / path) == sha
                for path, (_, sha) in files.items()
                if path.endswith(".json")
            )
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
