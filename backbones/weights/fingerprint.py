"""Tells from names in a file which formats it may be of."""

from collections.abc import Iterable
from fnmatch import fnmatchcase

from backbones.base.errors import PreflightError
from backbones.weights.content import Content
from backbones.weights.formats import FORMATS
from backbones.weights.layout import Format


def marked(content: Content) -> list[Format]:
    """Return the formats whose marks a file bears, the most telling first."""
    found = [form for form in FORMATS.values() if bears_marks(content, form)]
    return sorted(found, key=lambda form: -_weight(form))


def ranked(content: Content, file: str, model_type: object) -> list[Format]:
    """Return the formats that a file may be of, the surest first; the last is timm's.

    Args:
        content: Of the file.
        file: Its name.
        model_type: Of the ``config.json`` next to it, None without one.
    """
    scores = {}
    for form in FORMATS.values():
        named = any(fnmatchcase(file, pattern) for pattern in form.files)
        if model_type and model_type in form.model_types:
            scores[form.name] = 1000
        elif bears_marks(content, form):
            scores[form.name] = 100 + 10 * _weight(form) + 5 * named
        elif named or _states(content, form):
            scores[form.name] = 50
        elif form.anchors and not form.marks:
            scores[form.name] = 10
    ordered = sorted(scores, key=lambda name: -scores[name])
    return [*(FORMATS[name] for name in ordered), FORMATS["timm"]]


def bears_marks(content: Content, form: Format) -> bool:
    """Tell whether names in a file match every mark of a format that has marks."""
    if not form.marks or not all(_occurs(mark, content.tensors) for mark in form.marks):
        return False
    return all(_is_square(content, pattern) for pattern in form.square)


def _states(content: Content, form: Format) -> bool:
    """Tell whether the settings in a file are those of a format that is known by them."""
    return bool(form.stated) and all(_occurs(name, content.facts) for name in form.stated)


def refuse_unread(form: Format) -> None:
    """Raise for a format whose files are not read.

    Raises:
        PreflightError: Always for such a format; says why.
    """
    if form.refused:
        raise PreflightError(f"{form.refused}. Use weights of another project.")


def _weight(form: Format) -> int:
    return len(form.marks) + len(form.square)


def _is_square(content: Content, pattern: str) -> bool:
    shapes = [tuple(t.shape) for name, t in content.tensors.items() if fnmatchcase(name, pattern)]
    return bool(shapes) and all(len(s) == 2 and s[0] == s[1] for s in shapes)


def _occurs(pattern: str, names: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for name in names)
