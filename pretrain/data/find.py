"""From what a user typed to an image set: a folder, a list file, tar shards."""

import hashlib
import json
import os
import re
import reprlib
import tarfile
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path, PurePosixPath

import numpy as np
from msgspec import Struct

from backbones.base.errors import PreflightError
from backbones.base.images import SUFFIXES
from backbones.base.json_files import JsonFormat, UnreadableFileError
from backbones.base.wording import first_of
from pretrain.data.images import FileImages, ImageSet, Subset, TarImages, digests_of
from pretrain.data.listing import walk

# Names of the folders of a split.
_SPLITS = {"train": ("train", "training"), "val": ("val", "valid", "validation", "test")}
_SHARD = ".tar"
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


class _Shard(Struct, frozen=True, forbid_unknown_fields=True):
    """What is remembered of a shard.

    Attributes:
        stamp: Size, times of the last change, and the last class that is read.
        members: Its images with name, offset, size, and class or None.
    """

    stamp: list[int]
    members: list[tuple[str, int, int, int | None]]


class _ShardListing(Struct, frozen=True, forbid_unknown_fields=True):
    """What is remembered of shards, by path."""

    shards: dict[str, _Shard]


_SHARDS = JsonFormat(_ShardListing, "listing of shards", one_line=True)


def find_images(path: Path, cache: Path) -> ImageSet:
    """Return the images that ``path`` names.

    Args:
        path: A folder with images at any depth, where subfolders are classes if every image lies
            in one (with folders ``train`` and ``val``, by any name of ``split_folder``, ``train``
            is meant); a folder of tar
            shards, one shard, or a pattern ``name-{000..099}.tar`` (webdataset's convention: a
            ``.cls`` file beside an image holds its class); or a text file with a path a line, and
            behind a tab the number of its class.
        cache: Folder for listings, which take minutes on large sets.

    Raises:
        PreflightError: There is nothing there, or it cannot be read; says what was looked for.
    """
    if _RANGE.search(path.name):
        return _open_shards(path.name, _expand(path), cache)
    if path.is_dir():
        return _open_folder(path.resolve(), cache)
    if path.suffix == _SHARD and path.is_file():
        return _open_shards(path.name, [path.resolve()], cache)
    if not path.is_file():
        raise PreflightError(f"No images: there is no folder or file {path}.")
    if path.suffix.lower() in {".gz", ".tgz", ".xz", ".bz2", ".zst", ".zip"}:
        raise PreflightError(
            f"{path} is compressed, so single images cannot be read from it; unpack it to plain "
            "tar shards or to a folder."
        )
    return _open_list(path.resolve(), cache)


def split_folder(root: Path, split: str) -> Path | None:
    """Return the folder of a split, in any case and by the first of its usual names that exists.

    Args:
        root: Folder that holds it.
        split: "train" or "val".
    """
    there = {path.name.lower(): path for path in sorted(root.glob("*/"), reverse=True)}
    there |= {name: root / name for name in _SPLITS[split] if (root / name).is_dir()}
    return next((there[name] for name in _SPLITS[split] if name in there), None)


def take_fraction(images: ImageSet, fraction: float, limit: int | None, seed: int) -> ImageSet:
    """Return a share of the images, chosen by the seed, and at most ``limit`` of them."""
    count = max(1, round(len(images) * fraction))
    count = min(count, limit or count)
    if count == len(images):
        return images
    chosen = np.random.default_rng(seed).permutation(len(images))[:count]
    return Subset(images, sorted(chosen.tolist()))


def _open_folder(path: Path, cache: Path) -> ImageSet:
    train = split_folder(path, "train")
    root = path if train is None or split_folder(path, "val") is None else train
    shards = sorted(root.glob(f"*{_SHARD}"))
    if shards:
        return _open_shards(path.name, shards, cache)
    walked = walk(root)
    files = walked.files
    if not files:
        there = " ".join(walked.notes(root))
        raise PreflightError(
            f"No images in {root}: looked for {', '.join(sorted(SUFFIXES))} in it and all folders "
            f"below, and for {_SHARD} shards in it.{f' {there}' if there else ''}"
        )
    digests = digests_of(root, [name for name, _ in files], cache)
    folders = [name.partition("/")[0] if "/" in name else "" for name, _ in files]
    if "" in folders:
        images = FileImages(root, files, digests=digests)
        images.notes = walked.notes(root)
        strays = [name for name, _ in files if "/" not in name]
        if len(strays) < len(files):
            images.partly_classed = (
                f"{len(strays)} of {len(files)} images of {root.name} lie in no folder of a class "
                f"({first_of(strays)}); move them into one, or away."
            )
        return _named(images, path)
    classes = tuple(sorted(set(folders)))
    number = {name: i for i, name in enumerate(classes)}
    images = FileImages(root, files, [number[f] for f in folders], classes, digests=digests)
    images.notes = walked.notes(root)
    return _named(images, path)


