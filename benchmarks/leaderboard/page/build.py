"""A page's parts put into one file: what was measured, our scripts and styles, two libraries.

Nothing of a record ever becomes HTML here. What was measured is packed JSON inside a ``<script>``
that no browser runs; our scripts read it and make text nodes of it. The page's own policy (Content
Security Policy, https://www.w3.org/TR/CSP3/) allows exactly the scripts that were put in, by their
hashes, and no request at all.
"""

import base64
import hashlib
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from string import Template
from typing import Any

from backbones.base.files import write_atomically

_HERE = Path(__file__).parent
_VENDOR = _HERE / "vendor"
# Ours, in the order in which they are put together: each uses only what stands before it.
MODULES = (
    "dom", "format", "data", "state", "board_data", "differences", "columns", "choices", "board",
    "downloads", "filters", "charts", "point_names", "frontier", "prediction", "strips", "epochs",
    "curves", "classes", "sizes", "gallery", "figures", "detectors", "compare",
    "provenance", "drawer", "main",
)  # fmt: skip
STYLES = ("colours", "page", "table", "panels", "print")
_IMPORT = re.compile(r"^import (\{[^}]*\}) from \"\./(\w+)\.js\";$", re.MULTILINE)
_EXPORT = re.compile(r"^export ((?:async )?function|const|class) (\w+)", re.MULTILINE)


def write_page(path: Path, document: Mapping[str, Any], details: Mapping[str, Any]) -> None:
    """Write the page, whole or not at all.

    Args:
        path: Where to.
        document: What is shown at once, see ``document.make_document``.
        details: What is shown when somebody asks for it.

    Raises:
        PreflightError: The file cannot be written.
    """
    write_atomically(path, page(document, details).encode())


def page(document: Mapping[str, Any], details: Mapping[str, Any]) -> str:
    """Return the page as text; see ``write_page``."""
    libraries = [*map(_library, vendored())]
    program = _program()
    return Template((_HERE / "template.html").read_text("utf-8")).substitute(
        policy=_policy([*libraries, program]),
        style="\n".join((_HERE / "style" / f"{name}.css").read_text("utf-8") for name in STYLES),
        document=packed(document),
        details=packed(details),
        libraries="\n".join(f"<script>{text}</script>" for text in libraries),
        program=program,
    )


def as_json(content: Any) -> str:
    """Return JSON that may stand in any HTML: it cannot end the element it is in.

    ``<``, ``>`` and ``&`` are written as escapes, and so are U+2028 and U+2029, which end a line in
    scripts.
    """
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # A lone surrogate, as a damaged file name leaves it, cannot be written as UTF-8.
    text = text.encode("utf-8", "replace").decode()
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def packed(content: Any) -> str:
    """Return JSON as base64 of its zlib form, a quarter of the size."""
    return base64.b64encode(zlib.compress(as_json(content).encode())).decode()


@cache
def vendored() -> tuple[Mapping[str, Any], ...]:
    """Return the libraries in the page: name, version, licence, file and its SHA-256."""
    return tuple(json.loads((_VENDOR / "manifest.json").read_text("utf-8")))


def _library(entry: Mapping[str, Any]) -> str:
    licences = [(_VENDOR / name).read_text("utf-8").strip() for name in entry["licence_files"]]
    notice = "\n\n".join(licences).replace("*/", "* /")
    code = (_VENDOR / entry["file"]).read_text("utf-8").strip()
    return f"\n/*! {entry['name']} {entry['version']}\n{notice}\n*/\n{code}\n"


def _program() -> str:
    """Return our modules as one: each a function of its own that returns what it exports.

    A page opened from disk may not load modules, so that they cannot stay files.
    """
    parts = []
    for name in MODULES:
        text = (_HERE / "script" / f"{name}.js").read_text("utf-8")
        exports = ", ".join(found for _, found in _EXPORT.findall(text))
        body = _EXPORT.sub(r"\1 \2", _IMPORT.sub(r"const \1 = $\2;", text))
        parts.append(
            f"const ${name} = await (async () => {{\n{body}\nreturn {{ {exports} }};\n}})();"
        )
    return "\n" + "\n".join(parts) + "\n"


def _policy(scripts: Sequence[str]) -> str:
    hashes = [
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for text in scripts
    ]
    rules = {
        "default-src": ["'none'"],
        "script-src": hashes,
        # Plots set the colours of their marks in style attributes.
        "style-src": ["'unsafe-inline'"],
        "img-src": ["data:"],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
    }
    return "; ".join(f"{name} {' '.join(values)}" for name, values in rules.items())
