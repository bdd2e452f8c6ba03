"""Which values a detection config may have, alone and beside each other."""

from typing import TYPE_CHECKING

from backbones.base.errors import UserError

if TYPE_CHECKING:
    from detection.config import DetectionConfig

AUGMENTATIONS = ("lsj", "multiscale", "multiscale-crop")
DETECTORS = ("mask-rcnn", "cascade-mask-rcnn")
DECAY_RULES = ("vitdet", "names", "everything", "weights")
SIZE_DIVISIBILITY = 32


def problems(config: "DetectionConfig") -> list[str]:
    """Return one sentence per impossible value."""
    return [
        *_choices(config),
        *_ranges(config),
        *_sizes(config),
    ]


def _choices(config: "DetectionConfig") -> list[str]:
    norms = ("", "LN", "GN", "BN", "SyncBN")
    allowed: list[tuple[str, str, tuple[str, ...]]] = [
        ("data.augmentation", config.data.augmentation, AUGMENTATIONS),
        ("model.detector", config.model.detector, DETECTORS),
        ("model.neck_norm", config.model.neck_norm, norms),
        ("model.head_norm", config.model.head_norm, norms),
        ("optim.optimizer", config.optim.optimizer, ("adamw", "sgd")),
        ("optim.lr_scaling", config.optim.lr_scaling, ("none", "linear", "sqrt")),
        ("optim.decay_rule", config.optim.decay_rule, DECAY_RULES),
        ("schedule.decay", config.schedule.decay, ("step", "cosine")),
        ("schedule.precision", config.schedule.precision, ("fp32", "bf16")),
        ("evaluation.split", config.evaluation.split, ("train", "val")),
    ]
    frozen_layers(config.model.freeze, 0)
    return [
        f"{name} is {value!r}, it can be one of {', '.join(map(repr, choices))}"
        for name, value, choices in allowed
        if value not in choices
    ]


def _ranges(config: "DetectionConfig") -> list[str]:
    data, model, optim = config.data, config.model, config.optim
    schedule, evaluation = config.schedule, config.evaluation
    by_depth = [("model.drop_path", model.drop_path), ("optim.layer_decay", optim.layer_decay)]
    wrong = [
        ("data.train_fraction must lie in (0, 1]", not 0 < data.train_fraction <= 1),
        ("data.flip must lie in [0, 1]", not 0 <= data.flip <= 1),
        (
            "data.scale_range must rise from above 0",
            not 0 < data.scale_range[0] <= data.scale_range[1],
        ),
        ("optim.base_lr must be above 0", not optim.base_lr > 0),
        ("optim.reference_batch_size must be at least 1", optim.reference_batch_size < 1),
        ("optim.betas must lie in [0, 1)", not all(0 <= beta < 1 for beta in optim.betas)),
        ("optim.momentum must lie in [0, 1)", not 0 <= optim.momentum < 1),
        ("optim.weight_decay must be at least 0", not optim.weight_decay >= 0),
        ("optim.clip_norm must be at least 0", not optim.clip_norm >= 0),
        ("schedule.epochs must be above 0", not schedule.epochs > 0),
        ("schedule.batch_size must be at least 1", schedule.batch_size < 1),
        ("schedule.batch_size_per_device must be at least 1", schedule.batch_size_per_device < 1),
        (
            "schedule.batch_size must be a multiple of schedule.batch_size_per_device",
            bool(schedule.batch_size % max(1, schedule.batch_size_per_device)),
        ),
        ("schedule.drops must rise within (0, 1)", not _rises(schedule.drops)),
        ("model.box_fcs needs at least one width", not model.box_fcs),
        (
            "evaluation.batch_size_per_device must be at least 1",
            evaluation.batch_size_per_device < 1,
        ),
        ("evaluation.every_epochs must be at least 0", not evaluation.every_epochs >= 0),
    ]
    wrong += [(f"{name} holds one value or three", len(v) not in (1, 3)) for name, v in by_depth]
    return [text for text, is_wrong in wrong if is_wrong]


def _rises(values: tuple[float, ...]) -> bool:
    return all(0 < a < 1 for a in values) and list(values) == sorted(set(values))


def _sizes(config: "DetectionConfig") -> list[str]:
    size, evaluation = config.data.img_size, config.evaluation
    wrong = [
        (
            f"data.img_size is {size}, it must be a multiple of {SIZE_DIVISIBILITY}",
            size % SIZE_DIVISIBILITY != 0 or size < SIZE_DIVISIBILITY,
        ),
        (
            f"evaluation.max_size {evaluation.max_size} does not fit the padded square of "
            f"data.img_size {size}",
            config.data.square and evaluation.max_size > size,
        ),
        (
            f"data.augmentation {config.data.augmentation!r} makes images of up to "
            f"{config.data.max_size}, which do not fit the padded square of data.img_size {size}",
            config.data.square
            and config.data.augmentation != "lsj"
            and config.data.max_size > size,
        ),
        (
            "model.roi_levels must be consecutive and among model.rpn_levels",
            not set(config.model.roi_levels) <= set(config.model.rpn_levels)
            or not _consecutive(config.model.roi_levels)
            or not _consecutive(config.model.rpn_levels),
        ),
    ]
    return [text for text, is_wrong in wrong if is_wrong]


def _consecutive(levels: tuple[int, ...]) -> bool:
    return bool(levels) and list(levels) == list(range(levels[0], levels[0] + len(levels)))


def frozen_layers(freeze: str, num_layers: int) -> int:
    """Return how many layer-decay layers stay frozen, counted from the stem.

    Args:
        freeze: As in ``ModelConfig``.
        num_layers: Of the backbone; "all" freezes them, the stem and what follows them.

    Raises:
        UserError: ``freeze`` is none of the forms.
    """
    fixed = {"none": 0, "stem": 1, "all": num_layers + 2}
    if freeze in fixed:
        return fixed[freeze]
    kind, _, count = freeze.partition("-")
    if kind != "first" or not count.isdecimal():
        raise UserError(f"model.freeze is {freeze!r}; it can be none, stem, all or first-K.")
    return min(int(count) + 1, num_layers + 2)
