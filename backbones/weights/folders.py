"""Folders that libraries save models in: settings next to weights. Imports no torch."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from backbones.base.errors import PreflightError
from backbones.base.files import sha256_file
from backbones.weights.layout import Rgb

# In the order in which transformers and timm look for them.
WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
# Folders of other programs by a file in them, each with what to do.
_OTHER_FOLDERS = {
    "adapter_config.json": (
        "a folder of adapters (LoRA or similar); merge them into the weights (merge_and_unload of "
        "peft), save those and name their folder"
    ),
    "zero_to_fp32.py": (
        "a folder of DeepSpeed; run python zero_to_fp32.py FOLDER OUT in it and name what it writes"
    ),
    "*_model_states.pt": (
        "a folder of DeepSpeed; run zero_to_fp32.py in the folder above and name what it writes"
    ),
    "saved_model.pb": "a folder of TensorFlow; save its weights with PyTorch's names",
}
CONFIG = "config.json"
PREPROCESSOR = "preprocessor_config.json"
INDEX = ".index.json"


@dataclass(frozen=True)
class Folder:
    """A weights file and what lies next to it.

    Attributes:
        weights: The file, or the index of its shards.
        config: Of ``config.json``.
        norm: Mean and standard deviation that the settings state.
    """

    weights: Path
    config: Mapping[str, Any] = field(default_factory=dict)
    norm: tuple[Rgb, Rgb] | None = None

    @property
    def architecture(self) -> str:
        """Return the backbone that timm's settings name, "" where they are not timm's."""
        name = self.config.get("architecture")
        return f"timm:{name}" if isinstance(name, str) and "pretrained_cfg" in self.config else ""

    @cached_property
    def sha256(self) -> str:
        """Return the checksum of the weights; of an index, that of its shards' checksums."""
        return sha256_weights(self.weights)


def open_folder(path: Path) -> Folder:
    """Return the weights in a folder of ``save_pretrained`` or of timm's hub.

    Raises:
        PreflightError: It holds none, or its settings cannot be read.
    """
    found = [path / name for name in WEIGHTS if (path / name).is_file()]
    if not found:
        if (path / ".metadata").is_file():
            raise PreflightError(
                f"{path} is a folder of torch.distributed.checkpoint; turn it into one file with "
                "torch.distributed.checkpoint.format_utils.dcp_to_torch_save(FOLDER, FILE)."
            )
        for mark, advice in _OTHER_FOLDERS.items():
            if any(path.glob(mark)):
                raise PreflightError(f"{path} is {advice}.")
        raise PreflightError(
            f"{path} is a folder without weights; it must hold one of {', '.join(WEIGHTS[:2])} and "
            f"{WEIGHTS[4]}, or name a file in it."
        )
    return _with_settings(found[0])


def folder_of(weights: Path) -> Folder:
    """Return a weights file with the settings of the folder that a library saved it in.

    Only files with the names that libraries give belong to the settings next to them.

    Raises:
        PreflightError: The settings cannot be read.
    """
    named_so = weights.name in WEIGHTS and (weights.parent / CONFIG).is_file()
    return _with_settings(weights) if named_so else Folder(weights)


# Arguments of timm's networks that change nothing of how their features are computed.
_HARMLESS = frozenset(
    {
        "drop_path_rate",
        "drop_rate",
        "dynamic_img_size",
        "global_pool",
        "img_size",
        "num_classes",
        "pretrained",
        "strict_img_size",
    }
)
_POOLS = ("avg", "token", "map", "fast", "")


def _refuse_arguments(path: Path, config: Mapping[str, Any]) -> None:
    """Raise for a network of timm that was built with arguments that its name does not tell."""
    if "pretrained_cfg" not in config:
        return
    arguments = config.get("model_args")
    for name, value in arguments.items() if isinstance(arguments, dict) else ():
        if name not in _HARMLESS:
            raise PreflightError(
                f"{path} states model_args {name}={value!r}, which no network of that name has by "
                "itself; use weights of a network that timm has under a name of its own."
            )
    pool = config.get("global_pool", "avg")
    if pool not in _POOLS:
        raise PreflightError(
            f"{path} states global_pool {pool!r}, which is not supported; use weights that were "
            "trained with timm's own pooling of the network."
        )


def _with_settings(weights: Path) -> Folder:
    config = _read(weights.parent / CONFIG)
    _refuse_arguments(weights.parent / CONFIG, config)
    return Folder(weights, config, _norm(config, _read(weights.parent / PREPROCESSOR)))


def sha256_weights(path: Path) -> str:
    """Return the checksum of a weights file; of an index, that of its shards' checksums.

    Raises:
        PreflightError: A file cannot be read.
    """
    if not path.name.endswith(INDEX):
        return sha256_file(path)
    digests = "".join(sha256_file(shard) for shard in shards_of(path))
    return hashlib.sha256(digests.encode()).hexdigest()


def shards_of(index: Path) -> list[Path]:
    """Return the files that an index names, in order.

    Raises:
        PreflightError: The index cannot be read, or a shard is absent.
    """
    shards = [index.parent / name for name in named_shards(index)]
    absent = [shard.name for shard in shards if not shard.is_file()]
    if absent:
        raise PreflightError(f"{index} names {absent[0]}, which is absent; download it too.")
    return shards


def named_shards(index: Path) -> list[str]:
    """Return the names of the files in an index.

    Raises:
        PreflightError: The index cannot be read.
    """
    try:
        names = json.loads(index.read_text("utf-8"))["weight_map"].values()
        return sorted({Path(str(name)).name for name in names})
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise PreflightError(f"{index} is not the index of a sharded checkpoint.") from error


def settings_of(weights: Path, model_types: tuple[str, ...]) -> dict[str, Any]:
    """Return, as ``{"config": …}``, the settings next to a weights file of one of some models.

    Raises:
        PreflightError: They cannot be read.
    """
    if not model_types:
        return {}
    config = _read(weights.parent / CONFIG)
    return {"config": config} if config.get("model_type") in model_types else {}


def _read(path: Path) -> dict[str, Any]:
    """Return the settings in a JSON file, empty if it does not exist."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise PreflightError(f"{path} cannot be read as JSON; download it again.") from error
    if not isinstance(content, dict):
        raise PreflightError(f"{path} must hold a JSON object, not a {type(content).__name__}.")
    return content


def _norm(config: Mapping[str, Any], preprocessor: Mapping[str, Any]) -> tuple[Rgb, Rgb] | None:
    """Return the normalisation that transformers' or timm's settings state."""
    ours = config.get("pretrained_cfg")
    places = [(preprocessor, "image_mean", "image_std")]
    places += [(ours, "mean", "std")] if isinstance(ours, dict) else []
    for settings, mean, std in places:
        first, second = _three(settings.get(mean)), _three(settings.get(std))
        if first and second:
            return first, second
    return None


def _three(values: Any) -> Rgb | None:
    numbers = isinstance(values, list) and len(values) == 3
    if not numbers or not all(isinstance(value, int | float) for value in values):
        return None
    return (float(values[0]), float(values[1]), float(values[2]))
