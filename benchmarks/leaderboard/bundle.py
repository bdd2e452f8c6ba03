"""Records in one file, for others to merge. Imports no torch.

A bundle is a zip archive of ``records/RUN_ID.json``, each a record as it lies in a folder of runs,
and ``bundle.json``, which lists them with size and checksum. What comes from elsewhere is read with
suspicion: only these names, only plain files, each once, each within bounds while it is unpacked,
and nothing is written before everything was looked at.
"""

import hashlib
import json
import re
import stat
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from backbones.errors import PreflightError
from backbones.files import canonical_json, write_atomically
from benchmarks.leaderboard.anonymous import anonymous_record
from benchmarks.sweep.record import RunRecord, from_json, to_json
from benchmarks.sweep.record_text import BadRecordError, parse, to_text
from benchmarks.sweep.store import Store

SCHEMA = "backbench.bundle/1"
_LIST = "bundle.json"
_RECORD_NAME = re.compile(r"records/([0-9a-f]{16})\.json")
# The largest record that our tasks write has some 200 kB; ten times that is somebody's mistake.
_MOST_BYTES, _MOST_RECORDS = 2 * 2**20, 100_000
_MOST_BYTES_IN_ALL = 2 * 2**30
_MOST_BYTES_OF_LIST = 32 * 2**20
# So that the same records make the same file.
_DATE = (1980, 1, 1, 0, 0, 0)


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


def write_bundle(path: Path, records: Sequence[RunRecord]) -> None:
    """Write records into a bundle.

    Args:
        path: The file.
        records: The records.

    Raises:
        PreflightError: It cannot be written.
    """
    texts = {r.run_id: to_text(to_json(r)) for r in sorted(records, key=lambda r: r.run_id)}
    facts = {
        _member(run_id): {"bytes": len(text), "sha256": hashlib.sha256(text).hexdigest()}
        for run_id, text in texts.items()
    }
    listing = canonical_json({"schema": SCHEMA, "records": facts}).encode()

    def write(file: BinaryIO) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(zipfile.ZipInfo(_LIST, _DATE), listing, zipfile.ZIP_DEFLATED)
            for run_id, text in texts.items():
                info = zipfile.ZipInfo(_member(run_id), _DATE)
                archive.writestr(info, text, zipfile.ZIP_DEFLATED)

    write_atomically(path, write)


def read_bundle(path: Path) -> list[RunRecord]:
    """Return the records of a bundle, every one of them valid.

    Args:
        path: The file.

    Raises:
        PreflightError: It is no bundle, or anything in it is not what it should be; nothing of it
            is to be trusted then.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _records(archive)
    except BadRecordError as error:
        raise PreflightError(f"{path} is refused: {error}.") from error
    except (OSError, zipfile.BadZipFile, zipfile.LargeZipFile) as error:
        raise PreflightError(f"{path} cannot be read as a bundle: {error}.") from error
    except (RuntimeError, NotImplementedError, EOFError, ValueError, zlib.error) as error:
        # What zipfile and zlib say to encrypted and malformed members.
        raise PreflightError(f"{path} is refused: a member is malformed ({error}).") from error


def merge(records: Sequence[RunRecord], store: Store) -> Merged:
    """Take records into a folder of runs; whatever is there already stays.

    Args:
        records: From ``read_bundle``.
        store: The folder.

    Raises:
        PreflightError: A record there is damaged, or the folder cannot be written.
    """
    added, same, conflicts = [], [], []
    for record in records:
        folder = store.folder(record.run_id)
        try:
            ours = folder.read_record()
        except BadRecordError as error:
            raise PreflightError(
                f"{folder.record} is damaged ({error}); remove it or run it again first."
            ) from error
        if ours is None:
            folder.write_record(record)
            added.append(record.run_id)
        elif _content(ours) == _content(record):
            same.append(record.run_id)
        else:
            conflicts.append(record.run_id)
    return Merged(tuple(added), tuple(same), tuple(conflicts))


def _content(record: RunRecord) -> Mapping[str, Any]:
    """Return what two copies of one record share, whether their names were taken out or not."""
    return to_json(anonymous_record(record))


def _member(run_id: str) -> str:
    return f"records/{run_id}.json"


def _records(archive: zipfile.ZipFile) -> list[RunRecord]:
    members = _plain_members(archive)
    if _LIST not in members:
        raise BadRecordError(f"it has no {_LIST}, so it is no bundle")
    facts = _listed(_unpacked(archive, members.pop(_LIST), _MOST_BYTES_OF_LIST))
    if set(facts) != set(members):
        odd = sorted(set(facts) ^ set(members))[0]
        raise BadRecordError(f"{_LIST} and the archive do not agree about {odd!r}")
    total = 0
    records = []
    for name, info in members.items():
        text = _unpacked(archive, info, _MOST_BYTES)
        total += len(text)
        if total > _MOST_BYTES_IN_ALL:
            raise BadRecordError(f"its records unpack to more than {_MOST_BYTES_IN_ALL:,} bytes")
        if hashlib.sha256(text).hexdigest() != facts[name]:
            raise BadRecordError(f"{name} is not what {_LIST} lists")
        records.append(_record(name, text))
    return records


def _plain_members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return the members by name, once every name, kind and number is one that we write."""
    members: dict[str, zipfile.ZipInfo] = {}
    infos = archive.infolist()
    if len(infos) > _MOST_RECORDS + 1:
        raise BadRecordError(f"it has {len(infos):,} members, more than {_MOST_RECORDS:,}")
    for info in infos:
        name = info.filename
        if name != _LIST and not _RECORD_NAME.fullmatch(name):
            raise BadRecordError(f"member {name!r} is neither {_LIST} nor records/RUN_ID.json")
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
        return {str(name): str(facts["sha256"]) for name, facts in content["records"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise BadRecordError(f"its {_LIST} is not a list of records") from error


def _record(name: str, text: bytes) -> RunRecord:
    try:
        record = from_json(parse(text), text)
    except BadRecordError as error:
        raise BadRecordError(f"{name}: {error}") from error
    if name != _member(record.run_id):
        raise BadRecordError(f"{name} holds the record of run {record.run_id}")
    return record
