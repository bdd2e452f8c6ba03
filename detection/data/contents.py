"""The files of a data set looked at: what they hold, and whether every image can be used.

A file is read and decoded once and then trusted while its size and times stay
(``backbones.base.content``), so that a second look at 118,000 images takes a second or two.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from urllib.parse import unquote

import msgspec
import numpy as np

from backbones.base.content import FileContents, Look, sampled
from backbones.base.errors import PreflightError
from backbones.base.grey import levels
from backbones.base.images import is_deep_grey, num_frames, open_stored, to_rgb, turn
from backbones.base.wording import first_of
from detection.data.pixels import Orientations

# Raised when the same bytes give another ``_sight`` or ``_names``.
_VERSION = 3
# What begins the sight of an image that cannot be decoded.
_BROKEN = "!"
# What ends the sight of an image with an EXIF orientation that keeps its size.
_TURNED = ", true]"
# A file has its images' sides exchanged when the first share of the images with another size have,
# and the second share of all.
_MOSTLY = 0.8
_EXCHANGED_SHARE = 0.03
# Lists in the sight of an image without levels of grey: the outer one and two sizes.
_LISTS_OF_SIZES = 3
# Called with the name of a split, images looked at, and images to look at.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class SplitContents:
    """What the files of a split hold.

    Attributes:
        annotations: What is known of the annotation file.
        names: Of the images, as the annotation file lists them.
        images: What is known of each.
    """

    annotations: Look
    names: tuple[str, ...]
    images: tuple[Look, ...]

    @property
    def fingerprint(self) -> str:
        """Identity of the content: hex SHA-256 of the annotations and of every image's bytes."""
        digest = hashlib.sha256(f"content-2 {self.annotations.digest}".encode())
        for name, look in zip(self.names, self.images, strict=True):
            digest.update(f"{name}\0{look.digest}\0".encode("utf-8", "surrogatepass"))
        return digest.hexdigest()

    @property
    def sampled(self) -> bool:
        """Whether blocks of each image stand for it, because all bytes are too many."""
        return sampled(self.images)


class _Named(msgspec.Struct):
    file_name: str
    width: Any = None
    height: Any = None


class _Listing(msgspec.Struct):
    images: list[_Named]


def look_at_split(
    annotations: Path, images: Path, cache: Path, split: str, progress: Progress | None = None
) -> SplitContents | None:
    """Return what the files of a split hold; None where its annotations cannot list its images.

    Args:
        annotations: COCO's JSON file.
        images: Folder that its file names start from.
        cache: Folder for what is remembered.
        split: Name of the split, for ``progress``.
        progress: Called now and then where reading takes seconds.

    Raises:
        PreflightError: The cache cannot be written.
    """
    key = hashlib.sha256(
        f"{annotations.resolve()}\0{images.resolve()}".encode("utf-8", "surrogatepass")
    ).hexdigest()[:16]
    listed = FileContents(cache / f"annotations-{key}.json", _names, _VERSION)
    (own,) = listed.look(annotations.parent, [annotations.name])
    if not own.seen:
        return None
    names = tuple(json.loads(own.seen))
    contents = FileContents(cache / f"images-{key}.json", _sight, _VERSION)
    told = None if progress is None else lambda done, count: progress(split, done, count)
    unique = list(dict.fromkeys(names))
    looks = dict(zip(unique, contents.look(images, unique, told), strict=True))
    return SplitContents(own, names, tuple(looks[name] for name in names))


def refuse_unusable(
    contents: SplitContents, images: Sequence[dict[str, Any]], folder: Path, split: str
) -> None:
    """Refuse a split with an image that training or evaluation could not use.

    Args:
        contents: Of the split.
        images: Its dataset dicts, with the sizes that the annotations state and relative names.
        folder: That the names start from.
        split: "train" or "val".

    Raises:
        PreflightError: Images are missing, empty, broken or of another size; counts them and names
            the first few.
    """
    looks = dict(zip(contents.names, contents.images, strict=True))
    absent, broken, exchanged, other = [], [], [], []
    for image in images:
        look = looks[image["file_name"]]
        if look.size <= 0:
            absent.append(image["file_name"])
        elif look.seen.startswith(_BROKEN):
            broken.append(f"{image['file_name']} ({look.seen[1:]})")
        elif (sizes := _sizes(look)) and [image["width"], image["height"]] not in sizes:
            width, height = sizes[0]
            if [height, width] == [image["width"], image["height"]]:
                exchanged.append(f"{image['file_name']} has {width} x {height} pixels")
                continue
            other.append(
                f"{image['file_name']} has {width} x {height} pixels, its annotations say "
                f"{image['width']} x {image['height']}"
            )
    about = f"of {len(images)} images that the {split} annotations name"
    for faulty, what in (
        (absent, f"{about} are missing or empty in {folder}"),
        (broken, f"{about} cannot be decoded in {folder}, so replace the files"),
        (exchanged, f"{about} {_EXCHANGED} in {folder}"),
        (other, f"{about} have another size, so they belong to another data set, in {folder}"),
    ):
        if faulty:
            hint = _hint(folder, absent[0]) if faulty is absent else ""
            raise PreflightError(f"{len(faulty)} {what}: {first_of(faulty)}{hint}.")


