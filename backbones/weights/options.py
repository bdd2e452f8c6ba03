"""The options behind the path in ``ckpt:PATH?arch=…&format=…``. Imports no torch."""

import math
import re
from dataclasses import dataclass, fields
from pathlib import Path
from urllib.parse import parse_qsl, unquote

from backbones.base.errors import UserError
from backbones.base.files import path_of
from backbones.base.registry import lookup
from backbones.weights.layout import Rgb


@dataclass(frozen=True)
class Options:
    """What a user says about weights.

    Attributes:
        arch: Name of the backbone.
        format: Name of the key layout; empty finds out.
        branch: "ema", "raw", "teacher" or "student".
        key: Dictionaries around the weights, joined by dots.
        prefix: What stands before the network's names in there.
        mean: Per-channel mean of the images, RGB on the scale 0 to 1.
        std: Per-channel standard deviation.
        name: What tables call the row.
        method: What made the weights.
        data: What they were made from.
        epochs: Passes over that data.
    """

    arch: str = ""
    format: str = ""
    branch: str = ""
    key: str = ""
    prefix: str = ""
    mean: Rgb | None = None
    std: Rgb | None = None
    name: str = ""
    method: str = ""
    data: str = ""
    epochs: float | None = None


_KNOWN: dict[str, None] = dict.fromkeys(item.name for item in fields(Options))
_AUTO = "auto"


def split_source(rest: str) -> tuple[Path, str]:
    """Return the path in ``PATH?OPTIONS`` and the options.

    A question mark in the path itself is written ``%3F``, or stands as it is where the options
    behind the last one are absent or valid and such a file exists.
    """
    whole = path_of(rest)
    if "?" in rest and whole.exists():
        return whole, ""
    name, _, query = rest.rpartition("?") if "?" in rest else (rest, "", "")
    path = path_of(name)
    if not path.exists() and "%" in name:
        path = path_of(unquote(name))
    return path, query


def parse_options(source: str, query: str) -> Options:
    """Return the options of a source.

    Raises:
        UserError: One is unknown, has no value or another form.
    """
    try:
        pairs = parse_qsl(query, strict_parsing=True, keep_blank_values=True) if query else []
    except ValueError as error:
        raise UserError(f"{source}: write options as ?arch=NAME&format=FORMAT.") from error
    values: dict[str, object] = {}
    for key, value in pairs:
        lookup("checkpoint option", key, _KNOWN)
        if not value:
            raise UserError(f"{source}: {key}= has no value.")
        if key in values:
            raise UserError(f"{source}: {key}= stands twice.")
        values[key] = _value(source, key, value)
    if values.get("format") == _AUTO:
        del values["format"]
    return Options(**values)  # type: ignore[arg-type]  # _value gives each its type


def _value(source: str, key: str, text: str) -> object:
    if key in ("mean", "std"):
        return _three(source, key, text)
    if key == "epochs":
        if not re.fullmatch(r"\d+(\.\d+)?", text):
            raise UserError(f"{source}: epochs={text} is not a number of epochs, as 800.")
        return float(text)
    return text


def _three(source: str, key: str, text: str) -> Rgb:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    numbers = numbers * 3 if len(numbers) == 1 else numbers
    good = len(numbers) == 3 and all(math.isfinite(x) and 0 <= x <= 1 for x in numbers)
    if not good or (key == "std" and min(numbers) <= 0):
        raise UserError(
            f"{source}: {key}={text} must be one number or three, from 0 to 1 and for RGB, as "
            f"{key}=0.5 or {key}=0.485,0.456,0.406."
        )
    return (numbers[0], numbers[1], numbers[2])
