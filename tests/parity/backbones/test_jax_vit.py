"""Google's ``.npz`` files of ViT give what timm's reader of them gives, with JAX's activation."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from backbones.catalog import spec_for
from backbones.spec import BuildOptions
from backbones.weights.loading import build_backbone
from backbones.weights.source import open_checkpoint
from tests.parity.backbones.recorded_networks import HERE, drawn, images, numbers, worst

WIDTH, DEPTH, HEADS = 48, 2, 3


def arrays(big_vision: bool) -> dict[str, np.ndarray]:
    """Return the arrays of a tiny network, named as vit_jax or as big_vision names them."""
    attention, second_norm, mlp = (0, 1, 0) if big_vision else (1, 2, 3)
    shapes: dict[str, list[int]] = {
        "cls": [1, 1, WIDTH],
        "embedding/kernel": [16, 16, 3, WIDTH],
        "embedding/bias": [WIDTH],
        ("" if big_vision else "Transformer/posembed_input/") + "pos_embedding": [1, 17, WIDTH],
        "Transformer/encoder_norm/scale": [WIDTH],
        "Transformer/encoder_norm/bias": [WIDTH],
        "head/kernel": [WIDTH, 5],
        "head/bias": [5],
    }
    for index in range(DEPTH):
        block = f"Transformer/encoderblock_{index}/"
        for norm in ("LayerNorm_0", f"LayerNorm_{second_norm}"):
            shapes |= {f"{block}{norm}/scale": [WIDTH], f"{block}{norm}/bias": [WIDTH]}
        heads = f"{block}MultiHeadDotProductAttention_{attention}/"
        for part in ("query", "key", "value"):
            shapes |= {
                f"{heads}{part}/kernel": [WIDTH, HEADS, WIDTH // HEADS],
                f"{heads}{part}/bias": [HEADS, WIDTH // HEADS],
            }
        shapes |= {
            f"{heads}out/kernel": [HEADS, WIDTH // HEADS, WIDTH],
            f"{heads}out/bias": [WIDTH],
            f"{block}MlpBlock_{mlp}/Dense_0/kernel": [WIDTH, 4 * WIDTH],
            f"{block}MlpBlock_{mlp}/Dense_0/bias": [4 * WIDTH],
            f"{block}MlpBlock_{mlp}/Dense_1/kernel": [4 * WIDTH, WIDTH],
            f"{block}MlpBlock_{mlp}/Dense_1/bias": [WIDTH],
        }
    return {name: 0.2 * drawn(name, shape).numpy() for name, shape in shapes.items()}


@torch.no_grad()
@pytest.mark.parametrize("big_vision", [False, True], ids=["vit_jax", "big_vision"])
@pytest.mark.parametrize("around", ["", "params/", "opt/target/"])
@pytest.mark.parametrize("arch", ["tiny-vit", "tiny-timm-vit"])
def test_values_are_those_of_timms_reader(
    tmp_path: Path, big_vision: bool, around: str, arch: str
) -> None:
    content = arrays(big_vision)
    np.savez(tmp_path / "plain.npz", **content)
    reference = timm.create_model(
        "vit_base_patch16_224",
        img_size=64,
        embed_dim=WIDTH,
        depth=DEPTH,
        num_heads=HEADS,
        num_classes=5,
        act_layer="gelu_tanh",
    ).eval()
    reference.load_pretrained(str(tmp_path / "plain.npz"))
    path = tmp_path / "file.npz"
    np.savez(path, **{around + name: array for name, array in content.items()})
    plugins = HERE / "tiny"
    checkpoint = open_checkpoint(f"ckpt:{path}?arch={arch}", plugins)
    assert checkpoint.format == "jax-vit"
    assert checkpoint.mean == (0.5, 0.5, 0.5)
    backbone, coverage = build_backbone(
        spec_for(checkpoint, plugins), checkpoint, BuildOptions(img_size=64), seed=0
    )
    assert coverage.loaded == coverage.total
    x = images(64, 2)
    found = numbers(backbone.eval(), x)
    last, tokens = reference.forward_intermediates(x, indices=1)
    assert worst(found["map"], tokens[-1]) <= 1e-5
    assert worst(found["pooled"], reference.forward_head(last, pre_logits=True)) <= 1e-5