def _named(images: FileImages, path: Path) -> FileImages:
    # "train" alone tells nobody which data these were.
    telling = not path.name.startswith(("train", "val", "images"))
    images.name = path.name if telling else f"{path.parent.name}/{path.name}"
    return images


def _open_list(path: Path, cache: Path) -> ImageSet:
    rows = _read_list(path)
    if not rows:
        raise PreflightError(f"No images: {path} lists none; it needs a path a line.")
    labels = [label for _, label in rows if label is not None]
    if labels and len(labels) < len(rows):
        raise PreflightError(tell_partly(str(path), rows))
    files, missing = [], []
    for name, _ in rows:
        try:
            files.append((name, (path.parent / name).stat().st_size))
        except OSError:
            missing.append(name)
    if missing:
        raise PreflightError(
            f"{path} lists {len(missing)} files that do not exist, first {missing[0]}; paths are "
            f"relative to {path.parent}."
        )
    classes = tuple(str(number) for number in range(max(labels) + 1)) if labels else ()
    digests = digests_of(path.parent, [name for name, _ in files], cache, path.name)
    images = FileImages(path.parent, files, labels or None, classes, digests=digests)
    images.name = path.stem
    return images


def _read_list(path: Path) -> list[tuple[str, int | None]]:
    rows: list[tuple[str, int | None]] = []
    try:
        # Windows' Notepad puts a mark before the first name.
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise PreflightError(f"{path} is no list of images: it is not a text file.") from error
    for number, line in enumerate(lines, start=1):
        name, tab, label = line.rstrip().partition("\t")
        if not name:
            continue
        rows.append((name, class_number(label, f"{path}, line {number}") if tab else None))
    return rows


def _open_shards(name: str, shards: list[Path], cache: Path) -> ImageSet:
    record = _record(cache, "\n".join(map(str, shards)))
    known = _known_shards(record)
    contents: dict[str, _Shard] = {}
    for shard in shards:
        # With the last class: an index made before there was one holds any number.
        stamp = [*_state(shard), LAST_CLASS]
        old = known.get(str(shard))
        contents[str(shard)] = old if old and old.stamp == stamp else _index(shard, stamp)
    if contents != known:
        _SHARDS.write(record, _ShardListing(contents))
    members = [[(n, at, size) for n, at, size, _ in c.members] for c in contents.values()]
    rows = [(f"{s}/{n}", label) for s, c in contents.items() for n, _, _, label in c.members]
    if not rows:
        raise PreflightError(
            f"No images in {len(shards)} tar shards, first {shards[0]}: looked for "
            f"{', '.join(sorted(SUFFIXES))}."
        )
    labels = [label for _, label in rows if label is not None]
    digests = digests_of("", [str(shard).lstrip("/") for shard in shards], cache, str(shards[0]))
    if len(labels) == len(rows):
        return TarImages(name, shards, members, labels, digests=digests)
    images = TarImages(name, shards, members, digests=digests)
    if labels:
        # Most methods need no classes, so these images serve them.
        images.partly_classed = tell_partly(name, rows)
    return images


