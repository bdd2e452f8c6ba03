"""A data set that a ``data.toml`` describes: files, folders, splits, classes."""

import hashlib
import importlib
import json
import os
import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from backbones.base.errors import PreflightError
from backbones.base.files import write_json_atomically
from backbones.base.wording import first_of
from detection.data.layouts import SPLIT_SEED, VAL_SHARE, SplitFiles, divided, images_of


class SplitTable(msgspec.Struct, forbid_unknown_fields=True):
    """Where a split lies.

    Attributes:
        annotations: COCO's JSON file, relative to the ``data.toml``.
        images: Folder that its file names start from; found where it is not named.
        registered: "module:name" of a set that importing the module registers with detectron2, in
            place of a file.
    """

    annotations: str = ""
    images: str = ""
    registered: str = ""


class DescriptionTable(msgspec.Struct, forbid_unknown_fields=True):
    """Content of a ``data.toml``.

    Attributes:
        train: Training images, or all images where there is no ``val``.
        val: Validation images.
        val_share: Share of the images that are validation images, without ``val``; None for 0.2.
        split_seed: Decides which, together with their file names; None for 0.
        classes: Classes to keep, each once, in the order of a detector's index; all without it.
        crowds: "crowds" leaves objects with ``iscrowd`` 1 out, as COCO does; "objects" trains and
            counts them like all others.
    """

    train: SplitTable
    val: SplitTable | None = None
    val_share: float | None = None
    split_seed: int | None = None
    classes: tuple[str, ...] | None = None
    crowds: str = "crowds"


@dataclass(frozen=True)
class Described:
    """What a ``data.toml`` names.

    Attributes:
        files: Of training and validation images.
        classes: Classes to keep, in order; empty for all.
        crowds_are_objects: Objects with ``iscrowd`` 1 count like all others.
    """

    files: tuple[SplitFiles, SplitFiles]
    classes: tuple[str, ...]
    crowds_are_objects: bool


def read_description(path: Path) -> Described:
    """Return what a ``data.toml`` names.

    Raises:
        PreflightError: It is not TOML, has other keys, or names files that do not exist.
    """
    try:
        table = msgspec.convert(tomllib.loads(path.read_text("utf-8-sig")), DescriptionTable)
    except OSError as error:
        raise PreflightError(f"{path} cannot be read ({error.strerror}).") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise PreflightError(
            f"{path} is not a description of a data set: {error}. docs/detection.md shows one."
        ) from error
    if table.crowds not in ("crowds", "objects"):
        raise PreflightError(f'{path}: crowds is {table.crowds!r}; use "crowds" or "objects".')
    share = VAL_SHARE if table.val_share is None else table.val_share
    if not 0 < share < 1:
        raise PreflightError(f"{path}: val_share is {share}; use a share in (0, 1).")
    if table.val is not None and (table.val_share, table.split_seed) != (None, None):
        raise PreflightError(
            f"{path}: val names the validation images, so val_share and split_seed have no use; "
            "remove them, or remove val."
        )
    classes = _classes(path, table.classes)
    train = _files(path, table.train)
    if table.val is not None:
        files = (train, _files(path, table.val))
    else:
        files = divided(train.annotations, train.images, share, table.split_seed or SPLIT_SEED)
    return Described(files, classes, table.crowds == "objects")


def _classes(path: Path, named: tuple[str, ...] | None) -> tuple[str, ...]:
    """Return the classes to keep, each of which has to be named once; empty for all."""
    if named is None:
        return ()
    if not named:
        raise PreflightError(f"{path}: classes is empty; name one, or remove it to keep all.")
    repeated = sorted(name for name, count in Counter(named).items() if count > 1)
    if repeated:
        raise PreflightError(
            f"{path}: classes names {first_of(repeated)} more than once; name each once."
        )
    return named


def _files(path: Path, table: SplitTable) -> SplitFiles:
    if table.registered:
        return _registered(path, table.registered)
    annotations = path.parent / table.annotations
    if not table.annotations or not annotations.is_file():
        raise PreflightError(f"{path}: there is no annotation file {annotations}.")
    if not table.images:
        return SplitFiles(annotations, images_of(annotations, path.parent))
    images = path.parent / table.images
    if not images.is_dir():
        raise PreflightError(f"{path}: there is no image folder {images}.")
    return SplitFiles(annotations, images)


def _registered(path: Path, place: str) -> SplitFiles:
    """Write a set that detectron2 knows as a COCO file next to the description; return it.

    Its module is imported, which runs its code.

    Raises:
        PreflightError: The module cannot be imported, or registers no such set.
    """
    module, _, name = place.partition(":")
    try:
        importlib.import_module(module)
        catalogs = importlib.import_module("detectron2.data")
        records = catalogs.DatasetCatalog.get(name)
        names = list(catalogs.MetadataCatalog.get(name).get("thing_classes", []))
    except (ImportError, KeyError, ValueError) as error:
        raise PreflightError(
            f"{path}: {place!r} is not a data set of detectron2 ({error}); write module:name, and "
            "make the module importable."
        ) from error
    root = Path(os.path.commonpath([Path(r["file_name"]).resolve().parent for r in records]))
    content = _as_coco(records, names, root)
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
    written = path.parent / ".backbench" / f"{name}-{digest}.json"
    if not written.is_file():
        write_json_atomically(written, content)
    return SplitFiles(written, root)


def _as_coco(records: list[dict[str, Any]], names: list[str], root: Path) -> dict[str, Any]:
    """Return detectron2's dicts as a COCO instances file."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    used: set[int] = set()
    for number, record in enumerate(records, start=1):
        file = str(Path(record["file_name"]).resolve().relative_to(root))
        size = {"width": record["width"], "height": record["height"]}
        images.append({"id": number, "file_name": file, **size})
        for known in record.get("annotations", []):
            x0, y0, x1, y1 = (float(value) for value in known["bbox"])
            corners = int(known.get("bbox_mode", 0)) == 0  # BoxMode.XYXY_ABS
            box = [x0, y0, x1 - x0, y1 - y0] if corners else [x0, y0, x1, y1]
            used.add(int(known["category_id"]))
            one = {"id": len(annotations) + 1, "image_id": number, "bbox": box}
            one |= {"category_id": int(known["category_id"]), "iscrowd": known.get("iscrowd", 0)}
            kept = {key: known[key] for key in ("segmentation", "area") if key in known}
            annotations.append({**one, **kept})
    classes = names or [str(number) for number in range(max(used, default=0) + 1)]
    categories = [{"id": number, "name": name} for number, name in enumerate(classes)]
    return {"images": images, "annotations": annotations, "categories": categories}
