"""Recorded networks of other projects: numbers drawn by name, files written from them, comparisons.

A recorded ``.npz`` holds, for a tiny network of one project's own code: names and shapes of its
state dict, where dictionaries stand around it (separated by ``/``), buffers that are not drawn, and
what the code computes in float32 from the weights and images drawn here. ``source`` names
repository and commit, or library and version.
"""

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from backbones.catalog import spec_for
from backbones.features import Backbone
from backbones.spec import BuildOptions
from backbones.weights.loading import build_backbone
from backbones.weights.source import open_checkpoint

HERE = Path(__file__).parent
SCALES = ("weight", "gamma", "gamma_1", "gamma_2")


def drawn(name: str, shape: list[int]) -> torch.Tensor:
    """Return the numbers of a tensor by its name: the same here and beside the original code."""
    value = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    if name.endswith("running_var"):
        value = np.abs(value) + 0.5
    elif len(shape) == 1 and name.endswith(SCALES):
        value = 1 + 0.2 * value
    elif len(shape) < 2:
        value = 0.1 * value
    elif name.endswith(("weight", "proj", "lin.weight")) and "table" not in name:
        value = value / np.sqrt(np.prod(shape[1:]))
    else:
        value = 0.5 * value
    return torch.tensor(value, dtype=torch.float32)


def images(size: int, count: int) -> torch.Tensor:
    drawn_images = np.random.RandomState(9).standard_normal((count, 3, size, size))
    return torch.tensor(drawn_images, dtype=torch.float32)


def nested(flat: dict[str, torch.Tensor]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for name, value in flat.items():
        *around, last = name.split("/")
        inner = content
        for key in around:
            inner = inner.setdefault(key, {})
        inner[last] = value
    return content


def read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    with np.load(path) as file:
        return json.loads(str(file["meta"])), {
            key: torch.tensor(file[key]) for key in file.files if key != "meta"
        }


def write(meta: dict[str, Any], arrays: dict[str, torch.Tensor], folder: Path) -> Path:
    flat = {name: drawn(name, shape) for name, shape in (meta["names"] | meta["extra"]).items()}
    flat |= {k.removeprefix("fixed:"): v for k, v in arrays.items() if k.startswith("fixed:")}
    if "config" in meta:
        (folder / "config.json").write_text(json.dumps(meta["config"]))
        save_file(flat, folder / "model.safetensors")
        return folder
    path = folder / meta["file"]
    torch.save({**nested(flat), **meta["facts"]}, path)
    return path


def opened(recorded: Path, folder: Path, build: int) -> tuple[Backbone, dict[str, Any]]:
    """Return a network filled from a recorded file, and what is recorded about it."""
    meta, arrays = read(recorded)
    path = write(meta, arrays, folder)
    plugins = HERE / "tiny"
    checkpoint = open_checkpoint(f"ckpt:{path}?arch={meta['arch']}", plugins)
    assert checkpoint.format == meta["format"]
    options = BuildOptions(img_size=build or meta["size"])
    backbone, coverage = build_backbone(spec_for(checkpoint, plugins), checkpoint, options, seed=0)
    assert coverage.loaded + len(coverage.fresh) == coverage.total
    assert set(coverage.fresh) <= {"net.head.norm.weight", "net.head.norm.bias"}  # SAM 2
    return backbone.eval(), meta | arrays


def worst(found: torch.Tensor, expected: torch.Tensor) -> float:
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())


def numbers(backbone: Backbone, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return what is compared: pooled features, the last map, two channels of the first map."""
    found = backbone(x)
    return {"pooled": found.pooled, "map": found.maps[-1], "first": found.maps[0][:, :2]}
