"""A bundle that came from elsewhere, read with suspicion.

Only the names that ``write_bundle`` gives, only plain files, each once, each within bounds while it
is unpacked. Nothing is used before every member was checked.
"""

import json
import re
import stat
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from backbones.base.errors import PreflightError
from benchmarks.leaderboard.bundles.writing import (
    LIST,
    MOST_BYTES,
    SCHEMA,
    Packed,
    check_resamples,
    facts_of_resamples,
    record_name,
    resamples_of,
    sha256_of,
)
from benchmarks.store.record import FullRecord
from benchmarks.store.record_file import BadRecordError, read_canonical

_NAMES = re.compile(r"records/[0-9a-f]{16}\.json|resamples/[0-9a-f]{16}\.npz")
_MOST_MEMBERS = 200_000
_MOST_BYTES_IN_ALL = 2 * 2**30
_MOST_BYTES_OF_LIST = 32 * 2**20


@dataclass(frozen=True)
class Bundle:
    """A bundle of which every member was found valid.

    Iterating reads the members again, one at a time, so that thousands of records do not have to
    fit into memory.

    Attributes:
        path: The file.
        digests: SHA-256 of every member by name, of records in their canonical form.
    """

    path: Path
    digests: Mapping[str, str]

    def __iter__(self) -> Iterator[Packed]:
        """Yield the records in the order of their ids.

        Raises:
            PreflightError: The file changed since it was checked.
        """
        with _opened(self.path) as archive:
            yield from _packed(archive)

    def files(self) -> Iterator[tuple[str, bytes, bytes | None]]:
        """Yield id, text and resamples of every run, in the order of the ids.

        The bytes are known to be those that were checked, so they are not parsed again.

        Raises:
            PreflightError: The file changed since it was checked.
        """
        with _opened(self.path) as archive:
            for name in sorted(name for name in self.digests if name.startswith("records/")):
                resamples = resamples_of(name)
                found = self._again(archive, resamples) if resamples in self.digests else None
                yield PurePosixPath(name).stem, self._again(archive, name), found

    def _again(self, archive: zipfile.ZipFile, name: str) -> bytes:
        """Return the bytes of a member; refuse others than those that were checked."""
        known = archive.NameToInfo.get(name)
        content = b"" if known is None else _unpacked(archive, known, MOST_BYTES)
        if sha256_of(content) != self.digests[name] and name.startswith("records/"):
            # A record that was laid out anew was checked in its canonical form.
            with suppress(BadRecordError):
                content = read_canonical(content)[1]
        if sha256_of(content) != self.digests[name]:
            raise BadRecordError(f"{name} changed while the bundle was read")
        return content


def read_bundle(path: Path) -> Bundle:
    """Return a bundle, every member of which was read and is valid.

    Args:
        path: The file.

    Raises:
        PreflightError: It is not a bundle, or anything in it is not what it should be; nothing of
            it is to be trusted then.
    """
    digests: dict[str, str] = {}
    with _opened(path) as archive:
        for one in _packed(archive):
            name = record_name(one.record)
            digests[name] = sha256_of(one.text)
            if one.resamples is not None:
                digests[resamples_of(name)] = sha256_of(one.resamples)
    return Bundle(path, digests)


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a bundle; whatever is wrong with it becomes one sentence.

    Raises:
        PreflightError: The file is not a bundle, or a member of it is invalid.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except BadRecordError as error:
        raise PreflightError(f"{path} is refused: {error}.") from error
    except (OSError, zipfile.BadZipFile, zipfile.LargeZipFile) as error:
        raise PreflightError(f"{path} cannot be read as a bundle: {error}.") from error
    except (RuntimeError, NotImplementedError, EOFError, ValueError, zlib.error) as error:
        # What zipfile and zlib say to encrypted and malformed members.
        raise PreflightError(f"{path} is refused: a member is malformed ({error}).") from error


def _packed(archive: zipfile.ZipFile) -> Iterator[Packed]:
    """Yield the records of an archive, each once it is what the list says."""
    members = _plain_members(archive)
    listed = _checked_list(archive, members)
    total = 0

    def take(name: str) -> bytes:
        nonlocal total
        content = _unpacked(archive, members[name], MOST_BYTES)
        total += len(content)
        if total > _MOST_BYTES_IN_ALL:
            raise BadRecordError(f"it unpacks to more than {_MOST_BYTES_IN_ALL:,} bytes")
        if sha256_of(content) != listed[name]:
            raise BadRecordError(f"{name} is not what {LIST} lists")
        return content

    for name in sorted(name for name in listed if name.startswith("records/")):
        record, text = _record(name, take(name))
        resamples = resamples_of(name)
        if resamples in members:
            yield Packed(record, text, _named(resamples, take(resamples), record))
        else:
            yield Packed(record, text)


def _checked_list(
    archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo]
) -> dict[str, str]:
    """Return the checksums by member, once they are those of the members that are there."""
    if LIST not in members:
        raise BadRecordError(f"it has no {LIST}, so it is not a bundle")
    listed = _listed(_unpacked(archive, members[LIST], _MOST_BYTES_OF_LIST))
    odd = sorted({*listed, LIST} ^ set(members))
    if odd:
        raise BadRecordError(f"{LIST} and the archive do not agree about {odd[0]!r}")
    lonely = {name for name in listed if name.startswith("resamples/")}
    lonely -= set(map(resamples_of, listed))
    if lonely:
        raise BadRecordError(f"{len(lonely)} files of resamples have no record")
    return listed


def _named(name: str, content: bytes, record: FullRecord) -> bytes:
    """Return resamples that are those of a record, and valid."""
    facts = facts_of_resamples(record)
    if facts is None:
        raise BadRecordError(f"{name} is not the file that its record names")
    try:
        check_resamples(content, facts)
    except ValueError as error:
        raise BadRecordError(f"{name}: {error}") from error
    return content


def _plain_members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return the members by name, once every name, kind and number is one that we write."""
    members: dict[str, zipfile.ZipInfo] = {}
    infos = archive.infolist()
    if len(infos) > _MOST_MEMBERS:
        raise BadRecordError(f"it has {len(infos):,} members, more than {_MOST_MEMBERS:,}")
    for info in infos:
        name = info.filename
        if name != LIST and not _NAMES.fullmatch(name):
            raise BadRecordError(f"member {name!r} is neither {LIST} nor a record's")
        if name in members:
            raise BadRecordError(f"member {name!r} is there twice")
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise BadRecordError(f"member {name!r} is not a plain file")
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
        raise BadRecordError(f"its {LIST} has the schema {schema!r}, this program reads {SCHEMA!r}")
    try:
        return {str(name): str(facts["sha256"]) for name, facts in content["members"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise BadRecordError(f"its {LIST} is not a list of records") from error


def _record(name: str, text: bytes) -> tuple[FullRecord, bytes]:
    try:
        record, text = read_canonical(text)
    except BadRecordError as error:
        raise BadRecordError(f"{name}: {error}") from error
    if name != record_name(record):
        raise BadRecordError(f"{name} holds the record of run {record.run_id}")
    return record, text
