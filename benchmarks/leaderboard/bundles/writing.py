"""Records in one file, for others to merge.

A bundle is a zip archive of ``records/RUN_ID.json``, each a record as it lies in a folder of runs,
``resamples/RUN_ID.npz``, what its intervals are made of, where it kept that, and ``bundle.json``,
which lists them with size and checksum.
"""

import hashlib
import io
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from backbones.base.files import atomic_file, canonical_json, read_plain
from benchmarks.by_image.resamples import RESAMPLES_FILE, parse_resamples
from benchmarks.leaderboard.anonymous import anonymous_record
from benchmarks.store.folders import RunFolder
from benchmarks.store.record import FullRecord, RunFile, RunRecord
from benchmarks.store.record_file import to_text

SCHEMA = "backbench.bundle/1"
LIST = "bundle.json"
RESAMPLES = PurePosixPath("work", RESAMPLES_FILE)
# Our tasks' largest records have some 200 kB, as have their resamples; ten times that is somebody's
# mistake.
MOST_BYTES = 2 * 2**20
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


def pack(folder: RunFolder, anonymous: bool = False) -> Packed | None:
    """Return the record of a run with its resamples, None if the run has no record.

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
    facts = facts_of_resamples(record)
    if facts is None:
        return Packed(record, text)
    try:
        content = read_plain(folder.path / RESAMPLES, MOST_BYTES)
        check_resamples(content, facts)
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
            facts[name] = {"bytes": len(content), "sha256": sha256_of(content)}

        for one in packed:
            add(record_name(one.record), one.text)
            if one.resamples is not None:
                add(_resamples_name(one.record), one.resamples)
        add(LIST, canonical_json({"schema": SCHEMA, "members": dict(facts)}).encode())


def record_name(record: RunRecord) -> str:
    """Return the name of a record in a bundle."""
    return f"records/{record.run_id}.json"


def _resamples_name(record: RunRecord) -> str:
    return resamples_of(record_name(record))


def resamples_of(record_name: str) -> str:
    """Return the name of the resamples of a record's member; empty for other members."""
    kind, _, name = record_name.partition("/")
    return f"resamples/{name.removesuffix('.json')}.npz" if kind == "records" else ""


def facts_of_resamples(record: RunRecord) -> RunFile | None:
    """Return what a record says of its file of resamples; None where it has none."""
    found = (facts for facts in record.files if facts.path == str(RESAMPLES))
    return next(found, None)


def sha256_of(content: bytes) -> str:
    """Return the hex SHA-256 of bytes."""
    return hashlib.sha256(content).hexdigest()


def check_resamples(content: bytes, facts: RunFile) -> None:
    """Refuse what a reader would choke on, or what is not the file that a record names.

    Raises:
        ValueError: Says why.
    """
    if sha256_of(content) != facts.sha256:
        raise ValueError("it is not the file that the record names")
    if len(content) > MOST_BYTES or _unpacked_bytes(content) > MOST_BYTES:
        raise ValueError(f"it unpacks to more than {MOST_BYTES:,} bytes")
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
