"""Correspondence and attention statistics against loops from their definitions, in float64."""

import math

import pytest
import torch

from backbones.base.errors import UserError
from backbones.catalog import get_spec
from backbones.spec import BuildOptions
from backbones.timm_networks.families import build_timm
from backbones.vit.config import ViTConfig
from backbones.vit.network import VisionTransformer
from benchmarks.tasks.attention.maps import geometries, watch_attention
from benchmarks.tasks.attention.stats import distance, entropy
from benchmarks.tasks.correspondence.matches import match_mirrored, mirrored, mirrored_view


def loop_correspondence(first, second, columns, stride, num_pairs):
    """One image, a pair of cells at a time."""
    pairs = []
    for place, own in enumerate(first):
        best = max(
            range(len(second)),
            key=lambda j: float(own @ second[j] / own.norm() / second[j].norm()),
        )
        pairs.append((float(own @ second[best] / own.norm() / second[best].norm()), place, best))
    pairs.sort(reverse=True)
    right, apart = [], []
    for _, place, best in pairs[:num_pairs]:
        row, column = divmod(place, columns)
        there = (row, columns - 1 - column)
        found = divmod(best, columns)
        right.append(found == there)
        centre = [(stride * (part + 0.5)) for part in (*there, *found)]
        apart.append(math.dist(centre[:2], centre[2:]))
    return sum(right) / num_pairs, sum(apart) / num_pairs


def test_matches_are_those_of_the_definition():
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(3, 20, 6, generator=generator, dtype=torch.float64)
    noise = torch.randn(3, 20, 6, generator=generator, dtype=torch.float64)
    flipped = first.reshape(3, 4, 5, 6).flip(2).reshape(3, 20, 6)
    second = flipped + 0.7 * noise
    found = match_mirrored(first, second, 5, 16, 10)
    for image in range(3):
        accuracy, apart = loop_correspondence(first[image], second[image], 5, 16, 10)
        assert 0 < accuracy < 1
        assert float(found.right[image].double().mean()) == pytest.approx(accuracy)
        assert float(found.pixels[image].mean()) == pytest.approx(apart)


def test_features_with_a_known_answer():
    """Regions that are found, and regions that are all one place too far to the right."""
    features = torch.eye(12)[None]
    rows = features.reshape(1, 3, 4, 12)
    found = match_mirrored(features, rows.flip(2).reshape(1, 12, 12), 4, 32, 10)
    assert bool(found.right.all())
    assert float(found.pixels.sum()) == 0
    off = match_mirrored(features, rows.flip(2).roll(1, dims=2).reshape(1, 12, 12), 4, 32, 12)
    assert not bool(off.right.any())
    # A neighbour, but for the last column, which comes out at the other side.
    assert sorted(off.pixels[0].tolist()) == pytest.approx([32.0] * 9 + [96.0] * 3)
    assert mirrored(torch.arange(8), 4).tolist() == [3, 2, 1, 0, 7, 6, 5, 4]


def test_the_second_view_is_mirrored_and_grey():
    pixels = torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8)
    views = [mirrored_view(pixels, torch.Generator().manual_seed(seed)) for seed in range(40)]
    weights = torch.tensor([0.2989, 0.587, 0.114])[:, None, None]
    plain = (pixels.flip(-1) * weights).sum(dim=0)
    untouched = [v for v in views if (v[0].float() - plain).abs().max() <= 1]
    assert 2 <= len(untouched) <= 18  # a fifth has no colour jitter
    assert all(torch.equal(v[0], v[1]) and torch.equal(v[0], v[2]) for v in views)


def loop_statistics(shares, places, stride):
    """One head's shares (N, N), a query at a time."""
    entropies, distances = [], []
    for query, place in enumerate(places):
        if place[0] < 0:
            continue
        entropies.append(-sum(float(p) * math.log(float(p)) for p in shares[query] if p > 0))
        real = [j for j, other in enumerate(places) if other[0] >= 0]
        total = sum(float(shares[query, j]) for j in real)
        distances.append(
            sum(float(shares[query, j]) / total * math.dist(place, places[j]) for j in real)
        )
    return sum(entropies) / len(entropies), stride * sum(distances) / len(distances)


def test_statistics_are_those_of_the_definition():
    backbone = VisionTransformer(ViTConfig(16, 2, 2, patch_size=4), BuildOptions(img_size=12))
    geometry = geometries(backbone, 12)[0]
    generator = torch.Generator().manual_seed(0)
    shares = (2 * torch.randn(3, 2, 10, 10, generator=generator, dtype=torch.float64)).softmax(-1)
    places = [(-1, -1), *((r, c) for r in range(3) for c in range(3))]
    assert [tuple(p) for p in geometry.places[0].tolist()] == places
    for head in range(2):
        loops = [loop_statistics(shares[i, head], places, 4) for i in range(3)]
        sharp, far = (sum(values) / 3 for values in zip(*loops, strict=True))
        assert float(entropy(shares, geometry)[head]) == pytest.approx(sharp)
        assert float(distance(shares, geometry)[head]) == pytest.approx(far)


