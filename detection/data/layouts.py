"""From a folder or file that a person names to annotation files and image folders.

COCO 2017 and 2014, Roboflow, CVAT, Label Studio, FiftyOne and hand-made folders differ only in
names. Each annotation file says which images it needs, so the image folder is where they are.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from backbones.base.errors import PreflightError

# Share of the images that are validation images where nobody made a split, and its seed.
VAL_SHARE = 0.2
SPLIT_SEED = 0
# Words in names that say what a file is for, and words of COCO's files without boxes.
_ROLES = {
    "train": re.compile(r"(^|[^a-z])train(ing)?($|[^a-z])"),
    "val": re.compile(r"(^|[^a-z])(val|valid|validation|dev)($|[^a-z])"),
    "test": re.compile(r"(^|[^a-z])test(ing)?($|[^a-z])"),
}
_OTHER_KINDS = ("captions", "keypoints", "panoptic", "stuff", "image_info", "unlabeled")
_IMAGES_TRIED = 5
_LAYOUTS = (
    "COCO's annotations/instances_{train,val}2017.json next to train2017/ and val2017/, Roboflow's "
    "train/_annotations.coco.json and valid/, CVAT's, FiftyOne's and Label Studio's COCO exports, "
    "or one COCO JSON file with its images"
)


@dataclass(frozen=True)
class Part:
    """Which images of an annotation file belong to a split.

    Attributes:
        val: They are the validation images, else the others.
        share: Share of the validation images.
        seed: Decides with an image's file name whether it is one.
    """

    val: bool
    share: float = VAL_SHARE
    seed: int = SPLIT_SEED


@dataclass(frozen=True)
class SplitFiles:
    """Where a split lies.

    Attributes:
        annotations: COCO's JSON file.
        images: Folder that its file names start from.
        part: Which of its images are meant; None for all.
    """

    annotations: Path
    images: Path
    part: Part | None = None


class _Named(msgspec.Struct):
    file_name: str = ""


class _Sections(msgspec.Struct):
    images: list[_Named]
    annotations: msgspec.Raw
    categories: msgspec.Raw


class SeveralFilesError(PreflightError):
    """A folder holds several annotation files, and their names do not tell what each is for."""


def find_files(path: Path) -> tuple[SplitFiles, SplitFiles]:
    """Return where training and validation images lie.

    Args:
        path: A folder in any of the layouts, or one COCO JSON file.

    Raises:
        SeveralFilesError: Several files could be meant.
        PreflightError: It has none of them.
    """
    if path.is_file():
        inside = path.parent.parent if path.parent.name == "annotations" else path.parent
        return divided(path, images_of(path, inside), VAL_SHARE, SPLIT_SEED)
    roles = _by_role(path)
    train, val = roles["train"], roles["val"] or roles["test"]
    if len(train) == 1 and len(val) == 1:
        return tuple(SplitFiles(file, images_of(file, path)) for file in (train[0], val[0]))  # type: ignore[return-value]
    found = [file for files in roles.values() for file in files]
    if len(found) == 1:
        return divided(found[0], images_of(found[0], path), VAL_SHARE, SPLIT_SEED)
    if found:
        names = ", ".join(str(file.relative_to(path)) for file in found[:8])
        raise SeveralFilesError(
            f"{path} holds several annotation files ({names}) and it is not clear which are for "
            "training and for validation. Name them in a data.toml (docs/detection.md) and give "
            "--data NAME=data.toml."
        )
    raise PreflightError(_nothing(path))


def divided(
    annotations: Path, images: Path, share: float, seed: int
) -> tuple[SplitFiles, SplitFiles]:
    """Return two parts of one annotation file."""
    return (
        SplitFiles(annotations, images, Part(False, share, seed)),
        SplitFiles(annotations, images, Part(True, share, seed)),
    )


def is_annotated(path: Path) -> bool:
    """Return whether a folder or file holds annotations in COCO's format, or names such."""
    if path.suffix == ".toml" or (path.suffix == ".json" and path.is_file()):
        return True
    return path.is_dir() and any(any(files) for files in _by_role(path).values())


def _by_role(root: Path) -> dict[str, list[Path]]:
    """Return the annotation files of a folder by what their names say that they are for."""
    roles: dict[str, list[Path]] = {"train": [], "val": [], "test": [], "": []}
    for file in _candidates(root):
        words = str(file.relative_to(root).with_suffix("")).lower()
        words = re.sub(r"\d+", " ", words)
        role = next((name for name, pattern in _ROLES.items() if pattern.search(words)), "")
        roles[role].append(file)
    for name, files in roles.items():
        # A folder of COCO's own annotations holds several kinds of files for each split.
        instances = [file for file in files if file.name.startswith("instances")]
        roles[name] = instances or files
    return roles


def _candidates(root: Path) -> Iterator[Path]:
    for pattern in ("*.json", "annotations/*.json", "*/*.json", "*/annotations/*.json"):
        for file in sorted(root.glob(pattern)):
            seen = pattern == "*/*.json" and file.parent.name == "annotations"
            other = any(word in file.name for word in _OTHER_KINDS)
            if not seen and not other and not file.name.startswith(".") and _is_coco(file):
                yield file


def _is_coco(file: Path) -> bool:
    return _sections(file) is not None or file.name.startswith("instances")


def _sections(file: Path) -> _Sections | None:
    try:
        return msgspec.json.decode(file.read_bytes(), type=_Sections)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def images_of(annotations: Path, root: Path) -> Path:
    """Return the folder that the file names of an annotation file start from.

    Args:
        annotations: COCO's JSON file.
        root: The images lie in it, next to the annotations, or where layouts keep them.

    Raises:
        PreflightError: None of these folders has its first images.
    """
    sections = _sections(annotations)
    names = [image.file_name for image in sections.images[:_IMAGES_TRIED]] if sections else []
    tried = list(dict.fromkeys(_folders(annotations, root)))
    for folder in tried:
        if any(name and (folder / name).is_file() for name in names):
            return folder
    if not names:
        return annotations.parent
    looked = ", ".join(str(folder) for folder in tried if folder.is_dir())
    raise PreflightError(
        f"No images of {annotations}: {names[0]} is in none of {looked}. Name the folder in a "
        "data.toml (docs/detection.md) and give --data NAME=data.toml."
    )


def _folders(annotations: Path, root: Path) -> Iterator[Path]:
    """Yield where layouts keep the images of an annotation file, the likeliest first."""
    stem = annotations.stem.removeprefix("instances_").removeprefix("annotations_")
    bases = dict.fromkeys((annotations.parent, annotations.parent.parent, root))
    inside = [base for base in bases if base == root or root in base.parents]
    for base in inside:
        yield base / stem
        yield base / "images" / stem
        yield base / stem / "images"
    for base in inside:
        yield from (base / name for name in ("data", "images", "imgs", "JPEGImages"))
        yield base


def _nothing(path: Path) -> str:
    described = path / "data.toml"
    if described.is_file():
        return f"{path} has a description; give --data NAME={described}."
    if any(path.glob("labels/**/*.txt")) or any(path.glob("*/labels/*.txt")):
        return (
            f"{path} looks like YOLO's layout, which is not read here; convert it to COCO's "
            "format, for instance with FiftyOne or Datumaro."
        )
    if (path / "Annotations").is_dir() and any((path / "Annotations").glob("*.xml")):
        return (
            f"{path} looks like Pascal VOC's layout, which is not read here; convert it to COCO's "
            "format, for instance with FiftyOne or Datumaro."
        )
    return f"The data folder {path} has no annotations in COCO's format; looked for {_LAYOUTS}."
