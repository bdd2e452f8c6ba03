"""Small JSON files of one type each, checked by type and checksum whenever they are read."""

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from backbones.base.errors import PreflightError
from backbones.base.files import canonical_json, hash16, json_text, read_plain, write_atomically

T = TypeVar("T")

CHECKSUM = "checksum"
_LONGEST_REASON = 200


class UnreadableFileError(PreflightError):
    """A file that is absent, unreadable, damaged or of another kind.

    Attributes:
        reason: What is wrong with it, without the name of the file and without a full stop.
    """

    def __init__(self, path: Path, what: str, reason: str) -> None:
        """Describe the file in one sentence.

        Args:
            path: The file.
            what: What it should hold.
            reason: See the attribute.
        """
        super().__init__(f"{path} is not a valid {what}: {reason}.")
        self.reason = reason


class JsonFormat(Generic[T]):
    """A kind of JSON files: the type of their content, next to which each holds its checksum.

    Files of earlier versions have no checksum; they are checked against the type only.
    """

    def __init__(
        self,
        kind: type[T],
        what: str,
        *,
        former: Mapping[str, str] | None = None,
        one_line: bool = False,
    ) -> None:
        """Describe a kind of files.

        Args:
            kind: A ``msgspec.Struct`` or a dataclass. Unknown fields are refused where it says so.
            what: What a file holds, for messages, such as "heartbeat".
            former: Names of fields in earlier versions, each with the name of today.
            one_line: Write the JSON into one line instead of indenting it.
        """
        self._kind = kind
        self._what = what
        self._former = dict(former or {})
        self._one_line = one_line

    def text(self, value: T) -> bytes:
        """Return the bytes of a file, with a line feed at the end.

        Raises:
            ValueError: ``value`` contains NaN or infinity, or breaks its own type.
        """
        content = to_plain(value)
        convert(content, self._kind)
        content[CHECKSUM] = hash16(content)
        if self._one_line:
            return canonical_json(content).encode() + b"\n"
        return json_text(content)

    def parse(self, text: bytes) -> T:
        """Return the value in the bytes of a file.

        Raises:
            ValueError: They are not JSON, not of the type, or their checksum differs; says why.
        """
        content = convert(_parsed(text), dict[str, Any])
        signature = content.pop(CHECKSUM, None)
        if signature is not None and not (
            digest_without(text, CHECKSUM, signature)[:16] == signature
            or signature == hash16(content)
        ):
            raise ValueError("its checksum differs, so it was edited or damaged")
        for old, new in self._former.items():
            if old in content:
                content[new] = content.pop(old)
        return convert(content, self._kind)

    def write(self, path: Path, value: T) -> None:
        """Write a file, atomically.

        Raises:
            PreflightError: The disk is full, or the folder cannot be written.
            ValueError: As ``text``.
        """
        write_atomically(path, self.text(value))

    def read(self, path: Path) -> T:
        """Return the value in a file.

        Raises:
            UnreadableFileError: The file is absent, unreadable, damaged or of another kind.
        """
        try:
            return self.parse(read_plain(path))
        except OSError as error:
            reason = f"it cannot be read ({error.strerror})"
            raise UnreadableFileError(path, self._what, reason) from error
        except ValueError as error:
            raise UnreadableFileError(path, self._what, str(error)) from error


def digest_without(text: bytes, key: str, value: Any) -> str:
    """Return the SHA-256 of a canonical JSON text from which one member with a text was cut.

    This is how a text that carries its own checksum is checked without writing it anew. A text
    that is not canonical gives another digest.

    Args:
        text: Bytes of an object in canonical JSON, perhaps with a line feed at the end.
        key: Name of the member, which is not the last one.
        value: Its value; only a plain text is found.
    """
    member = f'"{key}":"{value}",'.encode("utf-8", "replace")
    start = text.find(member)
    if start < 0:
        return ""
    end = len(text) - text.endswith(b"\n")
    digest = hashlib.sha256(memoryview(text)[:start])
    digest.update(memoryview(text)[start + len(member) : end])
    return digest.hexdigest()


def _parsed(text: bytes) -> Any:
    """Return what ``parse_json`` returns, several times as fast for large valid files."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return parse_json(text)


def parse_json(text: bytes) -> Any:
    """Return the JSON value in the bytes of a file: UTF-8, or UTF-16 or 32 with a byte order mark.

    Raises:
        ValueError: They are not JSON, or contain NaN or infinity; says why.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not readable as JSON ({error})") from error
    place = _place_of_bad_number(content, "")
    if place is not None:
        raise ValueError(f"it contains NaN or infinity{place and f' at `{place}`'}")
    return content


def _place_of_bad_number(content: Any, place: str) -> str | None:
    """Return where a value contains NaN or infinity, None if it does not."""
    if isinstance(content, float):
        return place if content != content or abs(content) == float("inf") else None
    inner = (
        content.items() if isinstance(content, dict)
        else enumerate(content) if isinstance(content, list) else ()
    )  # fmt: skip
    for key, value in inner:
        found = _place_of_bad_number(value, f"{place}.{key}" if place else str(key))
        if found is not None:
            return found
    return None


def convert(content: Any, kind: type[T]) -> T:
    """Return plain JSON values as a value of a type.

    Raises:
        ValueError: They do not fit; names the place, as in "Expected `int`, got `str` at `$.seed`".
    """
    try:
        return msgspec.convert(content, kind, dec_hook=_from_plain)
    except msgspec.ValidationError as error:
        raise ValueError(in_words(error)) from error


def in_words(error: Exception) -> str:
    """Return what msgspec says about wrong content, as part of a sentence."""
    return str(error).replace(" - at `", " at `")[:_LONGEST_REASON]


def to_plain(value: Any) -> Any:
    """Return a struct or dataclass as plain JSON values: dicts, lists, texts and numbers.

    Raises:
        ValueError: It contains NaN or infinity.
    """
    return json.loads(canonical_text(value))


def canonical_text(value: Any) -> str:
    """Return a struct, a dataclass or plain values as canonical JSON, see ``canonical_json``.

    Raises:
        ValueError: It contains NaN or infinity.
    """
    try:
        return json.dumps(
            value, default=_to_plain, allow_nan=False, sort_keys=True, separators=(",", ":")
        )
    except ValueError as error:
        raise ValueError("it contains NaN or infinity") from error


def _to_plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    return said_fields(value) if isinstance(value, msgspec.Struct) else _fields_of(value)


def said_fields(value: msgspec.Struct) -> dict[str, Any]:
    """Return the fields of a struct as its file holds them.

    Types made with ``omit_defaults`` leave out fields at their default, so that a field that came
    later does not change files, and hashes, of before.
    """
    found = msgspec.structs.asdict(value)
    if not value.__struct_config__.omit_defaults:
        return found
    defaults = _defaults_of(type(value))
    return {name: own for name, own in found.items() if own != defaults[name]}


@cache
def _defaults_of(kind: type[msgspec.Struct]) -> dict[str, Any]:
    # msgspec evaluates all annotations of a type at every look, for as long as a record takes.
    return {one.name: one.default for one in msgspec.structs.fields(kind)}


def _fields_of(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


def _from_plain(kind: type[Any], value: Any) -> Any:
    if kind is not Path:
        raise NotImplementedError(f"no JSON for {kind}")
    if not isinstance(value, str):
        raise TypeError(f"Expected `str`, got `{type(value).__name__}`")
    return Path(value)
