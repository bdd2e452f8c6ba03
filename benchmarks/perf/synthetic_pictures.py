"""Runs that kept what real ones keep: detections with masks, resamples, and pictures.

Photographs are those inside scikit-image; objects and detections those of ``evaluation_speed``.
"""

import io
import shutil
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace
from PIL import Image
from skimage import data

from backbones.base.files import sha256_file
from benchmarks.by_image.resamples import NUM_RESAMPLES, RESAMPLES_FILE, Resamples, write_resamples
from benchmarks.data.roots import DataRoot
from benchmarks.perf.evaluation_speed import HEIGHT, WIDTH, make_data
from benchmarks.perf.synthetic_records import records
from benchmarks.store.folders import Store
from benchmarks.store.record import FullRecord, RunFile
from benchmarks.store.record_file import to_text
from benchmarks.store.spec import RunRequest
from benchmarks.suites import get_task

_IMAGES = 12
_PHOTOS = ("astronaut", "chelsea", "coffee", "rocket", "retina", "hubble_deep_field")
_TILE, _TILES = 56, (6, 8)
# Kinds of pictures a run draws, and runs' pictures that differ.
_KINDS, _VARIANTS = 3, 12


def fill_with_pictures(store: Store, rows: int, seeds: int, coco: Path) -> None:
    """Write COCO runs that kept detections and pictures.

    Args:
        store: Where to.
        rows: Entries.
        seeds: Of each.
        coco: Gets the data set that they were tested on.
    """
    _write_data(coco)
    where = DataRoot("coco", "coco", coco, "--data")
    fingerprint = get_task("coco").read_facts(where, store.cache).fingerprint
    kept = {"detections.npz": (coco / "detections.npz").read_bytes(), "matches.npz": b""}
    drawn = [_grid(number) for number in range(_VARIANTS)]
    for number, record in enumerate(islice(records(("coco",), seeds), rows * seeds)):
        spec = replace(record.spec, data_fingerprint=fingerprint)
        pictures = {
            f"kind-{kind}.png": drawn[(number + kind) % _VARIANTS] for kind in range(_KINDS)
        }
        _write(store, replace(record, spec=spec), where, {**kept, **pictures})


def _write(store: Store, record: FullRecord, where: DataRoot, contents: dict[str, bytes]) -> None:
    names = ("coco", record.labels.entry, record.labels.entry, "r", record.labels.protocol)
    folder = store.prepare(RunRequest(record.spec, *names, num_steps=1, num_images=1, data=where))
    folder.work.mkdir(exist_ok=True)
    for name, content in contents.items():
        # What follows the end of a file is read by nobody; every checksum is another one by it.
        (folder.work / name).write_bytes(content + record.run_id.encode())
    if record.status == "done":
        write_resamples(folder.work / RESAMPLES_FILE, _resamples(record))
    files = [
        RunFile(f"work/{path.name}", sha256_file(path), path.stat().st_size)
        for path in sorted(folder.work.iterdir())
    ]
    folder.record.write_bytes(to_text(replace(record, files=tuple(files))))


def _resamples(record: FullRecord) -> Resamples:
    rng = np.random.default_rng(int(record.run_id, 16))
    plain = {name: float(facts.value or 0.0) for name, facts in record.metrics.items()}
    noise = rng.normal(0, 0.3, (len(plain), NUM_RESAMPLES)).astype(np.float32)
    values = {name: value + row for (name, value), row in zip(plain.items(), noise, strict=True)}
    return Resamples("synthetic", _IMAGES, plain, values)


def _write_data(folder: Path) -> None:
    folder.mkdir()
    make_data(folder, _IMAGES)
    for split in ("train", "val"):
        (folder / f"{split}2017").mkdir()
        for number in range(_IMAGES):
            _photo(number, WIDTH, HEIGHT).save(folder / f"{split}2017" / f"{number}.jpg")
    annotations = folder / "annotations"
    shutil.copy(annotations / "instances_val2017.json", annotations / "instances_train2017.json")


@cache
def _pixels(name: str) -> npt.NDArray[np.uint8]:
    found: npt.NDArray[np.uint8] = getattr(data, name)()
    return found


def _photo(number: int, width: int, height: int) -> Image.Image:
    """Return another part of a photograph for each number."""
    pixels = _pixels(_PHOTOS[number % len(_PHOTOS)])
    rng = np.random.default_rng(number)
    side = int(rng.integers(200, min(pixels.shape[:2])))
    top = int(rng.integers(0, pixels.shape[0] - side + 1))
    left = int(rng.integers(0, pixels.shape[1] - side + 1))
    return Image.fromarray(pixels[top : top + side, left : left + side]).resize((width, height))


def _grid(number: int) -> bytes:
    """Return tiles of photographs, as pictures of reconstructions are made of, as PNG."""
    columns, rows = _TILES
    page = Image.new("RGB", (columns * _TILE, rows * _TILE))
    for place in range(columns * rows):
        tile = _photo(number * columns * rows + place, _TILE, _TILE)
        page.paste(tile, (place % columns * _TILE, place // columns * _TILE))
    buffer = io.BytesIO()
    page.save(buffer, "PNG")
    return buffer.getvalue()
