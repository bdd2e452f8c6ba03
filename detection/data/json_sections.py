"""The three lists of a COCO instances file, read from JSON."""

import json
from pathlib import Path
from typing import Any

from backbones.base.wording import quoted
from detection.data.findings import Mending

# JSON's types by Python's, as a message names them.
_KINDS = {
    dict: "an object",
    list: "a list",
    str: "text",
    bool: "true or false",
    int: "a number",
    float: "a number",
    type(None): "null",
}


def read_sections(path: Path, mending: Mending) -> dict[str, list[dict[str, Any]]]:
    """Return the images, annotations and categories of a COCO instances file, lists of objects.

    Args:
        path: The JSON file.
        mending: Words what is wrong.

    Raises:
        PreflightError: The file cannot be read, is not JSON, or lacks a section.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise mending.fault(f"cannot be read ({error.strerror})") from error
    if not raw.strip():
        raise mending.fault("is empty")
    try:
        content = json.loads(raw)
    except json.JSONDecodeError as error:
        cut = error.pos >= len(error.doc.rstrip()) - 1 or error.msg.startswith("Unterminated")
        what = "is cut off in the middle" if cut else f"is not JSON ({error})"
        raise mending.fault(f"{what}; copy or export it again") from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise mending.fault("is not JSON text; copy or export it again") from error
    if not isinstance(content, dict):
        raise mending.fault(f"holds {_kind(content)}, not a COCO instances object")
    for section in ("images", "annotations", "categories"):
        _check_section(section, content, mending)
    return content


def _check_section(section: str, content: dict[str, Any], mending: Mending) -> None:
    entries = content.get(section)
    if not isinstance(entries, list):
        found = (
            f"has {section!r} as {_kind(entries)}" if section in content else f"has no {section!r}"
        )
        raise mending.fault(f"{found}; COCO instances files have a list of objects there")
    wrong = [place for place, entry in enumerate(entries) if not isinstance(entry, dict)]
    if wrong:
        raise mending.fault(
            f"has {len(wrong)} of {len(entries)} entries in {section!r} that are not JSON objects: "
            f"entry {wrong[0] + 1} is {_kind(entries[wrong[0]])} ({quoted(entries[wrong[0]])})"
        )


def _kind(value: Any) -> str:
    return _KINDS[type(value)]
