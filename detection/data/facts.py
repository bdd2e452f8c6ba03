"""What is known of a detection data set after all of it was checked, once for its content."""

import hashlib
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from backbones.base.content import BLOCK_BYTES, WHOLE_BYTES
from backbones.base.errors import PreflightError
from backbones.base.files import canonical_json, hash16, sha256_file
from backbones.base.grey import BY_IMAGE, GreyScale, grey_bits, scale_of_set
from backbones.base.json_files import JsonFormat, UnreadableFileError
from backbones.base.wording import first_of, quoted
from detection.data.annotations import AnnotationFile, read_annotations
from detection.data.contents import (
    Progress,
    SplitContents,
    exchanged_sides,
    grey_levels,
    look_at_split,
    orientations,
    refuse_unusable,
    with_frames,
)
from detection.data.dataset import SPLITS, CocoData, Split, check_objects, has_objects, read_split
from detection.data.findings import Mending
from detection.truth.copies import ShownImages, examine_copies, remark_overlap

# Part of the cache key: raise it when a check or a field of ``DataFacts`` changes.
_FACTS_VERSION = 9
# Within a cache that others use too.
_CACHE = "data"


@dataclass(frozen=True)
class DataFacts:
    """What is known of a data set after all of it was checked.

    Attributes:
        fingerprint: Hex SHA-256 of the content of both annotation files and of all images; where
            the data lies does not matter.
        train_fingerprint: The same of the training split, which decides the trained weights.
        former_fingerprint: What identified the data before content did: annotations, and names
            and sizes of images. Records and states of then bear it.
        num_train: Training images with at least one object that is no crowd.
        num_val: Validation images.
        class_names: In order of a detector's class index.
        category_ids: The file's ids in the same order.
        grey: How 16-bit and 32-bit grey images of both splits become 8 bits.
        as_stored: Images whose EXIF orientation keeps their size are not turned.
        has_masks: Both splits have a mask for each object.
        notes: What was mended while reading and what a reader of the scores has to know, one
            sentence each.
    """

    fingerprint: str
    train_fingerprint: str
    former_fingerprint: str
    num_train: int
    num_val: int
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    grey: GreyScale
    as_stored: bool
    has_masks: bool
    notes: tuple[str, ...]


_FACTS = JsonFormat(DataFacts, "file of a data set's facts")


def read_facts(data: CocoData, cache: Path, progress: Progress | None = None) -> DataFacts:
    """Check a data set in full: annotations, and that every image decodes at its stated size.

    Args:
        data: The data set.
        cache: Folder for what is known. A file is read again when its size or times change, and
            everything is checked again when the content of any file does.
        progress: Called now and then while images are read.

    Raises:
        PreflightError: An annotation file is wrong, the splits disagree, one has no object, or
            images are missing, broken or of another size.
    """
    cache = cache / _CACHE
    looks = {split: _look(data, split, cache, progress) for split in SPLITS}
    contents = " ".join(looks[split].fingerprint for split in SPLITS)
    data = replace(data, grey=_grey_of(looks), as_stored=False)
    # What the stated sizes say of orientations is known only after the annotations were read.
    path = cache / f"coco-{hash16([_FACTS_VERSION, _fingerprint(data, contents)])}.json"
    with suppress(UnreadableFileError):
        known = _FACTS.read(path)
        if known.fingerprint == _fingerprint(read_by(data, known), contents):
            return known
    found = _check(data, looks, contents)
    _FACTS.write(path, found)
    return found


def read_by(data: CocoData, facts: DataFacts) -> CocoData:
    """Return a data set whose images are read as its facts say: grey levels and orientations."""
    return replace(data, grey=facts.grey, as_stored=facts.as_stored)


def checked(data: CocoData, cache: Path) -> CocoData:
    """Return a data set that knows how its images are read, after it was checked in full.

    Args:
        data: The data set.
        cache: As in ``read_facts``.

    Raises:
        PreflightError: As in ``read_facts``.
    """
    return read_by(data, read_facts(data, cache))


