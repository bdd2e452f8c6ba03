"""Where data lies: the command line, the environment, or the embedded mini data."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from backbones.base.errors import PreflightError, UserError
from backbones.base.files import path_of
from backbones.base.registry import nearest
from detection.data.layouts import is_annotated

KINDS = ("coco", "images", "imagenet")
# What may name data of a kind beside the command line.
VARIABLES = {
    "coco": "$DETECTRON2_DATASETS",
    "images": "$IMAGENET_DIR",
    "imagenet": "$IMAGENET_DIR",
}


@dataclass(frozen=True)
class DataRoot:
    """Data of one kind, found.

    Attributes:
        kind: "coco", "images" or "imagenet".
        name: Shown in tables: the folder's name, or "mini".
        path: The folder (or file) of it; None means the embedded mini data, which a run generates.
        origin: What decided: "--data", a variable's name, or "embedded".
    """

    kind: str
    name: str
    path: Path | None
    origin: str

    @property
    def mini(self) -> bool:
        """Whether this is the embedded mini data, whose numbers are for testing only."""
        return self.path is None


def parse_data(values: Sequence[str], own_names: bool = False) -> dict[str, Path]:
    """Return folders by kind from ``KIND=DIR`` texts.

    Args:
        values: The texts.
        own_names: Also take other names than kinds, for sets of the user's own, unless they look
            like a misspelt kind.

    Raises:
        UserError: A text has another form, or names an unknown or repeated kind.
    """
    given: dict[str, Path] = {}
    for value in values:
        kind, separator, folder = value.partition("=")
        if not separator or not folder:
            raise UserError(f"--data {value}: write KIND=DIR, for example --data coco=/data/coco.")
        if kind not in KINDS and (not own_names or nearest(kind, KINDS, cutoff=0.8)):
            raise UserError(f"--data {value}: unknown kind {kind!r}. Known: {', '.join(KINDS)}.")
        if kind in given:
            raise UserError(f"--data {kind}=… is given twice.")
        given[kind] = path_of(folder)
    return given


def find_coco_root(given: Mapping[str, Path]) -> DataRoot:
    """Return the COCO-format data to use.

    The order is ``--data NAME=PATH`` with a name of the user's own for a folder with annotations,
    a COCO JSON file or a ``data.toml``, then ``--data coco=PATH``, then
    ``$DETECTRON2_DATASETS/coco`` (detectron2's own convention), then the embedded mini data.

    Raises:
        UserError: There are several sets with names of their own.
        PreflightError: A folder is given, but does not exist.
    """
    own = [name for name in given if name not in KINDS and is_annotated(given[name])]
    _refuse_several(own, "annotated images")
    for name in own:
        return replace(_folder(given[name], f"--data {name}"), name=name)
    if "coco" in given:
        return _folder(given["coco"], "--data coco")
    variable = os.environ.get("DETECTRON2_DATASETS")
    if variable:
        return _folder(path_of(variable) / "coco", "$DETECTRON2_DATASETS")
    return DataRoot("coco", "mini", None, "embedded")


def find_images_root(given: Mapping[str, Path]) -> DataRoot:
    """Return the images to pretrain on.

    The order is ``--data images=PATH`` (a folder, a list, tar shards: ``pretrain.data.find``), then
    ``--data imagenet=DIR``, ``$IMAGENET_DIR``, the embedded mini data.

    Raises:
        PreflightError: A folder is given, but does not exist.
    """
    if "images" in given:
        path = given["images"].absolute()
        return DataRoot("images", path.name, path, "--data images")
    if "imagenet" in given:
        return _folder(given["imagenet"], "--data imagenet", "images")
    variable = os.environ.get("IMAGENET_DIR")
    if variable:
        return _folder(path_of(variable), "$IMAGENET_DIR", "images")
    return DataRoot("images", "mini", None, "embedded")


def find_labelled_root(given: Mapping[str, Path]) -> DataRoot:
    """Return the labelled images to classify.

    The order is ``--data NAME=DIR`` with a name of the user's own, then ``--data imagenet=DIR``,
    ``$IMAGENET_DIR``, the embedded mini data.

    Raises:
        UserError: There are several sets with names of their own.
        PreflightError: A folder is given, but does not exist.
    """
    own = [name for name in given if name not in KINDS and not is_annotated(given[name])]
    _refuse_several(own, "labelled images")
    for name in (*own, "imagenet"):
        if name in given:
            root = _folder(given[name], f"--data {name}", "imagenet")
            return replace(root, name=name) if own else root
    variable = os.environ.get("IMAGENET_DIR")
    if variable:
        return _folder(path_of(variable), "$IMAGENET_DIR", "imagenet")
    return DataRoot("imagenet", "mini", None, "embedded")


def refuse_unused(given: Mapping[str, Path], used: Iterable[DataRoot]) -> None:
    """Refuse data of the user's own that no run would use.

    Args:
        given: From ``parse_data``.
        used: By all runs.

    Raises:
        PreflightError: A set has annotations where labelled images are asked for, or neither.
    """
    names = {root.name for root in used}
    for name in given:
        if name not in KINDS and name not in names:
            raise PreflightError(
                f"--data {name}={given[name]} is used by no task that was asked for: coco measures "
                "images annotated in COCO's format (docs/detection.md), the others images in "
                "folders by class (docs/imagenet.md). Correct the path or the --suite."
            )


def _refuse_several(own: Sequence[str], what: str) -> None:
    if len(own) > 1:
        raise UserError(
            f"--data names {len(own)} sets of {what} ({', '.join(own)}); a command measures one, "
            "so run it once for each, with the same --out."
        )


def _folder(path: Path, origin: str, kind: str = "coco") -> DataRoot:
    described = kind == "coco" and path.suffix in (".toml", ".json") and path.is_file()
    if not path.is_dir() and not described:
        raise PreflightError(
            f"{origin} points at {path}, which is not a folder. Correct it, or leave it out to use "
            "the embedded mini data."
        )
    path = path.resolve()
    return DataRoot(kind, path.stem if described else path.name, path, origin)
