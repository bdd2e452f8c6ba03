"""The file of a record: canonical JSON with a type and a checksum of its own.

Thousands of these are read before a table appears, and each is checked every time. The checksum is
the SHA-256 of the canonical JSON of everything else, and the file is that very text with the
checksum in it, so that a file is checked by hashing its bytes. A file that was laid out anew, or
that an editor saved with a byte order mark or in UTF-16, is brought into that form first.
"""

import hashlib
import json
import sys
from collections.abc import Mapping
from typing import Any, Literal, get_type_hints

import msgspec
from msgspec.structs import asdict

from backbones.base.files import canonical_json
from backbones.base.json_files import (
    canonical_text,
    convert,
    digest_without,
    parse_json,
)
from benchmarks.store.record import FullRecord, RunRecord, Sha256
from benchmarks.store.spec import RunId, RunSpec

SCHEMA = "backbench.record/1"


class BadRecordError(Exception):
    """A file that is not a valid record; the message says why."""


class OtherSchemaError(BadRecordError):
    """A record that another version of this program wrote."""


def to_text(record: FullRecord) -> bytes:
    """Return the bytes of a record's file, checked and signed.

    Raises:
        BadRecordError: The record breaks its own type: an error of ours, not the user's.
    """
    try:
        content = {"schema": SCHEMA, "run_id": record.run_id, **asdict(record)}
        members = {key: canonical_text(value) for key, value in content.items()}
        members["sha256"] = f'"{hashlib.sha256(_object(members)).hexdigest()}"'
        text = _object(members)
        _check_type(text)
    except ValueError as error:
        raise BadRecordError(str(error)) from error
    return text + b"\n"


def _check_type(text: bytes) -> None:
    try:
        _FULL.decode(text)
    except msgspec.MsgspecError:
        # It also refuses names of files that are not UTF-8, which Python's reader takes.
        convert(parse_json(text), _File)


def to_content(record: FullRecord) -> dict[str, Any]:
    """Return a record as the JSON content of its file, checked and signed.

    Raises:
        BadRecordError: As ``to_text``.
    """
    content: dict[str, Any] = json.loads(to_text(record))
    return content


def _object(members: Mapping[str, str]) -> bytes:
    """Return a canonical JSON object of members whose values are canonical JSON."""
    joined = ",".join(f'"{key}":{text}' for key, text in sorted(members.items()))
    return f"{{{joined}}}".encode()


def read_text(text: bytes) -> RunRecord:
    """Return the record in a file without its bulky parts.

    Their syntax and the checksum over them are checked, the types inside them are not.

    Raises:
        BadRecordError: It is not JSON, breaks the type, was edited, or contains NaN or infinity.
        OtherSchemaError: Another version of this program wrote it.
    """
    try:
        found = _QUICK.decode(text)
        spec = _SPEC.decode(found.spec)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return _without_bulk(read_full_text(text))
    # A canonical text contains that of the spec, whose hash is the run's id.
    named = hashlib.sha256(found.spec).hexdigest()[:16] == found.run_id
    if not named or digest_without(text, "sha256", found.sha256) != found.sha256:
        return _without_bulk(read_full_text(text))
    vars(spec)["run_id"] = found.run_id
    return RunRecord(spec, *[getattr(found, name) for name in _NAMES[1:]])


def read_full_text(text: bytes) -> FullRecord:
    """Return the whole record in a file.

    Raises:
        BadRecordError: As ``read_text``, and the types inside its bulky parts are checked too.
        OtherSchemaError: Another version of this program wrote it.
    """
    return read_canonical(text)[0]


def read_canonical(text: bytes) -> tuple[FullRecord, bytes]:
    """Return the whole record in a file, and the bytes that ``to_text`` writes for it.

    Raises:
        BadRecordError: As ``read_full_text``.
        OtherSchemaError: Another version of this program wrote it.
    """
    try:
        found = _FULL.decode(text)
        if digest_without(text, "sha256", found.sha256) == found.sha256:
            return _record(found), text.removesuffix(b"\n") + b"\n"
    except (msgspec.MsgspecError, ValueError, RecursionError):
        # Laid out anew or wrong: the slower way decides, and says what is wrong.
        pass
    try:
        content = parse_json(text)
    except ValueError as error:
        raise BadRecordError(str(error)) from error
    record = _from_content(content)
    return record, to_text(record)


def _from_content(content: Any) -> FullRecord:
    """Return the record in the JSON content of its file.

    Raises:
        BadRecordError: As ``read_full_text``.
        OtherSchemaError: Another version of this program wrote it.
    """
    if isinstance(content, dict) and content.get("schema") not in (SCHEMA, None):
        known = f"its schema is {content['schema']!r}, this program reads {SCHEMA!r}"
        raise OtherSchemaError(known)
    try:
        found = convert(content, _File)
    except ValueError as error:
        raise BadRecordError(str(error)) from error
    if _digest(content) != found.sha256:
        raise BadRecordError("its checksum differs, so it was edited or damaged")
    return _record(found)


def record_schema() -> dict[str, Any]:
    """Return the JSON Schema of a record's file, for readers in other languages.

    ``python -m benchmarks.store.record_file`` prints it.
    """
    schema = msgspec.json.schema(_File)
    dialect = "https://json-schema.org/draft/2020-12/schema"
    return {"$schema": dialect, "$id": SCHEMA, "title": "Outcome of one run", **schema}


def _record(found: Any) -> FullRecord:
    if found.spec.run_id != found.run_id:
        raise BadRecordError("its run_id does not belong to its spec")
    return FullRecord(**{name: getattr(found, name) for name in FullRecord.__struct_fields__})


def _without_bulk(record: FullRecord) -> RunRecord:
    return RunRecord(*[getattr(record, name) for name in _NAMES])


def _digest(content: Mapping[str, Any]) -> str:
    unsigned = {key: value for key, value in content.items() if key != "sha256"}
    return hashlib.sha256(canonical_json(unsigned).encode()).hexdigest()


def _file_type(name: str, changes: Mapping[str, Any]) -> Any:
    """Return the type of a record's file: the fields of ``FullRecord`` and what signs them.

    Args:
        name: Name of the type.
        changes: Types of fields that differ from those of ``FullRecord``.
    """
    types = get_type_hints(FullRecord, include_extras=True)
    envelope = {"schema": Literal["backbench.record/1"], "run_id": RunId, "sha256": Sha256}
    fields = {**{key: types[key] for key in FullRecord.__struct_fields__}, **envelope, **changes}
    # In the order of the text, in which they are found fastest.
    return msgspec.defstruct(name, sorted(fields.items()), forbid_unknown_fields=True, gc=False)


_NAMES = RunRecord.__struct_fields__
_File = _file_type("Record", {})
_FULL = msgspec.json.Decoder(_File)
_RAW = dict.fromkeys(("spec", "per_class", "curves"), msgspec.Raw)
_QUICK = msgspec.json.Decoder(_file_type("QuickRecord", _RAW))
_SPEC = msgspec.json.Decoder(RunSpec)

if __name__ == "__main__":
    sys.stdout.write(json.dumps(record_schema(), indent=2) + "\n")
