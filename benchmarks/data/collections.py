"""Several data sets in one command: a collection, which one row of the board is about."""

import tomllib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from backbones.base.errors import PreflightError, UserError
from backbones.base.files import hash16, path_of
from benchmarks.data.roots import KINDS, parse_data
from detection.data.layouts import is_annotated

# Longest name that is put together from the names of its sets.
_LONGEST = 40
_EXAMPLE = '[sets] with lines such as coins = "/data/coins"'


def parse_sets(values: Sequence[str]) -> tuple[dict[str, Path], str]:
    """Return folders by kind or name from what ``--data`` says, and the name of a collection.

    Args:
        values: ``KIND=DIR`` and ``NAME=DIR`` texts, and files of collections (``sets.toml``).

    Raises:
        UserError: A text or a file has another form, or a name is repeated.
        PreflightError: A file cannot be read.
    """
    files = [value for value in values if "=" not in value and value.endswith(".toml")]
    given = parse_data([value for value in values if value not in files], own_names=True)
    names = []
    for file in files:
        name, sets = _read(path_of(file))
        names.append(name)
        for twice in (own for own in sets if own in given):
            raise UserError(f"--data {file}: the set {twice} is given twice.")
        given |= sets
    own = [name for name in given if name not in KINDS]
    return given, "+".join(names) or _joined(own)


def _joined(own: Sequence[str]) -> str:
    if len(own) < 2:
        return ""
    name = "+".join(own)
    return name if len(name) <= _LONGEST else f"{len(own)} sets {hash16(sorted(own))[:6]}"


def _read(path: Path) -> tuple[str, dict[str, Path]]:
    """Return the name of a collection and its folders by name."""
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise PreflightError(f"--data {path} cannot be read ({error.strerror}).") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PreflightError(f"--data {path} is not a TOML file ({error}).") from error
    unknown = [key for key in content if key not in ("name", "sets")]
    sets, name = content.get("sets"), content.get("name", path.stem)
    if unknown or not isinstance(sets, dict) or not sets or not isinstance(name, str) or not name:
        wrong = f'"{unknown[0]}" is not known' if unknown else f"it has no {_EXAMPLE}"
        raise UserError(f"--data {path}: {wrong}; a collection has name and {_EXAMPLE}.")
    return name, {own: _folder(path, own, value) for own, value in sets.items()}


def _folder(path: Path, own: str, value: Any) -> Path:
    if own in KINDS:
        raise UserError(f"--data {path}: {own} is a kind of data; give the set another name.")
    if not isinstance(value, str) or not value:
        raise UserError(f"--data {path}: sets.{own} is {value!r}; write the path of its folder.")
    return path.parent / path_of(value)


def sets_for(
    given: Mapping[str, Path], kind: str, asked: Collection[str]
) -> list[tuple[str, dict[str, Path]]]:
    """Return the data of each run of a task: one for each of several sets, with the set's name.

    Args:
        given: Folders by kind or name.
        kind: Of data that the task reads.
        asked: Kinds that the tasks of the command read.

    Returns:
        Names of sets and folders; the name is empty where there is at most one set of the kind.
    """
    own = [name for name in given if name not in KINDS]
    # With tasks of one kind, a set that is not of this kind is a broken one.
    if len({"coco", "imagenet"} & set(asked)) > 1:
        own = [name for name in own if is_annotated(given[name]) == (kind == "coco")]
    if len(own) < 2 or kind not in ("coco", "imagenet"):
        return [("", dict(given))]
    shared = {name: path for name, path in given.items() if name in KINDS}
    return [(name, {**shared, name: given[name]}) for name in own]
