"""Reassessed labels of ImageNet's validation images (Beyer et al. 2020, "Are we done with ...").

google-research/reassessed-imagenet ``real.json``: a list whose entry i holds the numbers of all
classes, in sorted order from 0, that are right for ``ILSVRC2012_val_{i + 1:08d}``; some hold none,
and those images do not count.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from backbones.base.errors import PreflightError

REAL_FILE = "real.json"
_NUMBER = re.compile(r"ILSVRC2012_val_(\d{8})$")


def read_real_labels(root: Path, names: Sequence[str]) -> list[frozenset[int]] | None:
    """Return the right classes of validation images, None where ``root`` has no such file.

    Args:
        root: Folder of the data.
        names: Of the images, with or without folders.

    Raises:
        PreflightError: The file has another form, or an image has no number or no entry in it.
    """
    path = root / REAL_FILE
    if not path.is_file():
        return None
    try:
        answers = [frozenset(map(int, entry)) for entry in json.loads(path.read_text("utf-8"))]
    except (OSError, ValueError, TypeError) as error:
        raise PreflightError(
            f"{path} is no list of lists of class numbers ({error}); fetch it again, or remove it."
        ) from error
    found = []
    for name in names:
        match = _NUMBER.search(PurePosixPath(name).stem)
        if match is None or not 1 <= int(match[1]) <= len(answers):
            raise PreflightError(
                f"{path} is for ILSVRC2012_val_00000001 to {len(answers):08d}, and {name} is none "
                "of them; remove it, or use the official names."
            )
        found.append(answers[int(match[1]) - 1])
    return found


def judge_real(
    predicted: Sequence[int], answers: Sequence[frozenset[int]] | None
) -> npt.NDArray[np.int8] | None:
    """Return whether the predicted class of each image is among the right ones.

    Args:
        predicted: The class that each of the N images is predicted to have.
        answers: The right classes of each; None where the data have no such labels.

    Returns:
        (N,) 1 right, 0 wrong, -1 without any right class, which does not count; None as given.
    """
    if answers is None:
        return None
    pairs = zip(predicted, answers, strict=True)
    return np.array([guess in answer if answer else -1 for guess, answer in pairs], dtype=np.int8)


def real_top1(judged: npt.NDArray[np.int8] | None) -> float | None:
    """Return the percentage of right images among those that count, None where none does.

    Args:
        judged: By ``judge_real``.
    """
    counted = judged[judged >= 0] if judged is not None else np.empty(0)
    return 100.0 * float(counted.mean()) if len(counted) else None