def _grey_of(looks: dict[Split, SplitContents]) -> GreyScale:
    return scale_of_set([found for split in SPLITS for found in grey_levels(looks[split])])


def _fingerprint(data: CocoData, contents: str) -> str:
    """Return the identity of a data set from those of its splits' contents and its choices."""
    chosen = _choices(data)
    text = f"content-2 {contents}{f' {chosen}' if chosen else ''}"
    return hashlib.sha256(text.encode()).hexdigest()


def _choices(data: CocoData) -> str:
    """Return what decides beyond the files: choices of a person, and how images are read.

    Empty where nothing does.
    """
    part = data.files_of("val").part
    chosen: dict[str, Any] = {
        "part": None if part is None else [part.share, part.seed],
        "classes": list(data.classes),
        "crowds": data.crowds_are_objects,
    }
    if data.grey != BY_IMAGE:
        chosen["grey"] = [data.grey.lowest, data.grey.bits]
    if data.as_stored:
        chosen["as_stored"] = True
    return canonical_json(chosen) if any(chosen.values()) else ""


def _look(data: CocoData, split: Split, cache: Path, progress: Progress | None) -> SplitContents:
    files = data.files_of(split)
    found = look_at_split(files.annotations, files.images, cache, split, progress)
    if found is not None:
        return found
    # What cannot list its images is refused in words of its own.
    read_annotations(files.annotations)
    raise PreflightError(f"The annotation file {files.annotations} cannot be read.")


def _check(data: CocoData, looks: dict[Split, SplitContents], contents: str) -> DataFacts:
    train, val = (_read(data, split, looks[split]) for split in SPLITS)
    if (train.category_ids, train.class_names) != (val.category_ids, val.class_names):
        raise PreflightError(
            f"The training and validation annotations of {data.root} list different categories; "
            "both must have the same ids and names."
        )
    for split, read in zip(SPLITS, (train, val), strict=True):
        check_objects(read.images, read.path, split)
        refuse_unusable(looks[split], read.images, data.image_folder(split), split)
    turned = orientations([(looks["train"], train.images), (looks["val"], val.images)])
    data = replace(data, as_stored=turned.as_stored)
    notes = [note for file in (train, val) for note in file.notes]
    notes += _copies(data, looks, (train, val))
    notes += [*_remarks(data, looks, (train, val)), *filter(None, [turned.note()])]
    return DataFacts(
        fingerprint=_fingerprint(data, contents),
        train_fingerprint=_with_choices(data, looks["train"].fingerprint),
        former_fingerprint=_former_fingerprint(looks, (train, val)),
        num_train=sum(map(has_objects, train.images)),
        num_val=len(val.images),
        class_names=train.class_names,
        category_ids=train.category_ids,
        grey=data.grey,
        as_stored=data.as_stored,
        has_masks=train.has_masks and val.has_masks,
        notes=tuple(dict.fromkeys(notes)),
    )


def _read(data: CocoData, split: Split, looks: SplitContents) -> AnnotationFile:
    """Return a split's annotations; boxes and masks that fail may do so by the images' sides."""
    try:
        return read_split(data, split)
    except PreflightError as error:
        exchanged = exchanged_sides(looks, data.annotation_file(split), split)
        if exchanged:
            raise PreflightError(exchanged) from error
        raise