def test_attention_to_all_alike_and_to_oneself():
    backbone = VisionTransformer(ViTConfig(16, 2, 2, patch_size=4), BuildOptions(img_size=8))
    geometry = geometries(backbone, 8)[0]
    alike, own = torch.full((1, 2, 5, 5), 0.2), torch.eye(5).expand(1, 2, 5, 5)
    assert entropy(alike, geometry).tolist() == pytest.approx([math.log(5)] * 2)
    assert distance(alike, geometry).tolist() == pytest.approx([4 * (2 + math.sqrt(2)) / 4] * 2)
    assert entropy(own, geometry).tolist() == [0.0, 0.0]
    assert distance(own, geometry).tolist() == [0.0, 0.0]


def watched(backbone, images):
    found = {}
    watch_attention(backbone, images, lambda number, shares: found.setdefault(number, shares))
    return [found[number] for number in range(len(found))]


def test_watched_shares_make_the_output_of_a_plain_vit():
    torch.manual_seed(0)
    config = ViTConfig(16, 2, 2, patch_size=4)
    backbone = VisionTransformer(config, BuildOptions(img_size=12)).double().eval()
    images = torch.randn(2, 3, 12, 12, dtype=torch.float64)
    shares = watched(backbone, images)
    assert [tuple(s.shape) for s in shares] == [(2, 2, 10, 10)] * 2
    tokens = backbone.prepend_prefix(backbone.embed(images)[0])
    attention = backbone.blocks[0].attn
    q, k, _ = attention.qkv(backbone.blocks[0].norm1(tokens)).chunk(3, dim=-1)
    for head in range(2):
        part = slice(8 * head, 8 * head + 8)
        logits = q[..., part] @ k[..., part].transpose(1, 2) / math.sqrt(8)
        torch.testing.assert_close(
            shares[0][:, head].double(), logits.softmax(-1), atol=1e-6, rtol=0
        )


@pytest.mark.parametrize("img_size", [128, 136])
def test_swin_attends_to_neighbours_and_never_across_a_seam(img_size):
    """All pairs that matter lie within a window of each other, padding and shifts included."""
    torch.manual_seed(0)
    backbone = get_spec("swin-nano").build(BuildOptions(img_size=128)).eval()
    shares = watched(backbone, torch.randn(2, 3, img_size, img_size))
    blocks = geometries(backbone, img_size)
    assert len(shares) == len(blocks) == 5
    shifted = 0
    for found, geometry in zip(shares, blocks, strict=True):
        windows, tokens = geometry.places.shape[:2]
        assert tuple(found.shape) == (2 * windows, found.shape[1], tokens, tokens)
        real = geometry.places[..., 0] >= 0
        side = -(-img_size // geometry.stride)
        cells = geometry.places[real].tolist()
        assert sorted(cells) == [[r, c] for r in range(side) for c in range(side)]
        reach = math.isqrt(tokens) - 1
        span = (geometry.places[:, :, None] - geometry.places[:, None]).abs().amax(dim=-1)
        seam = (span > reach) & real[:, :, None] & real[:, None]
        shifted += int(seam.any())
        across = found.reshape(2, windows, -1, tokens, tokens).amax(dim=(0, 2))[seam]
        assert float(across.sum()) < 1e-6
        torch.testing.assert_close(found.sum(-1), torch.ones(found.shape[:-1]))
    # At 136 pixels padding lies along the seam.
    assert bool(shifted) == (img_size == 128)


def test_watching_changes_nothing_and_a_convolution_has_nothing_to_watch():
    torch.manual_seed(0)
    backbone = get_spec("swin-nano").build(BuildOptions(img_size=64)).eval()
    images = torch.randn(1, 3, 64, 64)
    before = backbone(images).pooled
    fused = [m.fused_attn for m in backbone.modules() if hasattr(m, "fused_attn")]
    watched(backbone, images)
    assert fused == [m.fused_attn for m in backbone.modules() if hasattr(m, "fused_attn")]
    assert torch.equal(backbone(images).pooled, before)
    resnet = get_spec("resnet-nano").build(BuildOptions(img_size=64)).eval()
    with pytest.raises(UserError, match="can be looked at in plain ViTs and in Swins"):
        geometries(resnet, 64)
    with pytest.raises(UserError, match="does not attend through torch's"):
        watch_attention(resnet, images, lambda *_: None)


@pytest.mark.parametrize("name", ["timm:vit_tiny_patch16_224", "timm:beit_base_patch16_224"])
def test_timms_plain_networks_can_be_watched(name):
    spec = get_spec(name)
    arguments = {"depth": 2, "embed_dim": 16, "num_heads": 2}
    backbone = build_timm(name.removeprefix("timm:"), BuildOptions(img_size=32), **arguments).eval()
    assert backbone.strides == spec.strides
    shares = watched(backbone, torch.randn(1, 3, 32, 32))
    assert [tuple(found.shape) for found in shares] == [(1, 2, 5, 5)] * 2
    assert [tuple(block.places.shape) for block in geometries(backbone, 32)] == [(1, 5, 2)] * 2
