"""Lists of the classes of images: one rule for a whole list, and a refusal where two rules fit.

A line names an image and its class, in this order or the other, with blanks, commas or a tab
between: ``val.txt`` of BVLC/caffe, ``val_annotations.txt`` of tiny-imagenet (with a box behind),
Kaggle's ``LOC_val_solution.csv``. A class is a folder of ``train``, or its number from 0
where all usual orders of the folders give it the same number.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from backbones.base.errors import PreflightError
from backbones.base.wording import first_of
from benchmarks.labelled.sets.class_orders import refuse_ambiguous_numbers

_HEADERS = ("imageid", "image", "filename", "file_name", "name")


class _Images:
    """Finds images by what a list calls them."""

    def __init__(self, names: Sequence[str]) -> None:
        """Take the names of all images, relative to their folder."""
        self._places: dict[str, set[int]] = defaultdict(set)
        for place, name in enumerate(names):
            path = PurePosixPath(name)
            parts = path.parts
            for start in range(len(parts)):
                self._places["/".join(parts[start:])].add(place)
            self._places[f"{path.stem}/"].add(place)

    def find(self, text: str) -> set[int]:
        """Return the images that a text may mean, by their path's end or by name without suffix."""
        parts = PurePosixPath(text.strip().replace("\\", "/")).parts
        for start in range(len(parts)):
            found = self._places.get("/".join(parts[start:]))
            if found:
                return found
        return self._places.get(f"{parts[-1]}/", set()) if parts else set()


def read_class_list(path: Path, names: Sequence[str], classes: Sequence[str]) -> list[int]:
    """Return the class of every image, its position in ``classes``.

    Args:
        path: The list.
        names: Of the images, relative to their folder.
        classes: Names of the classes, in string order, or by numbers that their shards state.

    Raises:
        PreflightError: A line cannot be read, an image is missing or has two classes, or classes
            can be read in two ways.
    """
    images, known = _Images(names), set(classes)
    texts: dict[int, tuple[str, int]] = {}
    for number, line in _lines(path):
        place, label = _pair(line, images, known, f"{path}, line {number}", names)
        if texts.get(place, (label, 0))[0] != label:
            raise PreflightError(
                f"{path} gives {names[place]} two classes: {texts[place][0]} in line "
                f"{texts[place][1]} and {label} in line {number}."
            )
        texts[place] = label, number
    numbers = _numbers(path, dict(texts.values()), classes)
    missing = [name for place, name in enumerate(names) if place not in texts]
    if missing:
        raise PreflightError(
            f"{path} gives no class to {len(missing)} of {len(names)} images "
            f"({first_of(missing)}); complete it."
        )
    return [numbers[texts[place][0]] for place in range(len(names))]


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise PreflightError(f"{path} is not a text file with lines NAME CLASS.") from error
    for number, line in enumerate(lines, start=1):
        words = re.split(r"[\s,]+", line.strip().lower())
        if line.strip() and words[0] not in _HEADERS:
            yield number, line.strip()


def _pair(
    line: str, images: _Images, known: set[str], place: str, names: Sequence[str]
) -> tuple[int, str]:
    """Return the image and the class that a line names.

    Raises:
        PreflightError: It names no image or class, or an image's name that several have.
    """
    several: set[int] = set()
    for name, label in _splits(line):
        found = images.find(name)
        if found and (label in known or label.isdecimal()):
            if len(found) == 1:
                return next(iter(found)), label
            several = several or found
    if several:
        shown = first_of(sorted(names[at] for at in several))
        raise PreflightError(
            f"{place}: {len(several)} images are meant ({shown}); write their folders too."
        )
    raise PreflightError(
        f"{place}: {line[:60]!r} names no image and a class of train, or its number from 0."
    )


def _splits(line: str) -> Iterator[tuple[str, str]]:
    """Yield the ways to part a line into an image's name and a class."""
    separator = next((mark for mark in "\t," if mark in line), None)
    if separator is not None:
        first, second, *_ = [cell.strip() for cell in line.split(separator)]
        # Kaggle's cell holds a class and a box for each object.
        for label in dict.fromkeys((second, second.partition(" ")[0])):
            yield first, label
        yield second, first
        return
    gaps = [match.span() for match in re.finditer(r"\s+", line)]
    for start, end in reversed(gaps):
        yield line[:start], line[end:]
    for start, end in gaps:
        yield line[end:], line[:start]


def _numbers(path: Path, labels: Mapping[str, int], classes: Sequence[str]) -> dict[str, int]:
    """Return the class of every label, by the one rule that fits all of them."""
    by_name = {name: number for number, name in enumerate(classes)}
    named = {label: by_name[label] for label in labels if label in by_name}
    counted = {x: int(x) for x in labels if x.isdecimal() and int(x) < len(classes)}
    fits = [found for found in (named, counted) if len(found) == len(labels)]
    if len(fits) == 2 and named != counted:
        label = next(label for label in labels if named[label] != counted[label])
        raise PreflightError(
            f"{path} can be read in two ways: {label} is a folder of train, and the number from 0 "
            f"of the folder {classes[counted[label]]}. Write names that are no numbers, or put the "
            "images into folders by class."
        )
    if fits and fits[0] is counted:
        if min(counted.values()) > 0:
            raise PreflightError(
                f"{path} can be read in two ways: no line has class number 0, so its numbers begin "
                f"at 0 and {classes[0]} has no image, or they begin at 1 and {classes[-1]} has "
                "none. Write the names of the classes in place of their numbers."
            )
        refuse_ambiguous_numbers(
            path,
            counted.values(),
            classes,
            "write the names of the classes in place of their numbers, or put the images into "
            "folders by class",
        )
    if fits:
        return fits[0]
    wrong = next(x for x in labels if x not in (counted if len(counted) > len(named) else named))
    raise PreflightError(
        f"{path}, line {labels[wrong]}: {wrong!r} is neither a class of train nor its number from "
        f"0 to {len(classes) - 1}, as the other lines have it."
    )
