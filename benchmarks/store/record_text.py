"""The text of a record: canonical JSON with a schema and a checksum of its own.

Thousands of these are read before a table appears. The checksum is the SHA-256 of the canonical
JSON of everything else, and the file is that very text with the checksum in it, so that a file is
checked by hashing its bytes; one that was laid out anew is brought into that form first. The
validator is a compiled one.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec

from backbones.base.files import canonical_json

SCHEMA = "backbench.record/1"
SCHEMA_FILE = Path(__file__).with_name("record.schema.json")
_LONGEST_REASON = 200
# Most of a record's bytes, and none of a table's numbers.
_BULK = ("curves", "per_class")


class BadRecordError(Exception):
    """A file that is no valid record; the message says why."""


class OtherSchemaError(BadRecordError):
    """A record that another version of this program wrote."""


class Unread(Mapping[str, Any]):
    """A JSON object that is parsed when somebody looks into it.

    Args:
        text: Of the object.
    """

    def __init__(self, text: bytes) -> None:
        self._text = text

    @cached_property
    def _content(self) -> dict[str, Any]:
        content: dict[str, Any] = msgspec.json.decode(self._text)
        return content

    def __getitem__(self, key: str) -> Any:
        return self._content[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)


def signed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a record with its checksum.

    Args:
        content: Everything else, JSON values.

    Raises:
        BadRecordError: It breaks the schema: an error of ours, not the user's.
    """
    complete = {**content, "sha256": _digest(content)}
    _check_schema(complete)
    return complete


def to_text(content: Mapping[str, Any]) -> bytes:
    """Return signed content as the bytes of a file."""
    return canonical_json(content).encode() + b"\n"


def parse(text: bytes) -> Any:
    """Return the JSON value in a file, checked for nothing yet.

    Raises:
        BadRecordError: It is no JSON.
    """
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        # Python's own reader accepts NaN, which deserves a sentence about NaN.
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BadRecordError(f"it is not readable as JSON ({error})") from error


def parse_checked(text: bytes) -> dict[str, Any]:
    """Return the content of a file that was found valid before; its bulk is parsed when used."""
    parts = _parts().decode(text)
    content = {name: getattr(parts, name) for name in parts.__struct_fields__}
    return {**content, **{name: Unread(bytes(content[name])) for name in _BULK}}


def check(content: Any, text: bytes = b"") -> None:
    """Check schema, checksum and numbers.

    Args:
        content: Parsed.
        text: The file it was parsed from; without it the checksum takes longer.

    Raises:
        OtherSchemaError: It is of another schema.
        BadRecordError: It breaks the schema, was edited, or holds a number that is none.
    """
    if isinstance(content, dict) and content.get("schema") not in (SCHEMA, None):
        known = f"its schema is {content['schema']!r}, this program reads {SCHEMA!r}"
        raise OtherSchemaError(known)
    _check_schema(content)
    if _is_signed_text(text, content["sha256"]):
        return
    if _digest(content) != content["sha256"]:
        raise BadRecordError("its checksum does not fit, so it was edited or damaged")


def _is_signed_text(text: bytes, signature: str) -> bool:
    """Tell whether a text is canonical and its checksum right; False leaves it open."""
    rest = text.removesuffix(b"\n").replace(b'"sha256":"%s",' % signature.encode(), b"", 1)
    return hashlib.sha256(rest).hexdigest() == signature


def _digest(content: Mapping[str, Any]) -> str:
    unsigned = {key: value for key, value in content.items() if key != "sha256"}
    return hashlib.sha256(_canonical(unsigned).encode()).hexdigest()


def _canonical(content: Any) -> str:
    try:
        return canonical_json(content)
    except ValueError as error:
        raise BadRecordError(f"it holds a number that is none: {error}") from error


def _check_schema(content: Any) -> None:
    if _compiled().is_valid(content):
        return
    # The validator takes a number that is none for null.
    _canonical(content)
    # A fault further up explains those further down.
    fault = min(_compiled().iter_errors(content), key=lambda fault: len(fault.instance_path))
    where = "/".join(map(str, fault.instance_path)) or "the file"
    raise BadRecordError(f"{where}: {fault.message[:_LONGEST_REASON]}")


@cache
def _parts() -> Any:
    """Return a decoder that finds the ends of the bulk and leaves it at that."""
    names = _schema()["properties"]
    fields = [(name, msgspec.Raw if name in _BULK else Any) for name in names]
    return msgspec.json.Decoder(msgspec.defstruct("Parts", fields))


@cache
def _compiled() -> Any:
    return jsonschema_rs.Draft202012Validator(_schema())


def _schema() -> Any:
    return json.loads(SCHEMA_FILE.read_text("utf-8"))
