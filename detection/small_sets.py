"""What a detection recipe becomes on the data that it is run on.

Epochs were chosen for COCO's 117,266 training images. On 205 images ViTDet's 25 epochs are 80
steps, in which no detector learns anything.
"""

import re
from dataclasses import replace

from detection.config import DetectionConfig
from detection.schedule import images_in_use, num_steps

# Steps of batches as the recipe has them. The shortest published run here takes 1,832 (ViTDet, 100
# epochs of 1 % of COCO), so no recipe on COCO or on a hundredth of it is longer for this.
FEWEST_STEPS = 1_000
# COCO's own; more detections than this are another protocol.
USUAL_DETECTIONS = 100
_START = "from-"


def lengthened(config: DetectionConfig, num_train: int) -> DetectionConfig | None:
    """Return the recipe with epochs enough for ``FEWEST_STEPS``; None where it has them.

    Args:
        config: Checked.
        num_train: Training images with objects.
    """
    in_use = images_in_use(config.data, num_train)
    if num_steps(config.schedule, in_use) >= FEWEST_STEPS:
        return None
    epochs = FEWEST_STEPS * config.schedule.batch_size / in_use
    longer = replace(config, schedule=replace(config.schedule, epochs=epochs))
    return replace(longer, protocol=varied(config.protocol, f"{FEWEST_STEPS}steps"))


def with_more_detections(config: DetectionConfig) -> DetectionConfig:
    """Return the recipe under a protocol of its own where more detections than COCO's count."""
    most = config.evaluation.detections_per_image
    if most <= USUAL_DETECTIONS:
        return config
    return replace(config, protocol=varied(config.protocol, f"{most}dets"))


def begun_with(protocol: str, digits: str) -> str:
    """Return a protocol's id whose training begins with a trained detector.

    Args:
        protocol: Id of a protocol.
        digits: What identifies the training of that detector.
    """
    return varied(protocol, f"{_START}{digits}")


def without_start(protocol: str) -> str:
    """Return the id of a protocol without the mark of ``begun_with``."""
    return re.sub(rf"\+{_START}[0-9a-f]+", "", protocol)


def without_steps(protocol: str) -> str:
    """Return the id of a protocol without the mark of ``lengthened``."""
    return protocol.replace(f"+{FEWEST_STEPS}steps", "")


def varied(protocol: str, variant: str) -> str:
    """Return a protocol's id with a variant, once, in front of the mark of overrides.

    Args:
        protocol: Id of a protocol.
        variant: What is different, without a plus.
    """
    base, mark, digits = protocol.partition("+custom:")
    return protocol if f"+{variant}" in base else f"{base}+{variant}{mark}{digits}"
