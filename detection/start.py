"""Trainings that begin with a trained detector: COCO first, then data of one's own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from backbones.base.errors import PreflightError
from backbones.base.wording import first_of
from backbones.checkpoint import FRESH, Checkpoint
from backbones.spec import BackboneSpec
from backbones.weights.foreign import read_foreign
from backbones.weights.loading import build_backbone
from detection.config import DetectionConfig
from detection.data.dataset import CocoData
from detection.data.facts import read_facts
from detection.model.detector import build_detector
from detection.protocols import build_options

# What an exported file keeps next to its tensors.
NOTES = "backbench"
MASK_HEAD = "roi_heads.mask_head."
_TENSORS = "model"
# In a training state, the detector is a part of the objective, which is a part of the state.
_MODEL, _OBJECTIVE = "model.", "detector."
_BOXES = "roi_heads.box_predictor."
_MASKS = "roi_heads.mask_head.predictor."


@dataclass(frozen=True)
class DetectorStart:
    """A trained detector.

    Attributes:
        path: A training state, or a file that ``detection.trained.export_detector`` wrote.
        sha256: From ``digest``.
        class_names: In order of its class index.
    """

    path: Path
    sha256: str
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class Filled:
    """What a detector took from another one.

    Attributes:
        count: Number of tensors that were taken.
        fresh: Names of the parts that stay fresh, with the reason.
        left: Names of the parts of the other detector that have no place here.
    """

    count: int
    fresh: tuple[str, ...]
    left: tuple[str, ...]

    def sentence(self) -> str:
        """Return it in words, without a full stop."""
        fresh = f"fresh: {', '.join(self.fresh)}" if self.fresh else "nothing is fresh"
        left = f"; left out: {', '.join(self.left)}" if self.left else ""
        return f"{self.count} tensors taken from the detector; {fresh}{left}"


def detector_tensors(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of a detector by their names in it.

    Args:
        content: Of a training state, or of an exported file.
    """
    inner = content.get(_TENSORS)
    if isinstance(inner, Mapping):
        return {name: value for name, value in inner.items() if isinstance(value, Tensor)}
    return {
        name.removeprefix(_MODEL).removeprefix(_OBJECTIVE): value
        for name, value in content.items()
        if name.startswith(_MODEL)
    }


def look_into(path: Path, class_names: Sequence[str] | None = None) -> tuple[DetectorStart, Any]:
    """Return a detector of a file, and the notes of an exported one.

    Args:
        path: The file.
        class_names: Its classes; None takes them from the notes.

    Raises:
        PreflightError: The file cannot be read, or holds no detector that this program exported.
    """
    content = read_foreign(path)
    tensors, notes = detector_tensors(content), content.get(NOTES)
    if class_names is None:
        try:
            class_names = [category["name"] for category in notes["categories"]]  # type: ignore[index]
        except (KeyError, TypeError) as error:
            raise PreflightError(
                f"{path} is not a detector that run.py exported (it has no {NOTES!r}); write one "
                "with run.py export RUN --format detectron2 --to FILE."
            ) from error
    return DetectorStart(path, digest(tensors, class_names), tuple(class_names)), notes


def digest(tensors: Mapping[str, Tensor], class_names: Sequence[str]) -> str:
    """Return the hex SHA-256 of a detector: names and values of its tensors, names of its classes.

    A training state and a file exported from it have the same.
    """
    found = sha256("\n".join(class_names).encode())
    for name in sorted(tensors):
        value = tensors[name].detach().contiguous()
        found.update(f"\n{name} {value.dtype} {tuple(value.shape)}\n".encode())
        found.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def planned(
    start: DetectorStart, spec: BackboneSpec, config: DetectionConfig, data: CocoData, cache: Path
) -> Filled:
    """Return what a training would take from a detector.

    Args:
        start: The detector.
        spec: Of the backbone that is trained.
        config: Its recipe, resolved and fitted.
        data: What it is trained on.
        cache: Folder for what is known of data.

    Raises:
        PreflightError: The detector does not fit, or the data cannot be used.
    """
    facts = read_facts(data, cache)
    net, _ = build_backbone(
        spec, Checkpoint(spec.name, None, FRESH), build_options(config, spec), seed=0
    )
    known = (len(facts.class_names), facts.has_masks)
    return fill(build_detector(net, spec, config, known, seed=0), start, facts.class_names)


def fill(detector: nn.Module, start: DetectorStart, class_names: Sequence[str]) -> Filled:
    """Give a detector the weights of another one, all but those that depend on other classes.

    Layers with an output for each class stay fresh unless both detectors have the same classes in
    the same order. The mask head stays fresh where the other detector has none, and is left out
    where this one has none.

    Args:
        detector: Freshly built.
        start: The other one.
        class_names: Classes of ``detector``.

    Raises:
        PreflightError: The file changed, or its tensors are not those of this detector.
    """
    given = detector_tensors(read_foreign(start.path))
    if digest(given, start.class_names) != start.sha256:
        raise PreflightError(
            f"{start.path} changed since the plan was made; run the command again."
        )
    own = detector.state_dict()
    fresh: list[str] = []
    left: list[str] = []
    if tuple(class_names) != start.class_names:
        of_classes = {name for name in own if _depends_on_classes(detector, name)}
        given = {n: v for n, v in given.items() if not _depends_on_classes(detector, n)}
        own = {n: v for n, v in own.items() if n not in of_classes}
        fresh.append(f"the outputs by class (classes here: {first_of(list(class_names))})")
    here, there = (any(n.startswith(MASK_HEAD) for n in names) for names in (own, given))
    if here != there:
        (fresh if here else left).append("the mask head")
        own, given = _without_masks(own), _without_masks(given)
    _refuse_misfits(own, given)
    detector.load_state_dict(given, strict=False)
    return Filled(len(given), tuple(fresh), tuple(left))


def _without_masks(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in tensors.items() if not name.startswith(MASK_HEAD)}


def _depends_on_classes(detector: nn.Module, name: str) -> bool:
    if name.startswith(_BOXES):
        # The stages of a cascade have one box for all classes (detectron2's ``cls_agnostic_bbox``).
        stages = isinstance(detector.get_submodule(_BOXES.rstrip(".")), nn.ModuleList)
        return ".cls_score." in name or not stages
    return name.startswith(_MASKS)


def _refuse_misfits(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    missing = [name for name in own if name not in given]
    spare = [name for name in given if name not in own]
    shapes = [n for n in own if n in given and own[n].shape != given[n].shape]
    if not (missing or spare or shapes):
        return
    if shapes:
        name = shapes[0]
        first = f"{name} has shape {tuple(given[name].shape)}, not {tuple(own[name].shape)}"
    else:
        first = f"{missing[0]} is missing" if missing else f"{spare[0]} has no place"
    raise PreflightError(
        f"its tensors are not those of this detector ({len(missing)} missing, {len(spare)} left "
        f"over, {len(shapes)} of another shape; first: {first})."
    )