def _hint(folder: Path, name: str) -> str:
    """Say which existing file is probably meant by a name that names none, empty for no such."""
    plain = unquote(name.replace("\\", "/"))
    path = PurePosixPath(plain)
    suffixes = [path.suffix.lower(), path.suffix.upper()]
    for base in (path, PurePosixPath(*path.parts[1:]), PurePosixPath(path.name)):
        for meant in (base, *(base.with_suffix(suffix) for suffix in suffixes if base.name)):
            if str(meant) != name and meant.name and (folder / meant).is_file():
                return f"; {meant} exists there, so correct the names"
    return ""


_EXCHANGED = (
    "have other sizes, because width and height of the images are exchanged in the annotations,"
)


def exchanged_sides(contents: SplitContents, annotations: Path, split: str) -> str:
    """Say that an annotation file has width and height of its images exchanged, empty if not.

    Args:
        contents: Of the split.
        annotations: COCO's JSON file, which may be wrong otherwise.
        split: "train" or "val".
    """
    looks = dict(zip(contents.names, contents.images, strict=True))
    images = _listing(annotations.read_bytes()).images
    other, exchanged = 0, []
    for image in images:
        sizes = _sizes(looks[image.file_name])
        if sizes and [image.width, image.height] not in sizes:
            other += 1
            if sizes[0] == [image.height, image.width]:
                exchanged.append(f"{image.file_name} has {sizes[0][0]} x {sizes[0][1]} pixels")
    if len(exchanged) <= max(_EXCHANGED_SHARE * len(images), _MOSTLY * other - 1):
        return ""
    return (
        f"{len(exchanged)} of {len(images)} images that the {split} annotations name {_EXCHANGED} "
        f"in {annotations}: {first_of(exchanged)}."
    )


def _sizes(look: Look) -> list[list[int]]:
    """Return upright and stored size of an image in pixels; none of a file that was not decoded."""
    if not look.seen or look.seen.startswith(_BROKEN):
        return []
    sizes: list[list[int]] = json.loads(look.seen)[:2]
    return sizes


def grey_levels(contents: SplitContents) -> list[tuple[int, int]]:
    """Return lowest and largest value of each image with one channel of 16 or 32 bits."""
    # Part of every look: parsing 118,000 pairs of sizes would take a large part of a second.
    third = (look.seen for look in contents.images if look.seen.count("[") > _LISTS_OF_SIZES)
    found = [json.loads(seen)[2] for seen in third if not seen.startswith(_BROKEN)]
    return [(lowest, largest) for lowest, largest in found]


def with_frames(contents: SplitContents) -> list[str]:
    """Return the names of images that hold several frames."""
    pairs = zip(contents.names, contents.images, strict=True)
    return [
        name
        for name, look in pairs
        if look.seen[:1] == "[" and any(frames > 1 for frames in json.loads(look.seen)[3:4])
    ]


def orientations(
    splits: Sequence[tuple[SplitContents, Sequence[dict[str, Any]]]],
) -> Orientations:
    """Return the images with an EXIF orientation, by what their annotations' size says of it.

    Args:
        splits: What each holds, and its dataset dicts with relative names, which
            ``refuse_unusable`` has let pass.
    """
    stored = displayed = 0
    untold = []
    for contents, images in splits:
        looks = dict(zip(contents.names, contents.images, strict=True))
        for image in images:
            look = looks[image["file_name"]]
            sizes = _sizes(look)
            if sizes and sizes[0] != sizes[1]:
                as_displayed = sizes[0] == [image["width"], image["height"]]
                displayed += as_displayed
                stored += not as_displayed
            elif look.seen.endswith(_TURNED):
                untold.append(image["file_name"])
    return Orientations(stored, displayed, tuple(untold))


def _names(content: bytes) -> str:
    """Return the file names of an annotation file as JSON, empty where it lists none properly."""
    try:
        names = [image.file_name for image in _listing(content).images]
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return ""
    return json.dumps(names) if all(map(stays_inside, names)) else ""


def _listing(content: bytes) -> _Listing:
    try:
        return msgspec.json.decode(content, type=_Listing)
    except msgspec.MsgspecError:
        # Python's reader also takes byte order marks, UTF-16 and NaN; the annotation reader then
        # says what is wrong and where.
        return msgspec.convert(json.loads(content), _Listing)


def stays_inside(name: str) -> bool:
    """Return whether a file name stays in the folder that it starts from, whatever the system."""
    path = PureWindowsPath(name)
    anchored = name.startswith("/") or path.is_absolute() or path.drive
    return bool(name) and "\0" not in name and not anchored and ".." not in path.parts


def _sight(content: bytes) -> str:
    """Return an image's sizes in pixels, upright and as stored, or why it cannot be used.

    Those of deep grey images are followed by their lowest and largest value, those of images with
    several frames by that or null and their number, and those of images with an EXIF orientation
    that keeps the size by both and true.
    """
    try:
        stored = open_stored(content)
        upright = turn(stored)
        found: list[Any] = [upright.size, stored.size]
        if is_deep_grey(stored):
            found.append(levels(np.asarray(stored).astype(np.int64)))
        elif stored.mode not in ("RGB", "L"):
            to_rgb(stored)
        frames = num_frames(stored)
    except ValueError as error:
        return f"{_BROKEN}{error}"
    turned = upright is not stored and upright.size == stored.size
    if frames > 1 or turned:
        found.extend([None] * (3 - len(found)) + [frames] + [True] * turned)
    return json.dumps(found)
