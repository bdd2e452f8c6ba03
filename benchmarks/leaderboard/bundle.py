"""Records in one file, for others to merge.

A bundle is a zip archive of ``records/RUN_ID.json``, each a record as it lies in a folder of runs,
``resamples/RUN_ID.npz``, what its intervals are made of, where it kept that, and ``bundle.json``,
which lists them with size and checksum. What comes from elsewhere is read with
suspicion: only these names, only plain files, each once, each within bounds while it is unpacked,
and nothing is written before everything was looked at.
"""

import hashlib
import io
import json
import re
import stat
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from backbones.base.errors import PreflightError
from backbones.base.files import atomic_file, canonical_json, write_all_atomically
from benchmarks.by_image.resamples import RESAMPLES_FILE, parse_resamples
from benchmarks.leaderboard.anonymous import anonymous_record
from benchmarks.store.folders import RunFolder, Store
from benchmarks.store.record import FullRecord, RunFile, RunRecord
from benchmarks.store.record_file import (
    BadRecordError,
    OtherSchemaError,
    read_canonical,
    to_content,
    to_text,
)

SCHEMA = "backbench.bundle/1"
_LIST = "bundle.json"
_NAMES = re.compile(r"records/[0-9a-f]{16}\.json|resamples/[0-9a-f]{16}\.npz")
RESAMPLES = PurePosixPath("work", RESAMPLES_FILE)
# Our tasks' largest records have some 200 kB, as have their resamples; ten times that is somebody's
# mistake.
_MOST_BYTES, _MOST_MEMBERS = 2 * 2**20, 200_000
_MOST_BYTES_IN_ALL = 2 * 2**30
_MOST_BYTES_OF_LIST = 32 * 2**20
# So that the same records make the same file.
_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Packed:
    """A record in a bundle.

    Attributes:
        record: The record.
        text: The bytes of its file.
        resamples: Content of its file of resamples; None where it kept none.
        fault: Why its resamples are left out although the record names them; may be empty.
    """

    record: FullRecord
    text: bytes
    resamples: bytes | None = None
    fault: str = ""


@dataclass(frozen=True)
class Bundle:
    """A bundle of which every member was found valid.

    Iterating reads and checks the members again, one at a time, so that thousands of records do
    not have to fit into memory.

    Attributes:
        path: The file.
    """

    path: Path

    def __iter__(self) -> Iterator[Packed]:
        """Yield the records in the order of their ids.

        Raises:
            PreflightError: The file is not a bundle, or anything in it is not what it should be.
        """
        try:
            with zipfile.ZipFile(self.path) as archive:
                yield from _packed(archive)
        except BadRecordError as error:
            raise PreflightError(f"{self.path} is refused: {error}.") from error
        except (OSError, zipfile.BadZipFile, zipfile.LargeZipFile) as error:
            raise PreflightError(f"{self.path} cannot be read as a bundle: {error}.") from error
        except (RuntimeError, NotImplementedError, EOFError, ValueError, zlib.error) as error:
            # What zipfile and zlib say to encrypted and malformed members.
            raise PreflightError(
                f"{self.path} is refused: a member is malformed ({error})."
            ) from error


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


def pack(folder: RunFolder, anonymous: bool = False) -> Packed | None:
    """Return the record of a run with its resamples, None where there is no record.

    Args:
        folder: The run's folder.
        anonymous: Take the names of hosts, users and folders out.

    Raises:
        BadRecordError: The record is damaged.
    """
    found = folder.read_canonical_record()
    if found is None:
        return None
    record, text = found
    if anonymous:
        record = anonymous_record(record)
        text = to_text(record)
    facts = _facts_of_resamples(record)
    if facts is None:
        return Packed(record, text)
    try:
        content = (folder.path / RESAMPLES).read_bytes()
        _check_resamples(content, facts)
    except FileNotFoundError:
        return Packed(record, text)
    except (OSError, ValueError) as error:
        return Packed(record, text, fault=str(error))
    return Packed(record, text, content)


