"""What makes two pretraining runs the same run, in words for people."""

from dataclasses import replace

from backbones.base.errors import PreflightError, UserError
from backbones.base.sections import as_plain
from backbones.checkpoint import Checkpoint
from backbones.training.state import settings_digest
from pretrain.config import PretrainConfig
from pretrain.data.images import ImageSet
from pretrain.method import Method
from pretrain.objective_file import OBJECTIVE

# Settings that change how the work is done, how often something is written, or when a run gives up,
# but no weight.
_OUTSIDE_IDENTITY: dict[str, tuple[str, ...]] = {
    "runtime": (),
    "schedule": ("checkpoint_epochs", "state_images"),
    "data": ("max_corrupt",),
}


def identity_of(
    config: PretrainConfig, backbone: str, images: ImageSet, seed: int, init_from: Checkpoint | None
) -> dict[str, str]:
    """Return all that decides the course of a training.

    Args:
        config: Resolved.
        backbone: Its name.
        images: In use.
        seed: Of the run.
        init_from: The first weights, if any.
    """
    schedule = config.schedule
    compared = config.model.compares(schedule.batch_size)
    # States of before compared fewer images unless a device held the whole batch.
    said = compared and compared != schedule.batch_size_per_device
    return {
        **({"images compared": str(compared)} if said else {}),
        "method": config.method,
        "backbone": backbone,
        "protocol": config.protocol,
        "settings": settings_hash(config),
        "images": images.fingerprint,
        "seed": str(seed),
        "first weights": _first_weights(init_from),
    }


def _first_weights(init_from: Checkpoint | None) -> str:
    if init_from is None:
        return "fresh"
    content = init_from.sha256[:16]
    if init_from.format == OBJECTIVE:
        return content
    how = init_from.layout + (f"&branch={init_from.branch}" if init_from.branch else "")
    return f"{content}, encoder as {how}"


def settings_hash(config: PretrainConfig) -> str:
    """Return a hash of all settings that decide the weights."""
    return settings_digest(as_plain(config), _OUTSIDE_IDENTITY)[:16]


def with_classes(config: PretrainConfig, method: Method, images: ImageSet) -> PretrainConfig:
    """Fill the number of classes in where the method learns from them.

    Raises:
        PreflightError: Some images have a class and some have none.
        UserError: The images have no classes, or more than the config says.
    """
    if not method.needs_classes:
        return config
    if images.partly_classed:
        raise PreflightError(f"{method.name} learns from classes: {images.partly_classed}")
    if not images.classes:
        raise UserError(
            f"{method.name} learns from classes, and {images.name} has none: use a folder with a "
            "subfolder a class, a list with the class behind a tab, or shards with .cls files."
        )
    known = config.data.num_classes or len(images.classes)
    if known < len(images.classes):
        raise UserError(
            f"{images.name} has {len(images.classes)} classes, more than data.num_classes {known}."
        )
    return replace(config, data=replace(config.data, num_classes=known))
