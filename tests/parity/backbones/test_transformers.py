"""Folders of transformers' ``save_pretrained`` give what its own models compute from them.

``recorded/transformers/`` holds one file a model, see ``recorded_networks``; so the values are
compared where transformers is not installed, too. Where it is, the recorded values are computed
again.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from backbones.base.errors import PreflightError
from backbones.catalog import spec_for
from backbones.spec import BuildOptions
from backbones.weights.loading import build_backbone
from backbones.weights.source import open_checkpoint
from tests.parity.backbones.recorded_networks import (
    HERE,
    images,
    numbers,
    opened,
    read,
    worst,
    write,
)

RECORDED = sorted((HERE / "recorded" / "transformers").glob("*.npz"))

Values = dict[str, Tensor]


def leaving(model: nn.Module, module: nn.Module, run: Callable[[], Any]) -> tuple[Any, Tensor]:
    """Return the result of a forward pass, and what a module of the model gave in it."""
    kept: list[Any] = []
    hook = module.register_forward_hook(lambda m, i, output: kept.append(output))
    result = run()
    hook.remove()
    return result, kept[-1][0] if isinstance(kept[-1], tuple) else kept[-1]


def as_map(tokens: Tensor, prefix: int = 0) -> Tensor:
    """Return (B, C, rows, rows) of (B, prefix + rows * rows, C)."""
    tokens = tokens[:, prefix:]
    side = round(tokens.shape[1] ** 0.5)
    return tokens.transpose(1, 2).unflatten(2, (side, side))


def plain(layers: str, prefix: int, pool: str = "class", inner: str = "") -> Any:
    """Return how to run a ViT: the map is what leaves its last block, in front of the last norm."""

    def run(model: Any, x: Tensor) -> Values:
        model = model.get_submodule(inner)
        last_block = model.get_submodule(layers)[-1]
        result, last = leaving(model, last_block, lambda: model(x))
        normed = result.last_hidden_state
        pooled = {
            "class": lambda: normed[:, 0],
            "both": lambda: normed[:, :2].mean(1),
            "mean": lambda: normed.mean(1),
            "pooler": lambda: result.pooler_output,
            "patches": lambda: normed[:, prefix:].mean(1),
        }
        return {"map": as_map(last, prefix)} | ({"pooled": pooled[pool]()} if pool else {})

    return run


def run_mae(model: Any, x: Tensor) -> Values:
    """Run ViTMAE with all patches in their order."""
    patches = (x.shape[-1] // model.config.patch_size) ** 2
    noise = torch.arange(float(patches)).repeat(len(x), 1)
    vit = model.vit
    result, last = leaving(vit, vit.layers[-1], lambda: vit(x, noise=noise))
    return {"map": as_map(last, 1), "pooled": result.last_hidden_state[:, 0]}


def run_beit_pretraining(model: Any, x: Tensor) -> Values:
    """Run BEiT with the norm of its pretraining; the class token is left out of the mean."""
    values: Values = plain("layers", 1, "", "beit")(model, x)
    tokens = values["map"].flatten(2).transpose(1, 2)
    return values | {"pooled": model.layernorm(tokens).mean(1)}


def run_swin(model: Any, x: Tensor) -> Values:
    result, last = leaving(model, model.encoder.layers[-1].blocks[-1], lambda: model(x))
    _, first = leaving(model, model.encoder.layers[0].blocks[-1], lambda: model(x))
    pooled = result.pooler_output
    return {"map": as_map(last), "first": as_map(first)[:, :2], "pooled": pooled}


def run_stages(model: Any, x: Tensor) -> Values:
    """Run a convolutional network, whose hidden states are those of its stem and its stages."""
    result = model(x, output_hidden_states=True)
    pooled = getattr(result, "pooler_output", None)
    values = {"map": result.hidden_states[-1], "first": result.hidden_states[-4][:, :2]}
    return values | ({} if pooled is None else {"pooled": pooled.flatten(1)})


def run_dinov3_convnext(model: Any, x: Tensor) -> Values:
    result, last = leaving(model, model.model.stages[-1], lambda: model(x))
    return {"map": last, "pooled": result.pooler_output}


def run_hiera(model: Any, x: Tensor) -> Values:
    result = model(x, output_hidden_states=True)
    return {
        "pooled": result.pooler_output,
        "map": result.reshaped_hidden_states[-1].permute(0, 3, 1, 2),
    }


def run_sam(model: Any, x: Tensor) -> Values:
    tower = model.vision_encoder
    result, last = leaving(tower, tower.layers[-1], lambda: tower(x))
    return {"map": last.permute(0, 3, 1, 2), "pooled": result.last_hidden_state.mean((2, 3))}


MODELS: dict[str, Callable[[Any, Tensor], Values]] = {
    "ViTModel": plain("layers", 1),
    "ViTForImageClassification": plain("layers", 1, inner="vit"),
    "ViTMAEForPreTraining": run_mae,
    "ViTMSNModel": plain("layers", 1),
    "DeiTModel": plain("layers", 2, "both"),
    "BeitModel": plain("layers", 1, "pooler"),
    "BeitForMaskedImageModeling": run_beit_pretraining,
    "BeitForImageClassification": plain("layers", 1, "pooler", "beit"),
    "Dinov2Model": plain("encoder.layer", 1),
    "Dinov2WithRegistersModel": plain("encoder.layer", 5),
    "DINOv3ViTModel": plain("model.layer", 5, "patches"),
    "DINOv3ConvNextModel": run_dinov3_convnext,
    "SwinModel": run_swin,
    "Swinv2Model": run_swin,
    "ConvNextModel": run_stages,
    "ConvNextV2Model": run_stages,
    "ResNetModel": run_stages,
    "PvtV2Model": run_stages,
    "CLIPVisionModel": plain("encoder.layers", 1, "pooler"),
    "SiglipVisionModel": plain("encoder.layers", 0, "pooler"),
    "IJepaModel": plain("layers", 0, "mean"),
    "HieraModel": run_hiera,
    "SamModel": run_sam,
}


@torch.no_grad()
def computed(kind: Any, folder: Path, size: int, count: int) -> Values:
    """Return what a class of transformers computes from a folder of ``save_pretrained``."""
    model, loading = kind.from_pretrained(folder, output_loading_info=True)
    assert not any(loading.values()), loading
    return MODELS[kind.__name__](model.eval(), images(size, count))


@torch.no_grad()
@pytest.mark.parametrize("recorded", RECORDED, ids=lambda path: path.stem)
def test_values_are_those_of_transformers(tmp_path: Path, recorded: Path) -> None:
    backbone, expected = opened(recorded, tmp_path, build=0)
    found = numbers(backbone, images(expected["size"], expected["n"]))
    for what in found.keys() & expected.keys():
        assert worst(found[what], expected[what]) <= 1e-5, what


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda path: path.stem)
def test_recorded_values_are_what_transformers_computes(tmp_path: Path, recorded: Path) -> None:
    transformers = pytest.importorskip("transformers", minversion="5.0")
    meta, arrays = read(recorded)
    kind = getattr(transformers, meta["config"]["architectures"][0])
    folder = write(meta, arrays, tmp_path)
    for what, value in computed(kind, folder, meta["size"], meta["n"]).items():
        assert worst(value, arrays[what]) <= 1e-5, what


# Settings that no tensor shows, written into the recorded models' config.json; the values of
# transformers with them are in recorded/settings.npz, one array for each.
SETTINGS: dict[str, dict[str, Any]] = {
    "gelu_new": {"hidden_act": "gelu_new"},
    "gelu_pytorch_tanh": {"hidden_act": "gelu_pytorch_tanh"},
    "quick_gelu": {"hidden_act": "quick_gelu"},
    "relu": {"hidden_act": "relu"},
    "eps": {"layer_norm_eps": 0.05},
}
MODELS_WITH_SETTINGS = [
    "beit",
    "clip",
    "convnext",
    "convnext_v2",
    "dinov2",
    "dinov3",
    "dinov3_convnext",
    "hiera",
    "pvt_v2",
    "sam",
    "siglip",
    "swin",
    "swin_v2",
    "vit",
]
CASES = [(model, what) for model in MODELS_WITH_SETTINGS for what in SETTINGS]


def with_settings(model: str, what: str, tmp_path: Path) -> tuple[dict[str, Any], Path]:
    meta, arrays = read(HERE / "recorded" / "transformers" / f"{model}.npz")
    config = {**meta["config"]}
    inner = "vision_config" if "vision_config" in config else ""
    config |= {inner: {**config[inner], **SETTINGS[what]}} if inner else SETTINGS[what]
    return meta, write({**meta, "config": config}, arrays, tmp_path)


@torch.no_grad()
@pytest.mark.parametrize(("model", "what"), CASES)
def test_settings_that_no_tensor_shows_are_honoured(tmp_path: Path, model: str, what: str) -> None:
    meta, folder = with_settings(model, what, tmp_path)
    checkpoint = open_checkpoint(f"ckpt:{folder}?arch={meta['arch']}", HERE / "tiny")
    spec = spec_for(checkpoint, HERE / "tiny")
    options = BuildOptions(img_size=meta["size"])
    backbone, _ = build_backbone(spec, checkpoint, options, seed=0)
    found = numbers(backbone.eval(), images(meta["size"], meta["n"]))
    with np.load(HERE / "recorded" / "settings.npz") as recorded:
        (name,) = [n for n in recorded.files if n.startswith(f"{model}/{what}/")]
        expected = torch.tensor(recorded[name])
    assert worst(found[name.split("/")[-1]], expected) <= 1e-5


@pytest.mark.parametrize(
    ("model", "settings", "part"),
    [
        ("vit", {}, ""),
        ("vit", {"hidden_act": "relu"}, "hidden_act=relu"),
        ("vit", {"layer_norm_eps": 0.05}, "layer_norm_eps=0.05"),
        ("siglip", {"hidden_act": "gelu_new"}, ""),
        ("convnext", {}, ""),
        ("resnet", {}, ""),
        ("clip", {"hidden_act": "gelu"}, "hidden_act=gelu"),
    ],
)
def test_settings_other_than_the_formats_are_part_of_a_runs_identity(
    tmp_path: Path, model: str, settings: dict[str, Any], part: str
) -> None:
    meta, arrays = read(HERE / "recorded" / "transformers" / f"{model}.npz")
    config = {**meta["config"]}
    inner = "vision_config" if "vision_config" in config else ""
    config |= {inner: {**config[inner], **settings}} if inner else settings
    folder = write({**meta, "config": config}, arrays, tmp_path)
    for path in (folder, folder / "model.safetensors"):
        checkpoint = open_checkpoint(f"ckpt:{path}?arch={meta['arch']}", HERE / "tiny")
        assert checkpoint.settings == part
        assert checkpoint.layout.endswith(part)
        assert ("hidden_act" in checkpoint.layout) == ("hidden_act" in part)


@pytest.mark.parametrize(("model", "what"), CASES)
def test_recorded_settings_are_what_transformers_computes(
    tmp_path: Path, model: str, what: str
) -> None:
    transformers = pytest.importorskip("transformers", minversion="5.0")
    meta, folder = with_settings(model, what, tmp_path)
    kind = getattr(transformers, meta["config"]["architectures"][0])
    values = computed(kind, folder, meta["size"], meta["n"])
    with np.load(HERE / "recorded" / "settings.npz") as recorded:
        (name,) = [n for n in recorded.files if n.startswith(f"{model}/{what}/")]
        assert worst(values[name.split("/")[-1]], torch.tensor(recorded[name])) <= 1e-5


@pytest.mark.parametrize(
    ("model", "settings", "said"),
    [
        ("vit", {"hidden_act": "gelu_10"}, "hidden_act 'gelu_10', which is not supported"),
        ("swin", {"hidden_act": "laplace"}, "hidden_act 'laplace', which is not supported"),
        ("resnet", {"hidden_act": "gelu"}, "'gelu', and tiny-resnet computes with another"),
        ("pvt_v2", {"num_attention_heads": [2, 2, 5, 8]}, "have 2, 5, 8 heads"),
        ("dinov3", {"rope_theta": 50.0}, "rope_theta 50"),
    ],
)
def test_settings_that_a_network_cannot_have_are_refused(
    tmp_path: Path, model: str, settings: dict[str, Any], said: str
) -> None:
    meta, arrays = read(HERE / "recorded" / "transformers" / f"{model}.npz")
    folder = write({**meta, "config": {**meta["config"], **settings}}, arrays, tmp_path)
    with pytest.raises(PreflightError, match=said):
        open_checkpoint(f"ckpt:{folder}?arch={meta['arch']}", HERE / "tiny")


def test_every_model_that_the_documents_promise_is_recorded() -> None:
    recorded = {read(path)[0]["config"]["architectures"][0] for path in RECORDED}
    assert set(MODELS) == recorded