def write_bundle(path: Path, packed: Iterable[Packed]) -> None:
    """Write records into a bundle.

    Args:
        path: The file.
        packed: The records, in the order of their ids; each is forgotten once it is written.

    Raises:
        PreflightError: It cannot be written.
    """
    facts: dict[str, dict[str, Any]] = {}
    with atomic_file(path) as file, zipfile.ZipFile(file, "w") as archive:

        def add(name: str, content: bytes) -> None:
            # The fastest level: three times as fast as the usual one, for a tenth more bytes.
            archive.writestr(zipfile.ZipInfo(name, _DATE), content, zipfile.ZIP_DEFLATED, 1)
            facts[name] = {"bytes": len(content), "sha256": _sha256(content)}

        for one in packed:
            add(_record_name(one.record), one.text)
            if one.resamples is not None:
                add(_resamples_name(one.record), one.resamples)
        add(_LIST, canonical_json({"schema": SCHEMA, "members": dict(facts)}).encode())


def read_bundle(path: Path) -> Bundle:
    """Return a bundle, every member of which was read and is valid.

    Args:
        path: The file.

    Raises:
        PreflightError: It is not a bundle, or anything in it is not what it should be; nothing of
            it is to be trusted then.
    """
    bundle = Bundle(path)
    for _ in bundle:
        pass
    return bundle


def merge(packed: Iterable[Packed], store: Store) -> Merged:
    """Take records into a folder of runs; whatever is there already stays.

    Args:
        packed: Of a bundle.
        store: The folder.

    Raises:
        PreflightError: A record there is damaged or of another schema, or the folder cannot be
            written.
    """
    outcome: dict[str, list[str]] = {"added": [], "same": [], "conflicts": []}
    write_all_atomically(_new_files(packed, store, outcome))
    return Merged(**{name: tuple(run_ids) for name, run_ids in outcome.items()})


def _new_files(
    packed: Iterable[Packed], store: Store, outcome: dict[str, list[str]]
) -> Iterator[tuple[Path, bytes]]:
    """Yield the files that a folder of runs lacks; note by run what becomes of it."""
    for one in packed:
        folder = store.folder(one.record.run_id)
        ours = _ours(folder)
        if ours is not None and not _is_same(ours, one.record):
            outcome["conflicts"].append(one.record.run_id)
            continue
        outcome["added" if ours is None else "same"].append(one.record.run_id)
        if one.resamples is not None and not (folder.path / RESAMPLES).exists():
            yield folder.path / RESAMPLES, one.resamples
        if ours is None:
            yield folder.record, one.text


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


def _record_name(record: RunRecord) -> str:
    return f"records/{record.run_id}.json"


def _resamples_name(record: RunRecord) -> str:
    return _resamples_of(_record_name(record))


def _resamples_of(record_name: str) -> str:
    kind, _, name = record_name.partition("/")
    return f"resamples/{name.removesuffix('.json')}.npz" if kind == "records" else ""


def _facts_of_resamples(record: RunRecord) -> RunFile | None:
    found = (facts for facts in record.files if facts.path == str(RESAMPLES))
    return next(found, None)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _packed(archive: zipfile.ZipFile) -> Iterator[Packed]:
    """Yield the records of an archive, each once it is what the list says."""
    members = _plain_members(archive)
    listed = _checked_list(archive, members)
    total = 0

    def take(name: str) -> bytes:
        nonlocal total
        content = _unpacked(archive, members[name], _MOST_BYTES)
        total += len(content)
        if total > _MOST_BYTES_IN_ALL:
            raise BadRecordError(f"it unpacks to more than {_MOST_BYTES_IN_ALL:,} bytes")
        if _sha256(content) != listed[name]:
            raise BadRecordError(f"{name} is not what {_LIST} lists")
        return content

    for name in sorted(name for name in listed if name.startswith("records/")):
        record, text = _record(name, take(name))
        resamples = _resamples_of(name)
        if resamples in members:
            yield Packed(record, text, _named(resamples, take(resamples), record))
        else:
            yield Packed(record, text)