def _former_fingerprint(
    looks: dict[Split, SplitContents], read: tuple[AnnotationFile, AnnotationFile]
) -> str:
    """Return the identity that records of before content bear, from names and sizes."""
    digest = hashlib.sha256()
    for split, file in zip(SPLITS, read, strict=True):
        sizes = dict(zip(looks[split].names, looks[split].images, strict=True))
        digest.update(sha256_file(file.path).encode())
        for image in file.images:
            name = image["file_name"]
            digest.update(f"{name}\0{sizes[name].size}\0".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _with_choices(data: CocoData, fingerprint: str) -> str:
    chosen = _choices(data)
    if not chosen:
        return fingerprint
    return hashlib.sha256(f"{fingerprint} {chosen}".encode()).hexdigest()


def _copies(
    data: CocoData, looks: dict[Split, SplitContents], read: tuple[AnnotationFile, AnnotationFile]
) -> list[str]:
    """Return sentences on images that are copies of others, in one split or in both."""
    splits: list[ShownImages] = []
    notes: list[str] = []
    for split, file in zip(SPLITS, read, strict=True):
        known = dict(zip(looks[split].names, looks[split].images, strict=True))
        digests = [known[image["file_name"]].digest for image in file.images]
        splits.append(ShownImages(data.image_folder(split), file.images, digests))
        mending = Mending(file.path)
        examine_copies(splits[-1], mending)
        notes += mending.notes()
    return [*notes, *remark_overlap(*splits)]


def _remarks(
    data: CocoData, looks: dict[Split, SplitContents], read: tuple[AnnotationFile, AnnotationFile]
) -> list[str]:
    """Return sentences on the two splits together."""
    found = []
    part = data.files_of("val").part
    if part is not None:
        found.append(
            f"There are no validation annotations, so {len(read[1].images)} of "
            f"{len(looks['val'].names)} images are validation images: a share of {part.share:g}, "
            f"chosen by their file names and seed {part.seed}."
        )
    if read[0].has_masks != read[1].has_masks:
        split = SPLITS[int(read[0].has_masks)]
        found.append(
            f"Only one split has masks, {split} has none, so only boxes are trained and scored."
        )
    lacking = [f"{f.path.name}: {f.without_masks}" for f in read if f.without_masks]
    if lacking and not any(f.has_masks for f in read):
        found.append(
            "No object has a mask, so only boxes are trained and scored (`segmentation` in "
            f"{'; '.join(dict.fromkeys(lacking))})."
        )
    found += _remark_unlearnt(read)
    for split in SPLITS:
        stacks = with_frames(looks[split])
        if stacks:
            found.append(
                f"{len(stacks)} {split} images hold several frames (first: {stacks[0]}), of which "
                "only the first is used."
            )
    if data.grey != BY_IMAGE:
        found.append(_remark_grey(data.grey, looks))
    sampled = [split for split in SPLITS if looks[split].sampled]
    if sampled:
        found.append(
            f"The images of {' and '.join(sampled)} are identified by their sizes and three blocks "
            f"of {BLOCK_BYTES // 1024} KiB each, since all bytes together exceed "
            f"{WHOLE_BYTES // 2**30} GiB."
        )
    return found


def _remark_unlearnt(read: tuple[AnnotationFile, AnnotationFile]) -> list[str]:
    """Say which classes have objects in validation only."""
    objects = [
        Counter(a["category_id"] for i in file.images for a in i["annotations"] if not a["iscrowd"])
        for file in read
    ]
    lacking = [label for label in sorted(objects[1]) if label not in objects[0]]
    if not lacking:
        return []
    names = first_of([quoted(read[0].class_names[label]) for label in lacking])
    return [
        f"{len(lacking)} of {len(read[0].class_names)} classes have validation objects and no "
        f"training object ({names}), so they cannot be found and lower the scores."
    ]


def _remark_grey(grey: GreyScale, looks: dict[Split, SplitContents]) -> str:
    """Say how deep grey images are scaled where they do not agree."""
    found = [levels for split in SPLITS for levels in grey_levels(looks[split])]
    if grey.lowest is not None:
        return (
            f"{sum(low < 0 for low, _ in found)} of {len(found)} grey images of 16 or 32 bits have "
            f"negative values, so {grey.lowest} is black in all of them and {grey.bits} bits are "
            "scaled to 8."
        )
    fewer = sum(grey_bits(high) < grey.bits for _, high in found)
    return (
        f"{fewer} of {len(found)} grey images of 16 or 32 bits use fewer bits than the rest and "
        f"are scaled by the same {grey.bits} bits, so that dark images stay darker than others."
    )
