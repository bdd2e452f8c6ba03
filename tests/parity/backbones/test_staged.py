"""CvT and ViL against the authors' code, transformers, and the formula of ViL's attention.

The files in ``recorded/`` hold what microsoft/CvT, microsoft/esvit and transformers 5.24 compute in
float64 with tiny networks, on the weights and images that ``weights`` and ``images`` draw; they
also list the names and shapes of the authors' state dicts.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from backbones.catalog import get_spec
from backbones.spec import BuildOptions
from backbones.staged.config import CvTConfig, ViLConfig
from backbones.staged.conv_attention import WindowConvAttention
from backbones.staged.cvt import CvT
from backbones.staged.sliding_attention import SlidingAttention
from backbones.staged.vil import ViL
from backbones.weights.fit import to_timm
from backbones.weights.formats import FORMATS
from backbones.weights.loading import build_backbone
from backbones.weights.source import open_checkpoint

RECORDED = Path(__file__).with_name("recorded")
CVT = CvTConfig((8, 12, 16), (1, 1, 2), (1, 3, 4), class_token=True)
ESVIT_CVT = CvTConfig((8, 12, 16, 20), (1, 1, 2, 1), (1, 3, 4, 5), window=7)
VIL = ViLConfig((8, 12, 16, 20), (1, 1, 2, 1), (1, 3, 4, 5), (1, 1, 1, 0), (4, 4, 4, 2), window=2)


def images() -> torch.Tensor:
    return torch.tensor(np.random.RandomState(9).standard_normal((2, 3, 64, 64)))


def weights(shapes: dict[str, list[int]], seed: int) -> dict[str, torch.Tensor]:
    """Return a state dict by the authors' names; global tokens share the projections."""
    random, state = np.random.RandomState(seed), {}
    for name, shape in sorted(shapes.items()):
        value = random.standard_normal(shape) * 0.2
        if name.endswith("running_var"):
            value = np.abs(value) + 0.5
        elif name.endswith("weight") and len(shape) == 1:
            value += 1
        elif name.endswith("weight"):
            value *= 5 / np.sqrt(np.prod(shape[1:]))
        state[name] = torch.tensor(value)
    return {name: state[name.replace("_global.", ".")] for name in state}


def recorded(name: str, seed: int) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Return the authors' state dict and what their network computes."""
    with np.load(RECORDED / f"{name}.npz") as file:
        found = {key: torch.tensor(file[key]) for key in file.files if key != "names"}
        return weights(json.loads(str(file["names"])), seed), found


def filled(backbone: torch.nn.Module, state: dict[str, torch.Tensor]) -> torch.nn.Module:
    backbone = backbone.double().eval()
    missing, unexpected = backbone.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing)
    return backbone


def close(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-10) -> None:
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= tolerance * expected.abs().max()


# What microsoft's projects recorded: seed of the weights, format, network.
OFFICIAL = {
    "cvt_microsoft": (1, "cvt", CvT, CVT),
    "cvt_esvit": (2, "esvit-cvt", CvT, ESVIT_CVT),
    "vil_esvit": (3, "esvit-vil", ViL, VIL),
}


@pytest.mark.parametrize("name", OFFICIAL)
@torch.no_grad()
def test_features_are_those_of_the_authors_code(name):
    seed, form, network, config = OFFICIAL[name]
    state, expected = recorded(name, seed)
    backbone = network(config, BuildOptions(img_size=64))
    named = to_timm(state, FORMATS[form], backbone)
    named = {key: tensor for key, tensor in named.items() if not key.startswith("head.")}
    features = filled(backbone, named)(images(), num_last_blocks=4)
    for place, image in enumerate(features.maps):
        close(image, expected[f"map{place}"])
    close(features.pooled, expected["pooled"])
    if "region" in expected:
        close(features.patch_tokens[-1], expected["region"])
    if "last4" in expected:
        means = [tokens.mean(dim=1) for tokens in features.patch_tokens]
        close(torch.cat(means, dim=1), expected["last4"])