def _checked_list(
    archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo]
) -> dict[str, str]:
    """Return the checksums by member, once they are those of the members that are there."""
    if _LIST not in members:
        raise BadRecordError(f"it has no {_LIST}, so it is no bundle")
    listed = _listed(_unpacked(archive, members[_LIST], _MOST_BYTES_OF_LIST))
    odd = sorted({*listed, _LIST} ^ set(members))
    if odd:
        raise BadRecordError(f"{_LIST} and the archive do not agree about {odd[0]!r}")
    lonely = {name for name in listed if name.startswith("resamples/")}
    lonely -= set(map(_resamples_of, listed))
    if lonely:
        raise BadRecordError(f"{len(lonely)} files of resamples have no record")
    return listed


def _named(name: str, content: bytes, record: FullRecord) -> bytes:
    """Return resamples that are those of a record, and valid."""
    facts = _facts_of_resamples(record)
    if facts is None:
        raise BadRecordError(f"{name} is not the file that its record names")
    try:
        _check_resamples(content, facts)
    except ValueError as error:
        raise BadRecordError(f"{name}: {error}") from error
    return content


def _check_resamples(content: bytes, facts: RunFile) -> None:
    """Refuse what a reader would choke on, or what is not the file that a record names.

    Raises:
        ValueError: Says why.
    """
    if _sha256(content) != facts.sha256:
        raise ValueError("it is not the file that the record names")
    if len(content) > _MOST_BYTES or _unpacked_bytes(content) > _MOST_BYTES:
        raise ValueError(f"it unpacks to more than {_MOST_BYTES:,} bytes")
    parse_resamples(content)


def _unpacked_bytes(npz: bytes) -> int:
    """Return what the arrays of an ``.npz`` claim to come to.

    Raises:
        ValueError: It is not an archive.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(npz)) as archive:
            return sum(info.file_size for info in archive.infolist())
    except zipfile.BadZipFile as error:
        raise ValueError(str(error)) from error


def _plain_members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return the members by name, once every name, kind and number is one that we write."""
    members: dict[str, zipfile.ZipInfo] = {}
    infos = archive.infolist()
    if len(infos) > _MOST_MEMBERS:
        raise BadRecordError(f"it has {len(infos):,} members, more than {_MOST_MEMBERS:,}")
    for info in infos:
        name = info.filename
        if name != _LIST and not _NAMES.fullmatch(name):
            raise BadRecordError(f"member {name!r} is neither {_LIST} nor a record's")
        if name in members:
            raise BadRecordError(f"member {name!r} is there twice")
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise BadRecordError(f"member {name!r} is no plain file")
        members[name] = info
    return members


def _unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo, most: int) -> bytes:
    # What an archive says of its sizes is a claim; the bytes that come out are counted.
    with archive.open(info) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise BadRecordError(f"member {info.filename!r} unpacks to more than {most:,} bytes")
    return content


def _listed(text: bytes) -> dict[str, str]:
    """Return the checksums by member that a list gives."""
    content = json.loads(text)
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        schema = content.get("schema") if isinstance(content, dict) else None
        raise BadRecordError(
            f"its {_LIST} has the schema {schema!r}, this program reads {SCHEMA!r}"
        )
    try:
        return {str(name): str(facts["sha256"]) for name, facts in content["members"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise BadRecordError(f"its {_LIST} is not a list of records") from error


def _record(name: str, text: bytes) -> tuple[FullRecord, bytes]:
    try:
        record, text = read_canonical(text)
    except BadRecordError as error:
        raise BadRecordError(f"{name}: {error}") from error
    if name != _record_name(record):
        raise BadRecordError(f"{name} holds the record of run {record.run_id}")
    return record, text
