"""Our ViT against timm's, same weights: equal to 1e-5."""

import pytest
import timm
import torch
from timm.models.vision_transformer import VisionTransformer as TimmViT

from backbones.spec import BuildOptions
from backbones.vit.network import VisionTransformer, ViTConfig


def same_weights(theirs, config, img_size):
    ours = VisionTransformer(config, BuildOptions(img_size=img_size)).eval()
    weights = {k: v for k, v in theirs.state_dict().items() if not k.startswith("head.")}
    ours.load_state_dict(weights)
    return ours


def assert_equal(ours, theirs, img_size):
    images = torch.randn(2, 3, img_size, img_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        tokens = theirs.forward_features(images)
        pooled = theirs.forward_head(tokens, pre_logits=True)
        features = ours(images, num_last_blocks=1)
    prefix = theirs.num_prefix_tokens
    close = {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(features.pooled, pooled, **close)
    torch.testing.assert_close(features.prefix_tokens[0], tokens[:, :prefix], **close)
    torch.testing.assert_close(features.patch_tokens[0], tokens[:, prefix:], **close)


@pytest.mark.parametrize(("pool", "pooling"), [("token", "cls"), ("avg", "mean")])
def test_vit_ti_at_224(pool, pooling):
    torch.manual_seed(0)
    theirs = timm.create_model("vit_tiny_patch16_224", global_pool=pool, fc_norm=False).eval()
    ours = same_weights(theirs, ViTConfig(192, 12, 3, pooling=pooling), 224)
    assert_equal(ours, theirs, 224)


@pytest.mark.parametrize(
    ("timm_options", "ours"),
    [
        ({"reg_tokens": 4}, {"num_registers": 4, "prefix_positions": "all"}),
        (
            {"reg_tokens": 4, "no_embed_class": True, "init_values": 0.1},
            {"num_registers": 4, "prefix_positions": "none", "layer_scale": 0.1},
        ),
        (
            {"class_token": False, "global_pool": "avg", "fc_norm": False},
            {"cls_token": False, "pooling": "mean"},
        ),
        ({"qkv_bias": False}, {"qkv_bias": False}),
    ],
    ids=["registers", "registers, LayerScale", "no cls", "no qkv bias"],
)
def test_variants(timm_options, ours):
    torch.manual_seed(0)
    theirs = TimmViT(
        img_size=56, patch_size=14, embed_dim=48, depth=3, num_heads=4, **timm_options
    ).eval()
    config = ViTConfig(48, 3, 4, patch_size=14, **ours)
    assert_equal(same_weights(theirs, config, 56), theirs, 56)
