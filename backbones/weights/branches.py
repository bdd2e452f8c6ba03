"""Which of the networks in one file is meant: raw or averaged copy, student or teacher."""

import re
from collections.abc import Iterable

from backbones.weights.layout import Format

EMA, RAW, TEACHER, STUDENT = "ema", "raw", "teacher", "student"
BRANCHES = (EMA, RAW, TEACHER, STUDENT)

# Words of trainers for the copies in front of a network's names, whole segments.
_WORDS = {
    EMA: r"state_dict_ema|model_ema|module_ema|ema_[a-z_]+|ema|averaged_model|shadow(_params)?",
    TEACHER: r"_*teacher\w*|momentum_\w+|target_\w+|encoder_k|_?ema_teacher",
    STUDENT: r"_*student\w*|online_\w+|encoder_q|base_encoder",
}
_PATTERNS = {
    name: re.compile(rf"(^|\.)({words})(\.|$)", re.IGNORECASE) for name, words in _WORDS.items()
}


# mmengine's hook exchanges the two copies when it saves, so that "state_dict" is the averaged one
# (mmengine/hooks/ema_hook.py, before_save_checkpoint). Its counter tells such files.
EXCHANGED = "ema_state_dict.steps"
_IN_EXCHANGED = {"ema_state_dict.": RAW, "state_dict.": EMA}


def branch_of(prefix: str, form: Format, exchanged: bool = False) -> str:
    """Return the branch that the part of a name in front of a network's own names means.

    Args:
        prefix: That part.
        form: Format of the file.
        exchanged: Whether the file has the two copies of mmengine.
    """
    for begin, name in _IN_EXCHANGED.items() if exchanged else ():
        if prefix.startswith(begin):
            return name
    for name, pattern in form.branches:
        if re.search(pattern, prefix):
            return name
    for name, words in _PATTERNS.items():
        if words.search(prefix):
            return name
    return RAW


def official(found: Iterable[str], form: Format) -> str | None:
    """Return the branch that the format's official evaluation takes, None where nobody says.

    Formats without branches of their own follow timm's loader, which takes the averaged copy.
    """
    present = set(found)
    for name, _ in form.branches:
        if name in present:
            return name
    if len(present) == 1:
        return present.pop()
    return EMA if present == {EMA, RAW} else None


def allowed(form: Format) -> tuple[str, ...]:
    """Return the branches that may be asked of files of a format."""
    if form.branches:
        return tuple(name for name, _ in form.branches)
    return BRANCHES if form.name in ("timm", "auto") else (EMA, RAW)


def default(form: Format) -> str:
    """Return the branch that needs no saying: asked for or not, it is the same run."""
    return form.branches[0][0] if form.branches else EMA
