"""What a bundle brings, taken into a folder of runs."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from backbones.base.errors import PreflightError
from backbones.base.files import read_plain, write_all_atomically
from benchmarks.leaderboard.anonymous import anonymous_record
from benchmarks.leaderboard.bundles.reading import Bundle
from benchmarks.leaderboard.bundles.writing import RESAMPLES
from benchmarks.store.folders import RunFolder, Store
from benchmarks.store.record import FullRecord
from benchmarks.store.record_file import (
    BadRecordError,
    OtherSchemaError,
    read_full_text,
    to_content,
)


@dataclass(frozen=True)
class Merged:
    """What became of a bundle's records, by run id.

    Attributes:
        added: They were not there.
        same: They were there already, as they are or without names.
        conflicts: Others of the same run were there and stay.
    """

    added: tuple[str, ...]
    same: tuple[str, ...]
    conflicts: tuple[str, ...]


def merge(bundle: Bundle, store: Store) -> Merged:
    """Take records into a folder of runs; whatever is there already stays.

    Args:
        bundle: The records.
        store: The folder.

    Raises:
        PreflightError: A record there is damaged or of another schema, or the folder cannot be
            written.
    """
    outcome: dict[str, list[str]] = {"added": [], "same": [], "conflicts": []}
    write_all_atomically(_new_files(bundle, store, outcome))
    return Merged(**{name: tuple(run_ids) for name, run_ids in outcome.items()})


def _new_files(
    bundle: Bundle, store: Store, outcome: dict[str, list[str]]
) -> Iterator[tuple[Path, bytes]]:
    """Yield the files that a folder of runs lacks; note by run what becomes of it."""
    for run_id, text, resamples in bundle.files():
        folder = store.folder(run_id)
        state = _compared(folder, text)
        outcome[state].append(run_id)
        if state == "conflicts":
            continue
        if resamples is not None and not (folder.path / RESAMPLES).exists():
            yield folder.path / RESAMPLES, resamples
        if state == "added":
            yield folder.record, text


def _compared(folder: RunFolder, text: bytes) -> Literal["added", "same", "conflicts"]:
    """Return what becomes of a record, given what its folder holds."""
    try:
        if read_plain(folder.record) == text:
            return "same"  # a checked text, so nothing is parsed
    except OSError:
        pass  # absent; or the next line says what is wrong
    ours = _ours(folder)
    if ours is None:
        return "added"
    return "same" if _is_same(ours, read_full_text(text)) else "conflicts"


def _ours(folder: RunFolder) -> FullRecord | None:
    try:
        return folder.read_full_record()
    except OtherSchemaError as error:
        raise PreflightError(
            f"{folder.record} is of another version of this program ({error}); merge into "
            "another folder."
        ) from error
    except BadRecordError as error:
        raise PreflightError(
            f"{folder.record} is damaged ({error}); remove it or run it again first."
        ) from error


def _is_same(one: FullRecord, other: FullRecord) -> bool:
    """Return whether two records are copies of one, whether names were taken out or not."""
    if one == other:
        return True
    first, second = (to_content(anonymous_record(record)) for record in (one, other))
    return first == second
