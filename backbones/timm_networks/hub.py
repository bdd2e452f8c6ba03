"""timm's pretrained weights: which there are, and the file, cached or downloaded."""

from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import timm
import torch
from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
from timm.models import get_pretrained_cfg

from backbones.base.errors import PreflightError, UserError
from backbones.base.files import sha256_file
from backbones.base.registry import did_you_mean
from backbones.checkpoint import Checkpoint

# In timm's order of preference.
_FILE_NAMES = ("model.safetensors", "pytorch_model.bin")

# Offline must be known in seconds; a download that has begun may take as long as it likes.
_SECONDS_TO_ANSWER = 5.0


def arch_of(name: str) -> str:
    """Return a timm name without its pretrained tag."""
    return name.partition(".")[0]


def pretrained_config(name: str) -> Any:
    """Return timm's record of the pretrained weights of ``name`` (mean, std, where they lie).

    Args:
        name: As timm lists it; without a tag, timm's default one.

    Raises:
        UserError: timm has no such network, or nothing under that tag.
    """
    arch, _, tag = name.partition(".")
    if not timm.is_model(arch):
        guess = with_tag(arch) or did_you_mean(arch, timm.list_models(), prefix="timm:")
        raise UserError(f'timm {timm.__version__} has no network "{arch}".{guess}')
    try:
        config = get_pretrained_cfg(name)
    except RuntimeError as error:
        tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{arch}.*")]
        raise UserError(
            f"timm has no weights {tag!r} for {arch}; it has: {', '.join(tags) or 'none'}."
        ) from error
    return config


def is_timm_name(name: str) -> bool:
    """Tell whether timm has a network of that name, with or without a pretrained tag."""
    return bool(timm.is_model(arch_of(name)))


def with_tag(name: str) -> str:
    """Return the question whether a tag was meant that stands behind a dot, "" where none was.

    Other weights than were asked for are never suggested: a known network behind unknown words is
    answered with the tags that it has.
    """
    words = name.split("_")
    for count in range(len(words) - 1, 0, -1):
        arch, tag = "_".join(words[:count]), "_".join(words[count:])
        if not timm.is_model(arch):
            continue
        tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{arch}.*")]
        if tag in tags:
            return f' Did you mean "timm:{arch}.{tag}"?'
        return f" {arch} has the weights {', '.join(tags) or 'none'}, written {arch}.TAG."
    return ""


def fetch_pretrained(name: str) -> Checkpoint:
    """Return timm's pretrained weights, from the local cache or else downloaded into it.

    Args:
        name: As timm lists it.

    Raises:
        UserError: timm has no such network, no such tag, or no weights for it.
        PreflightError: They are not in the cache and cannot be downloaded.
    """
    config = pretrained_config(name)
    if not config.hf_hub_id and not config.url:
        raise UserError(f"timm has no pretrained weights for {name}; use random:timm:{name}.")
    path = _cached(config) or _download(name, config)
    return Checkpoint(
        backbone=f"timm:{name}",
        path=path,
        sha256=sha256_file(path),
        format="timm",
        method="pretrained",
        data=config.tag or "",
        img_size=config.input_size[-1],
        licence=config.license or "",
    )


def _cached(config: Any) -> Path | None:
    if config.hf_hub_id:
        for file_name in _hub_files(config):
            found = try_to_load_from_cache(config.hf_hub_id, file_name)
            if isinstance(found, str):
                return Path(found)
    if config.url:
        path = Path(torch.hub.get_dir()) / "checkpoints" / Path(config.url).name
        return path if path.is_file() else None
    return None


def _hub_files(config: Any) -> tuple[str, ...]:
    return (config.hf_hub_filename,) if config.hf_hub_filename else _FILE_NAMES


def _download(name: str, config: Any) -> Path:
    reason = why_unreachable() if config.hf_hub_id else "timm names no file on its hub for them"
    for file_name in () if reason else _hub_files(config):
        try:
            return Path(hf_hub_download(config.hf_hub_id, file_name))
        except Exception as error:  # the client's errors have no common base
            reason = str(error).partition("\n")[0].rstrip(".")
    raise PreflightError(
        f"timm:{name}: its weights are not in the local cache and cannot be downloaded ({reason}); "
        f"set HF_HOME to a folder that holds them, name a file (ckpt:FILE?arch=timm:{name}"
        f"&format=timm), or start from fresh weights (random:timm:{name})."
    )


def why_unreachable() -> str:
    """Return why the hub gives no answer, "" if it does; its client would try for a minute."""
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    try:
        request = Request(constants.ENDPOINT, method="HEAD")
        urlopen(request, timeout=_SECONDS_TO_ANSWER).close()
    except HTTPError:
        return ""  # any answer is one
    except OSError as error:
        return f"no connection: {getattr(error, 'reason', error)}"
    return ""