def _index(shard: Path, stamp: list[int]) -> _Shard:
    """Return a shard's images, each with name, offset, size, class or None."""
    found: list[tuple[str, int, int]] = []
    labels: dict[str, int] = {}
    described: dict[str, int] = {}
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                if not member.isfile():
                    continue
                if _is_image(member.name):
                    found.append((member.name, member.offset_data, member.size))
                elif member.name.endswith((".cls", ".json")):
                    content = tar.extractfile(member)
                    assert content is not None  # it is a file
                    label = content.read().decode("utf-8-sig", "replace")
                    place = f"{shard}/{member.name}"
                    if member.name.endswith(".cls"):
                        labels[_key(member.name)] = class_number(label, place)
                    else:
                        described |= _described(label, _key(member.name), place)
    except (tarfile.TarError, OSError, ValueError) as error:
        raise PreflightError(
            f"The shard {shard} cannot be read ({error}); copy or make it again."
        ) from error
    labels = labels or described
    return _Shard(stamp, [(name, at, size, labels.get(_key(name))) for name, at, size in found])


# What tools call the class in the JSON next to an image of a shard.
_JSON_LABELS = ("label", "cls", "class", "class_id")


def _described(text: str, key: str, place: str) -> dict[str, int]:
    """Return the class that the JSON next to an image gives it; empty where it gives none."""
    try:
        content = json.loads(text)
    except ValueError:
        return {}
    known = content if isinstance(content, dict) else {}
    given = [known[name] for name in _JSON_LABELS if isinstance(known.get(name), int)]
    return {key: class_number(str(given[0]), place)} if given else {}


def _expand(path: Path) -> list[Path]:
    """Return the files of a pattern with ranges in braces.

    Raises:
        PreflightError: One of them does not exist, or a range runs backwards.
    """
    choices = []
    for text in re.split(r"(\{\d+\.\.\d+\})", path.name):
        match = _RANGE.fullmatch(text)
        if match is None:
            choices.append([text])
        else:
            first, last = match.groups()
            if int(first) > int(last):
                raise PreflightError(
                    f"{path}: the range {text} runs backwards; write {{{last}..{first}}}."
                )
            numbers = range(int(first), int(last) + 1)
            choices.append([str(n).zfill(len(first)) for n in numbers])
    shards = [(path.parent / "".join(parts)).resolve() for parts in product(*choices)]
    missing = [shard for shard in shards if not shard.is_file()]
    if missing:
        raise PreflightError(
            f"{path} names {len(shards)} shards, of which {len(missing)} do not exist, first "
            f"{missing[0]}."
        )
    return shards


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in SUFFIXES  # noqa: PTH122 - a million times


def _key(name: str) -> str:
    """Return what webdataset's members of one sample have in common."""
    path = PurePosixPath(name)
    return str(path.parent / path.name.partition(".")[0])


def _record(cache: Path, what: str) -> Path:
    return cache / "images" / f"{hashlib.sha256(os.fsencode(what)).hexdigest()[:16]}.json"


def _known_shards(path: Path) -> Mapping[str, _Shard]:
    try:
        return _SHARDS.read(path).shards
    except UnreadableFileError:
        return {}


def _state(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns]


# Far above ImageNet-21k's 21,841; a head of so many on 768 features takes 12 GB with its gradient
# and AdamW's moments. What lies beyond is an identifier, such as WordNet's.
LAST_CLASS = 999_999


def class_number(text: str, place: str) -> int:
    """Return the class that ``text`` states.

    Args:
        text: Digits; space around them does not count.
        place: Where the text stands, for messages.

    Raises:
        PreflightError: It states none, or one beyond ``LAST_CLASS``.
    """
    digits = text.strip()
    if not digits.isdecimal():
        raise PreflightError(
            f"{place}: {reprlib.repr(digits)} is not the number of a class; classes are whole "
            "numbers from 0."
        )
    significant = digits.lstrip("0") or "0"
    # The length first: Python refuses to convert thousands of digits.
    if len(significant) > len(str(LAST_CLASS)) or int(significant) > LAST_CLASS:
        raise PreflightError(
            f"{place}: class {digits:.20} is beyond {LAST_CLASS}, the last that is taken; number "
            "the classes from 0 on, or leave them out where none are needed."
        )
    return int(significant)


def tell_partly(place: str, rows: Sequence[tuple[str, int | None]]) -> str:
    """Return a sentence on images of which some have a class and some have none.

    Args:
        place: What gives the classes.
        rows: Names of the images, and their classes or None.
    """
    without = [name for name, label in rows if label is None]
    return (
        f"{place} gives {len(rows) - len(without)} of {len(rows)} images a class, not all; the "
        f"first without is {without[0]}."
    )
