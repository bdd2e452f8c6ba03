"""Our own weights files: safetensors with a JSON record beside, written whole or not at all."""

from pathlib import Path

from msgspec.structs import replace
from safetensors import SafetensorError
from safetensors.torch import load, load_file, save
from torch import Tensor, nn

from backbones.base.errors import PreflightError
from backbones.base.files import sha256_file, write_atomically
from backbones.checkpoint import OWN_FORMAT, Checkpoint, header_of, record_path, write_record
from backbones.timm_networks.backbone import TimmBackbone
from backbones.timm_networks.positions import rule_of
from backbones.vit.positions_rule import name_of_rule


def save_weights(module: nn.Module, path: Path, record: Checkpoint) -> Checkpoint:
    """Write a module's state and its record, each atomically.

    A crash between the two leaves weights that their record does not describe, which
    ``checkpoint.read_record`` refuses; hence the old record goes first.

    Args:
        module: Its ``state_dict()`` is stored, every tensor contiguous on the CPU.
        path: The weights file, suffix ``.safetensors``; the record takes ``.json``.
        record: What made the weights; its path, sha256, format and position rule are filled in
            here. The facts that decide how the weights are used also stand in the file's header.

    Returns:
        The record as written.

    Raises:
        PreflightError: The disk is full, or the folder cannot be written.
    """
    net = module.net if isinstance(module, TimmBackbone) else module
    imported = record.format if record.path and record.format != OWN_FORMAT else record.origin
    facts = replace(
        record,
        path=path,
        format=OWN_FORMAT,
        branch="",
        key="",
        prefix="",
        positions=name_of_rule(rule_of(net)),
        origin=imported,
    )
    # One entry only: safetensors writes several in any order, and equal weights are equal bytes.
    content = save(_tensors(module), metadata=header_of(facts))

    record_path(path).unlink(missing_ok=True)
    write_atomically(path, content)
    written = replace(facts, sha256=sha256_file(path))
    write_record(written)
    return written


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, on the CPU.

    Raises:
        PreflightError: The file cannot be read, or is truncated or no safetensors file.
    """
    try:
        tensors: dict[str, Tensor] = (
            # safetensors opens only names that are UTF-8.
            load_file(path) if _is_utf8(path) else load(path.read_bytes())
        )
    except SafetensorError as error:
        raise PreflightError(
            f"{path} is truncated or no safetensors file ({error}); download or copy it again."
        ) from error
    except OSError as error:
        raise PreflightError(f"{path} cannot be read: {error.strerror or error}.") from error
    return tensors


def _is_utf8(path: Path) -> bool:
    return not any("\udc80" <= letter <= "\udcff" for letter in str(path))


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return the state on the CPU, no two tensors in one storage, which safetensors refuses."""
    tensors: dict[str, Tensor] = {}
    storages: set[int] = set()
    for name, value in module.state_dict().items():
        tensor = value.detach().cpu().contiguous()
        if tensor.untyped_storage().data_ptr() in storages:
            tensor = tensor.clone()
        storages.add(tensor.untyped_storage().data_ptr())
        tensors[name] = tensor
    return tensors
