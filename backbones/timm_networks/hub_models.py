"""Models of the Hugging Face hub and of torchvision: their files, cached or downloaded."""

from pathlib import Path
from urllib.parse import urlparse

import torch
import torchvision
from huggingface_hub import hf_hub_download, try_to_load_from_cache

from backbones.base.errors import PreflightError, UserError
from backbones.base.registry import did_you_mean
from backbones.timm_networks.hub import why_unreachable
from backbones.weights.folders import CONFIG, INDEX, PREPROCESSOR, WEIGHTS, named_shards


def fetch_model(name: str, source: str) -> Path:
    """Return the folder of a hub model's weights and settings, from the cache or downloaded.

    Args:
        name: ``OWNER/NAME``.
        source: What the user typed, for messages.

    Raises:
        UserError: It has another form.
        PreflightError: The model is not in the local cache and cannot be downloaded.
    """
    if name.count("/") != 1 or not all(name.split("/")):
        raise UserError(
            f"{source}: a model of the hub is named OWNER/NAME, as facebook/dinov2-base."
        )
    found = [path for file in WEIGHTS if (path := _cached(name, file))]
    weights = found[0] if found else _download(name, source)
    further = list(named_shards(weights)) if weights.name.endswith(INDEX) else []
    for file in (CONFIG, PREPROCESSOR, *further):
        if _cached(name, file) is None:
            _try(name, file)
    return weights.parent


def fetch_torchvision(name: str) -> Path:
    """Return the file of a torchvision network's default weights, cached or downloaded.

    Args:
        name: As torchvision lists it, as ``resnet50``.

    Raises:
        UserError: torchvision has no such network.
        PreflightError: The file is not in the local cache and cannot be downloaded.
    """
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise UserError(
            f'torchvision has no network "{name}".{did_you_mean(name, known, prefix="tv:")}'
        )
    url = torchvision.models.get_model_weights(name).DEFAULT.url
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name
    if path.is_file():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), progress=False)
    except Exception as error:  # urllib's and the system's errors have no common base
        raise PreflightError(
            f"tv:{name}: {path.name} is not in the local cache and cannot be downloaded "
            f"({error}); put it into {path.parent}, or name a file with ckpt:."
        ) from error
    return path


def _cached(name: str, file: str) -> Path | None:
    found = try_to_load_from_cache(name, file)
    return Path(found) if isinstance(found, str) else None


def _try(name: str, file: str) -> None:
    """Download a file that a model may lack."""
    if why_unreachable():
        return
    try:
        hf_hub_download(name, file)
    except Exception:  # not every model has it; the client's errors have no common base
        return


def _download(name: str, source: str) -> Path:
    reason = why_unreachable()
    for file in () if reason else WEIGHTS:
        try:
            return Path(hf_hub_download(name, file))
        except Exception as error:  # the client's errors have no common base
            reason = str(error).partition("\n")[0].rstrip(".")
    raise PreflightError(
        f"{source}: the model is not in the local cache and cannot be downloaded ({reason}); set "
        "HF_HOME to a folder that holds it, or name its folder with ckpt:FOLDER."
    )
