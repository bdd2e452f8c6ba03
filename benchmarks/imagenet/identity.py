"""What decides the course of a run on a frozen backbone, so that no run goes on from another's."""

import hashlib

from backbones.files import canonical_json
from benchmarks.imagenet.extract import Frozen
from benchmarks.overrides import as_plain
from benchmarks.task import TaskInputs


def identity_of(inputs: TaskInputs, frozen: Frozen, fingerprint: str) -> dict[str, str]:
    """Return it, by words that a person understands, as ``StateFolder`` compares it.

    Args:
        inputs: Of the run.
        frozen: The backbone with its weights.
        fingerprint: Of the images.
    """
    recipe = canonical_json(as_plain(inputs.config)).encode()
    return {
        "recipe": hashlib.sha256(recipe).hexdigest()[:16],
        "backbone": f"{frozen.spec.name} {frozen.identity}",
        "data": fingerprint,
        "limit": str(inputs.limit_images),
        "seed": str(inputs.seed),
    }