def hf_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    named = {}
    for name, tensor in state.items():
        for old, new in (
            ("encoder.stages", "stages"),
            ("embedding.convolution_embeddings.projection", "embed.proj"),
            ("embedding.convolution_embeddings.normalization", "embed.norm"),
            ("cls_token", "prefix"),
            ("layers", "blocks"),
            ("layernorm_before", "norm1"),
            ("layernorm_after", "norm2"),
            ("intermediate.dense", "mlp.fc1"),
            ("attention.output.dense", "attn.proj"),
            ("output.dense", "mlp.fc2"),
            ("convolution_projection.convolution", "depthwise"),
            ("convolution_projection.normalization", "norm"),
            *(
                (f"attention.attention.{old}_{part}", f"attn.{letter}{new}")
                for part, letter in (("query", "q"), ("key", "k"), ("value", "v"))
                for old, new in (("convolution_projection", ""), ("projection", ".pointwise"))
            ),
        ):
            name = name.replace(old, new)
        named[name] = tensor
    return named


@torch.no_grad()
def test_features_are_those_of_transformers():
    """Its MLP has the exact GELU; it has no final norm for the patches and none in its output."""
    state, expected = recorded("cvt_transformers", 4)
    config = replace(CVT, depths=(1, 2, 3), quick_gelu=False)
    backbone = CvT(config, BuildOptions())
    named = hf_names(state) | {k: v for k, v in backbone.state_dict().items() if k[:5] == "norm."}
    features = filled(backbone, named)(images(), num_last_blocks=1)
    for place, image in enumerate(features.maps):
        close(image, expected[f"map{place}"])
    close(features.pooled, backbone.norm(expected["cls"])[:, 0])


@torch.no_grad()
def test_the_recorded_values_are_what_transformers_computes():
    transformers = pytest.importorskip("transformers")
    config = transformers.CvtConfig(embed_dim=(8, 12, 16), num_heads=(1, 3, 4), depth=(1, 2, 3))
    model = transformers.CvtModel(config).double().eval()
    state, expected = recorded("cvt_transformers", 4)
    model.load_state_dict(state, strict=False)
    found = model(images(), output_hidden_states=True)
    close(found.cls_token_value, expected["cls"])
    for place, image in enumerate(found.hidden_states):
        close(image, expected[f"map{place}"])


