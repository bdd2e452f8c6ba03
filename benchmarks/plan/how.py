"""Settings of how a run is done, under the names that people know them by."""

from collections.abc import Sequence
from typing import Any

from backbones.base.errors import UserError
from backbones.spec import BackboneSpec
from benchmarks.overrides import apply_overrides
from benchmarks.task import Task

_BY_RECIPE, _HELD = "schedule.batch_size_per_device", "schedule.micro_batch"


def without_effect(
    task: Task, named: Any, backbone: BackboneSpec, overrides: Sequence[str]
) -> list[str]:
    """Return overrides in which what changes no result is said outside the run's identity.

    ``schedule.batch_size_per_device`` becomes ``schedule.micro_batch`` where the images of a
    micro-batch do not depend on each other.

    Args:
        task: Of the run.
        named: The recipe without overrides.
        backbone: The network.
        overrides: Texts ``section.field=value``.

    Raises:
        UserError: A number of images is not possible, or would change the results where it must
            not.
    """
    keys = [text.partition("=")[0] for text in overrides]
    if not {_BY_RECIPE, _HELD} & set(keys):
        return list(overrides)
    others = [t for t, key in zip(overrides, keys, strict=True) if key not in (_BY_RECIPE, _HELD)]
    config = apply_overrides(named, others)
    held = task.held(config, backbone)
    if held is None:
        return list(overrides)
    batch_size = config.schedule.batch_size
    found = []
    for text, key in zip(overrides, keys, strict=True):
        if key == _HELD and (images := apply_overrides(named, [text]).schedule.micro_batch):
            held.refuse(images, backbone.name)
        if key == _BY_RECIPE:
            images = _images(named, text, batch_size)
            if held.compared and images != held.by_recipe:
                raise UserError(
                    f"{text}: not supported, because {held.fixed}: a process holds its share of "
                    f"{held.compared}, whatever their number. Use model.compared=N to compare "
                    "fewer, which makes another protocol."
                )
            if batch_size % held.by_recipe == 0 and held.allows(images):
                text = f"{_HELD}={images}"
        found.append(text)
    return found


def _images(named: Any, text: str, batch_size: int) -> int:
    """Return the number in an override of what a device holds at once."""
    images: int = apply_overrides(named, [text]).schedule.batch_size_per_device
    if batch_size % images:
        raise UserError(
            f"{_BY_RECIPE}: {images} is not supported; use a divisor of schedule.batch_size "
            f"({batch_size})."
        )
    return images
