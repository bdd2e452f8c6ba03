"""Writing the whole data set, by two processes, each taking every second file."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from backbones.base.errors import PreflightError
from backbones.base.files import canonical_json
from benchmarks.data.mini import coco, imagenet
from benchmarks.data.mini.photos import PHOTOS, Split

SPLITS: tuple[Split, Split] = ("train", "val")

Files = dict[str, tuple[int, str]]
"""Path inside the data set -> its size in bytes and its SHA-256."""


def generate(folder: Path, num_processes: int = 2) -> Files:
    """Write the data set into a folder.

    The other processes are started as commands rather than forked or spawned: that works from a
    script without a main guard, from standard input, and beside threads.

    Args:
        folder: An empty folder.
        num_processes: How many processes share the work; the result does not depend on it.

    Returns:
        Every file written.

    Raises:
        PreflightError: A photograph is absent or not the one expected, or a helper failed.
    """
    helpers = [
        _start_helper(folder.resolve(), rank, num_processes) for rank in range(1, num_processes)
    ]
    try:
        write_part(folder, 0, num_processes)
        for helper in helpers:
            _, said = helper.communicate()
            if helper.returncode != 0:
                last_line = (said.strip().splitlines() or ["it said nothing"])[-1]
                raise PreflightError(
                    f"A process generating the mini data in {folder} failed with exit code "
                    f"{helper.returncode}: {last_line}. Mend this and run the same command again."
                )
    finally:
        for helper in helpers:
            helper.kill()
            helper.wait()
            if helper.stderr:
                helper.stderr.close()
    return _join_parts(folder, num_processes)


def write_part(folder: Path, rank: int, num_processes: int) -> None:
    """Write every ``num_processes``-th image, and what is known of them as ``part-RANK.json``.

    Args:
        folder: The data set's folder.
        rank: Which share, from 0.
        num_processes: Number of shares.
    """
    files: Files = {}
    records: dict[str, Any] = {}
    for split in SPLITS:
        for index in range(rank, coco.NUM_IMAGES[split], num_processes):
            path = f"coco/{coco.image_path(split, index)}"
            content, records[path] = coco.make_image(split, index)
            files[path] = _write(folder / path, content)
        for index in range(rank, imagenet.num_crops(split), num_processes):
            path = f"imagenet/{imagenet.crop_path(split, index)}"
            files[path] = _write(folder / path, imagenet.make_crop(split, index))
    _part(folder, rank).write_text(json.dumps({"files": files, "records": records}), "utf-8")


def checksum(files: Files) -> str:
    """Return one SHA-256 over the paths and contents of all files."""
    return hashlib.sha256(
        canonical_json({p: sha for p, (_, sha) in files.items()}).encode()
    ).hexdigest()


def _join_parts(folder: Path, num_processes: int) -> Files:
    files: Files = {}
    records: dict[str, Any] = {}
    for rank in range(num_processes):
        part = json.loads(_part(folder, rank).read_text("utf-8"))
        files.update({path: (size, sha) for path, (size, sha) in part["files"].items()})
        records.update(part["records"])
        _part(folder, rank).unlink()
    for split in SPLITS:
        paths = [f"coco/{coco.image_path(split, i)}" for i in range(coco.NUM_IMAGES[split])]
        content = coco.instances(split, [records[path] for path in paths])
        path = f"coco/annotations/instances_{split}2017.json"
        files[path] = _write(folder / path, canonical_json(content).encode())
    files["CREDITS.md"] = _write(folder / "CREDITS.md", _credits().encode())
    return files


def _credits() -> str:
    lines = ["# Photographs that the mini data is composed of", ""]
    lines += [
        f"* {name} ({photo.file} in {photo.package[2]}): {photo.credit}; {photo.licence}"
        for name, photo in PHOTOS.items()
    ]
    return "\n".join(lines) + "\n"


def _part(folder: Path, rank: int) -> Path:
    return folder / f"part-{rank}.json"


def _write(path: Path, content: bytes) -> tuple[int, str]:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return len(content), hashlib.sha256(content).hexdigest()


def _start_helper(folder: Path, rank: int, num_processes: int) -> subprocess.Popen[str]:
    """Start another process on its share.

    It runs in the packages' own folder, since ``-m`` looks in the current one first, and a user's
    may hold another ``benchmarks``. A session of its own keeps Ctrl-C for this process, which ends
    the helper quietly.
    """
    root = str(Path(__file__).resolve().parents[3])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.Popen(
        [sys.executable, "-m", __package__, str(folder), str(rank), str(num_processes)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        cwd=root,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
