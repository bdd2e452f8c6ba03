"""Weights of other projects compute the same after ``save_weights``, whatever they are used by."""

from pathlib import Path

import pytest
import torch

from backbones.catalog import spec_for
from backbones.spec import BuildOptions
from backbones.weights.files import save_weights
from backbones.weights.loading import build_backbone
from backbones.weights.source import open_checkpoint
from tests.parity.backbones.recorded_networks import HERE, images, numbers, read, write

RECORDED = sorted((HERE / "recorded").glob("*/*.npz"))


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("recorded", RECORDED, ids=lambda path: path.stem)
def test_features_are_the_same(tmp_path: Path, recorded: Path) -> None:
    meta, arrays = read(recorded)
    plugins, options = HERE / "tiny", BuildOptions(img_size=meta["size"])
    theirs = f"ckpt:{write(meta, arrays, tmp_path)}?arch={meta['arch']}"
    ours = tmp_path / "ours" / "weights.safetensors"
    found = []
    for source in (theirs, f"ckpt:{ours}"):
        checkpoint = open_checkpoint(source, plugins)
        backbone, _ = build_backbone(spec_for(checkpoint, plugins), checkpoint, options, seed=0)
        found.append(numbers(backbone.eval(), images(meta["size"], 1)))
        if source == theirs:
            save_weights(backbone, ours, checkpoint)
    for what, value in found[0].items():
        assert torch.equal(found[1][what], value), what
