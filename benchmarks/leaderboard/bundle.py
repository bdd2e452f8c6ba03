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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from backbones.base.errors import PreflightError
from backbones.base.files import atomic_file, canonical_json, write_atomically
from benchmarks.by_image.resamples import RESAMPLES_FILE
from benchmarks.leaderboard.anonymous import anonymous_record
from benchmarks.store.folders import Store
from benchmarks.store.record import FullRecord, RunFile, RunRecord
from benchmarks.store.record_file import (
    BadRecordError,
    OtherSchemaError,
    read_full_text,
    to_content,
    to_text,
)

SCHEMA = "backbench.bundle/1"
_LIST = "bundle.json"
_NAMES = re.compile(r"records/[0-9a-f]{16}\.json|resamples/[0-9a-f]{16}\.npz")
_RESAMPLES = PurePosixPath("work", RESAMPLES_FILE)
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
        resamples: Content of its file of resamples; None where it kept none.
    """

    record: FullRecord
    resamples: bytes | None = None


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


def pack(record: FullRecord, store: Store) -> Packed:
    """Return a record with its resamples, if they are there and what the record says.

    Args:
        record: The record.
        store: Its folder of runs.
    """
    facts = _facts_of_resamples(record)
    path = store.folder(record.run_id).path / _RESAMPLES
    if facts is None or not path.is_file() or path.stat().st_size > _MOST_BYTES:
        return Packed(record)
    content = path.read_bytes()
    return Packed(record, content if _sha256(content) == facts.sha256 else None)


def write_bundle(path: Path, packed: Sequence[Packed]) -> None:
    """Write records into a bundle.

    Args:
        path: The file.
        packed: The records.

    Raises:
        PreflightError: It cannot be written.
    """
    members: dict[str, bytes] = {}
    for one in sorted(packed, key=lambda one: one.record.run_id):
        members[_record_name(one.record)] = to_text(one.record)
        if one.resamples is not None:
            members[_resamples_name(one.record)] = one.resamples
    facts = {name: {"bytes": len(c), "sha256": _sha256(c)} for name, c in members.items()}
    listing = canonical_json({"schema": SCHEMA, "members": facts}).encode()
    with atomic_file(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {_LIST: listing, **members}.items():
            archive.writestr(zipfile.ZipInfo(name, _DATE), content, zipfile.ZIP_DEFLATED)


def read_bundle(path: Path) -> list[Packed]:
    """Return the records of a bundle, every one of them valid.

    Args:
        path: The file.

    Raises:
        PreflightError: It is no bundle, or anything in it is not what it should be; nothing of it
            is to be trusted then.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _packed(_contents(archive))
    except BadRecordError as error:
        raise PreflightError(f"{path} is refused: {error}.") from error
    except (OSError, zipfile.BadZipFile, zipfile.LargeZipFile) as error:
        raise PreflightError(f"{path} cannot be read as a bundle: {error}.") from error
    except (RuntimeError, NotImplementedError, EOFError, ValueError, zlib.error) as error:
        # What zipfile and zlib say to encrypted and malformed members.
        raise PreflightError(f"{path} is refused: a member is malformed ({error}).") from error


def merge(packed: Sequence[Packed], store: Store) -> Merged:
    """Take records into a folder of runs; whatever is there already stays.

    Args:
        packed: From ``read_bundle``.
        store: The folder.

    Raises:
        PreflightError: A record there is damaged or of another schema, or the folder cannot be
            written.
    """
    added: list[str] = []
    same: list[str] = []
    conflicts: list[str] = []
    for one in packed:
        folder = store.folder(one.record.run_id)
        try:
            ours = folder.read_full_record()
        except OtherSchemaError as error:
            raise PreflightError(
                f"{folder.record} is of another version of this program ({error}); merge into "
                "another folder."
            ) from error
        except BadRecordError as error:
            raise PreflightError(
                f"{folder.record} is damaged ({error}); remove it or run it again first."
            ) from error
        if ours is not None and _content(ours) != _content(one.record):
            conflicts.append(one.record.run_id)
            continue
        (added if ours is None else same).append(one.record.run_id)
        if one.resamples is not None and not (folder.path / _RESAMPLES).exists():
            write_atomically(folder.path / _RESAMPLES, one.resamples)
        if ours is None:
            folder.write_record(one.record)
    return Merged(tuple(added), tuple(same), tuple(conflicts))


def _content(record: FullRecord) -> Mapping[str, Any]:
    """Return what two copies of one record share, whether their names were taken out or not."""
    return to_content(anonymous_record(record))


def _record_name(record: RunRecord) -> str:
    return f"records/{record.run_id}.json"


def _resamples_name(record: RunRecord) -> str:
    return f"resamples/{record.run_id}.npz"


def _facts_of_resamples(record: RunRecord) -> RunFile | None:
    found = (facts for facts in record.files if facts.path == str(_RESAMPLES))
    return next(found, None)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _contents(archive: zipfile.ZipFile) -> dict[str, bytes]:
    """Return what the members hold, by name, once it is what the list says."""
    members = _plain_members(archive)
    if _LIST not in members:
        raise BadRecordError(f"it has no {_LIST}, so it is no bundle")
    listed = _listed(_unpacked(archive, members.pop(_LIST), _MOST_BYTES_OF_LIST))
    if set(listed) != set(members):
        odd = sorted(set(listed) ^ set(members))[0]
        raise BadRecordError(f"{_LIST} and the archive do not agree about {odd!r}")
    contents: dict[str, bytes] = {}
    total = 0
    for name, info in members.items():
        content = _unpacked(archive, info, _MOST_BYTES)
        total += len(content)
        if total > _MOST_BYTES_IN_ALL:
            raise BadRecordError(f"it unpacks to more than {_MOST_BYTES_IN_ALL:,} bytes")
        if _sha256(content) != listed[name]:
            raise BadRecordError(f"{name} is not what {_LIST} lists")
        contents[name] = content
    return contents


def _packed(contents: Mapping[str, bytes]) -> list[Packed]:
    texts = {name: text for name, text in contents.items() if name.startswith("records/")}
    packed = []
    for name, text in texts.items():
        record = _record(name, text)
        resamples = contents.get(_resamples_name(record))
        facts = _facts_of_resamples(record)
        if resamples is not None and (facts is None or facts.sha256 != _sha256(resamples)):
            raise BadRecordError(f"{_resamples_name(record)} is not the file that {name} names")
        if resamples is not None and _unpacked_bytes(resamples) > _MOST_BYTES:
            raise BadRecordError(f"{_resamples_name(record)} unpacks to more than it may")
        packed.append(Packed(record, resamples))
    alone = len(contents) - len(texts) - sum(one.resamples is not None for one in packed)
    if alone:
        raise BadRecordError(f"{alone} files of resamples have no record")
    return packed


def _unpacked_bytes(npz: bytes) -> int:
    """Return what the arrays of an ``.npz`` claim to come to; no reader gets more out of them."""
    with zipfile.ZipFile(io.BytesIO(npz)) as archive:
        return sum(info.file_size for info in archive.infolist())


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


def _record(name: str, text: bytes) -> FullRecord:
    try:
        record = read_full_text(text)
    except BadRecordError as error:
        raise BadRecordError(f"{name}: {error}") from error
    if name != _record_name(record):
        raise BadRecordError(f"{name} holds the record of run {record.run_id}")
    return record