def masked_attention(attention: SlidingAttention, tokens, grid):
    """Zhang et al. 2021, section 3.1, pair by pair: which chunks are neighbours, and the bias."""
    count, (rows, columns) = attention.num_prefix, grid
    width, heads = tokens.shape[-1], attention.num_heads
    q = attention.query(tokens).view(*tokens.shape[:2], heads, -1)
    k, v = attention.kv(tokens).view(*tokens.shape[:2], 2, heads, -1).unbind(2)
    total = count + rows * columns
    bias = torch.full((heads, total, total), -torch.inf, dtype=tokens.dtype)
    if count:
        bias[:, :count, :count] = attention.bias_global
        bias[:, :count, count:] = attention.bias_cross[0, :, :, None]
        bias[:, count:, :count] = attention.bias_cross[1, :, None]
    reach, window = attention.reach, attention.window
    table = attention.bias_local.view(2 * reach - 1, 2 * reach - 1, heads)
    for i in range(rows * columns):
        for j in range(rows * columns):
            (y, x), (down, right) = divmod(i, columns), divmod(j, columns)
            if abs(y // window - down // window) > 1 or abs(x // window - right // window) > 1:
                continue
            dy, dx = (min(max(d, 1 - reach), reach - 1) for d in (y - down, x - right))
            bias[:, count + i, count + j] = table[dy + reach - 1, dx + reach - 1]
    logits = torch.einsum("bihd,bjhd->bhij", q, k) * (width // heads) ** -0.5 + bias
    found = torch.einsum("bhij,bjhd->bihd", logits.softmax(dim=-1), v)
    return attention.proj(found.flatten(2))


# One chunk; two a side; more in one direction; padding on both sides; a reach below the window's.
GRIDS = [(2, 2), (4, 4), (3, 1), (5, 4), (7, 9), (6, 6)]


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize(("num_prefix", "reach"), [(1, 4), (2, 4), (0, 2)])
def test_sliding_attention_is_masked_attention(grid, num_prefix, reach):
    torch.manual_seed(0)
    attention = SlidingAttention(6, 2, num_prefix, window=2, reach=reach).double()
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter)
    tokens = torch.randn(2, num_prefix + grid[0] * grid[1], 6, dtype=torch.float64)
    tokens.requires_grad_()
    inputs = [tokens, *attention.parameters()]
    found, expected = attention(tokens, grid), masked_attention(attention, tokens, grid)
    close(found, expected)
    weight = torch.randn_like(expected)
    pairs = zip(
        torch.autograd.grad((found * weight).sum(), inputs),
        torch.autograd.grad((expected * weight).sum(), inputs),
        strict=True,
    )
    for one, other in pairs:
        assert (one - other).abs().max() <= 1e-10 * max(1.0, float(other.abs().max()))


def test_windows_of_a_map_are_attended_alone():
    """Each window of the padded map, by itself, through the formula of attention."""
    torch.manual_seed(0)
    attention = WindowConvAttention(6, 2, window=3).double().eval()
    tokens = torch.randn(2, 4 * 7, 6, dtype=torch.float64)
    found = attention(tokens, (4, 7)).view(2, 4, 7, 6)
    image = F.pad(tokens.transpose(1, 2).view(2, 6, 4, 7), (0, 2, 0, 2))
    qkv = attention.qkv(image).view(2, 6, 9, 3, 2, 3)
    for top in (0, 3):
        for left in (0, 3, 6):
            q, k, v = qkv[:, top : top + 3, left : left + 3].flatten(1, 2).unbind(2)
            logits = torch.einsum("bihd,bjhd->bhij", q, k) * 6**-0.5
            heads = torch.einsum("bhij,bjhd->bihd", logits.softmax(dim=-1), v)
            expected = attention.proj(heads.flatten(2)).view(2, 3, 3, 6)
            kept = found[:, top : top + 3, left : left + 3]
            close(kept, expected[:, : kept.shape[1], : kept.shape[2]])


PLUGIN = """
from backbones.spec import BackboneSpec
from backbones.staged.config import CvTConfig, ViLConfig

CONFIG = {config}


def build(options):
    from backbones.staged.{module} import {network}

    return {network}(CONFIG, options)


SPEC = BackboneSpec(
    name="tiny",
    build=build,
    layout="hierarchical",
    strides=(4, 8, 16, 32)[: len(CONFIG.channels)],
    channels=CONFIG.channels,
    num_layers=sum(CONFIG.depths),
    source="a test",
    fresh_params=("*.num_batches_tracked",),
)
"""


@pytest.mark.parametrize("name", OFFICIAL)
@torch.no_grad()
def test_official_files_load_tensor_for_tensor(name, tmp_path):
    seed, form, network, config = OFFICIAL[name]
    state, expected = recorded(name, seed)
    state = {key: tensor.float() for key, tensor in state.items()}
    state["head.weight"] = torch.zeros(3, 20)
    content = {"state_dict": state}
    if form != "cvt":
        state |= {"head.mlp.0.weight": torch.zeros(3, 20), "head_dense.mlp.0.bias": torch.zeros(3)}
        student = {f"module.{key}": 0 * tensor for key, tensor in state.items()}
        content = {"teacher": state, "student": student, "epoch": 3}
    if form == "esvit-vil":
        state["layer1.1.attn.relative_position_index"] = torch.zeros(4, 36, dtype=torch.int64)
    torch.save(content, tmp_path / "file.pth")
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    module = network.__name__.lower()
    text = PLUGIN.format(config=config, module=module, network=network.__name__)
    (plugins / "tiny.py").write_text(text)
    checkpoint = open_checkpoint(f"ckpt:{tmp_path}/file.pth?arch=tiny", plugins)
    assert checkpoint.format == form
    spec = get_spec("tiny", plugins)
    backbone, coverage = build_backbone(spec, checkpoint, BuildOptions(img_size=64), seed=0)
    assert coverage.loaded + len(coverage.fresh) == coverage.total
    assert all(key.endswith("num_batches_tracked") for key in coverage.fresh)
    close(backbone.double().eval()(images()).pooled, expected["pooled"], 1e-5)


def test_projections_that_global_tokens_do_not_share_are_kept_for_the_refusal():
    state, _ = recorded("vil_esvit", 3)
    name = "layer1.1.attn.query_global.weight"
    state[name] = state[name] + 1
    named = to_timm(state, FORMATS["esvit-vil"], ViL(VIL, BuildOptions()))
    left = [name for name in named if "_global." in name]
    assert left == ["stages.0.blocks.0.attn.query_global.weight"]
