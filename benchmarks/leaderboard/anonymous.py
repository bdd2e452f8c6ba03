"""Records without hosts, users and paths.

Identities stay: recipes, checksums and run ids are what makes results comparable. Everything else
that is text loses absolute paths, addresses, and every name that the record itself gives as a
host's or a user's, wherever it stands.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from msgspec import structs

from backbones.base.json_files import convert, to_plain
from benchmarks.store.folders import Scan
from benchmarks.store.record import Attempt, BackboneFacts, Failure, Labels, RunFile, RunRecord
from benchmarks.store.spec import RunRequest

R = TypeVar("R", bound=RunRecord)
_PATH, _NAME, _ADDRESS = "<path>", "<name>", "<address>"
_PRIVATE_KEYS = frozenset(
    {
        "host",
        "hostname",
        "hosts",
        "node",
        "nodes",
        "nodelist",
        "user",
        "username",
        "login",
        "account",
        "cluster",
        "partition",
        "submitted_by",
        "email",
        "root",
        "folder",
        "cwd",
    }
)
# What says who and where, and nothing about the result.
_DROPPED_KEYS = frozenset({"slurm"})
# Numbers and identities: a host that is called "coco" must not rename a task.
_KEPT = frozenset(
    {
        "schema",
        "run_id",
        "status",
        "attempt",
        "created",
        "finished",
        "spec",
        "headline",
        "columns",
        "metrics",
        "per_class",
        "curves",
        "cost",
    }
)
_OUR_KEYS = _PRIVATE_KEYS | frozenset(
    {
        name
        for kind in (Attempt, BackboneFacts, Failure, Labels, RunFile)
        for name in kind.__struct_fields__
    }
)
_KEPT_LABELS = frozenset({"suite", "recipe", "protocol", "mini"})
_SHORTEST_NAME = 2
_LINK = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s'\"<>]+", re.IGNORECASE)
_MAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)*(?::[^\s'\"]*)?")
_ABSOLUTE = re.compile(
    r"(?<![\w.<])(?:~[\w.-]*)?/[\w.@%+=~-]+(?:/[\w.@%+=~-]*)*"  # /a/b, ~u/a
    r"|(?<!\w)[A-Za-z]:[\\/][^\s'\"<>|]+"  # C:\a
    r"|\\\\[^\s'\"<>|]+"  # \\server\share
)
_HOME = re.compile(r"(?:/(?:home|Users)/|\\Users\\|~)([\w.-]+)")


def anonymous_scan(scan: Scan) -> Scan:
    """Return a scan of which nothing shown tells whose and where.

    Args:
        scan: What a folder holds.
    """
    return Scan(
        {run_id: anonymous_record(record) for run_id, record in scan.records.items()},
        {run_id: _request(request) for run_id, request in scan.unfinished.items()},
        tuple((Path(path.parent.name, path.name), _text(why, [])) for path, why in scan.rejected),
    )


def anonymous_record(record: R) -> R:
    """Return a record without hosts, users and paths."""
    plain = {name: to_plain(getattr(record, name)) for name in RunRecord.__struct_fields__}
    names = sorted({*_names(plain)}, key=len, reverse=True)
    changed = {
        key: value if key in _KEPT else _value(key, value, names) for key, value in plain.items()
    }
    labels = record.labels
    changed["labels"] |= {name: getattr(labels, name) for name in _KEPT_LABELS}
    changed["labels"]["entry"] = _text(_without_folders(labels.entry), names)
    # Its bulky parts, if it has them, give nothing away.
    bare = convert(changed, RunRecord)
    return structs.replace(record, **structs.asdict(bare))


def _request(request: RunRequest) -> RunRequest:
    entry = _text(_without_folders(request.entry), [])
    data = replace(request.data, path=Path(_PATH)) if request.data.path else request.data
    first = request.first
    if first is not None:
        first = structs.replace(first, path=Path(_PATH), source=_text(first.source, []))
    return structs.replace(request, entry=entry, source=entry, data=data, plugins=None, first=first)


def _without_folders(entry: str) -> str:
    """Return the name of an entry whose file has lost its folders."""
    kind, separator, rest = entry.partition(":")
    if kind != "ckpt" or not separator:
        return entry
    file, mark, options = rest.partition("?")
    return f"ckpt:{Path(file).name}{mark}{options}"


def _names(value: Any, key: str = "") -> Iterator[str]:
    """Yield the names of hosts and users that a record gives away."""
    if isinstance(value, Mapping):
        for inner, content in value.items():
            yield from _names(content, inner if inner not in _DROPPED_KEYS else "host")
    elif isinstance(value, list | tuple):
        for content in value:
            yield from _names(content, key)
    elif isinstance(value, str):
        if key.lower() in _PRIVATE_KEYS and len(value) >= _SHORTEST_NAME:
            yield from (value, value.partition(".")[0]) if "/" not in value else ()
        yield from (user for user in _HOME.findall(value) if len(user) >= _SHORTEST_NAME)


def _value(key: str, value: Any, names: list[str]) -> Any:
    if isinstance(value, Mapping):
        return {
            _key(inner, names): _value(inner, content, names)
            for inner, content in value.items()
            if inner not in _DROPPED_KEYS
        }
    if isinstance(value, list | tuple):
        return [_value(key, item, names) for item in value]
    if not isinstance(value, str):
        return value
    if key.lower() in _PRIVATE_KEYS and value:
        return _NAME
    return _text(value, names)


def _key(key: str, names: list[str]) -> str:
    """Return a key, as it is where the schema or our own code chose it."""
    return key if key in _OUR_KEYS else _text(key, names)


def _text(text: str, names: list[str]) -> str:
    text = _LINK.sub(_ADDRESS, text)
    text = _MAIL.sub(_ADDRESS, text)
    text = _ABSOLUTE.sub(_PATH, text)
    for name in names:
        text = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", _NAME, text, flags=re.IGNORECASE)
    return text
