"""What files of weights say about their use, as plans ask it."""

import pytest
import torch

from backbones.catalog import get_spec
from backbones.spec import BuildOptions
from backbones.weights.examine import verify
from backbones.weights.source import open_checkpoint


def _norm_behind(state):
    return {k.replace("norm.", "fc_norm.", k.startswith("norm.")): v for k, v in state.items()}


@pytest.mark.parametrize(
    ("name", "size", "form", "behind", "table"),
    [
        ("vit-ti16", 224, "dino", False, 14),
        ("vit-ti16", 384, "timm", False, 24),
        ("vit-ti16", 224, "mae", True, 14),
        ("timm:vit_tiny_patch16_224", 384, "timm", False, 24),
        ("timm:vit_tiny_patch16_224", 224, "timm", True, 14),
        # timm resizes this table when the network takes it.
        ("timm:eva02_tiny_patch14_224", 336, "timm", False, 24),
        ("swin-nano", 224, "swin", False, 0),
    ],
)
def test_table_and_norm_are_those_of_the_file(tmp_path, name, size, form, behind, table):
    state = get_spec(name).build(BuildOptions(img_size=size)).state_dict()
    filled = {
        key.removeprefix("net."): value + 0.01 if value.is_floating_point() else value
        for key, value in state.items()
    }
    path = tmp_path / "weights.pth"
    torch.save(_norm_behind(filled) if behind else filled, path)
    use = verify(open_checkpoint(f"ckpt:{path}?arch={name}&format={form}"))
    assert (use.table, use.norm_behind_pooling) == (table, behind)
