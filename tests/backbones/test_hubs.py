"""Models in the caches of the Hugging Face hub and of torch.hub, laid out as their clients do."""

import json
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file

from backbones.base.errors import PreflightError, UserError
from backbones.catalog import spec_for
from backbones.spec import BuildOptions
from backbones.weights.loading import build_backbone
from backbones.weights.source import open_checkpoint
from tests.parity.backbones.recorded_networks import HERE, images, read, worst, write

PLUGINS = HERE / "tiny"
REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    """Empty caches of an offline machine."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "torch"))


def into_cache(tmp_path: Path, name: str, made: Path) -> None:
    """Put a folder's files into the hub's cache: blobs, and links to them by revision."""
    model = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
    snapshot = model / "snapshots" / REVISION
    for folder in (snapshot, model / "blobs", model / "refs"):
        folder.mkdir(parents=True)
    (model / "refs" / "main").write_text(REVISION)
    for number, file in enumerate(sorted(made.iterdir())):
        blob = model / "blobs" / f"{number:064x}"
        blob.write_bytes(file.read_bytes())
        (snapshot / file.name).symlink_to(Path("../../blobs") / blob.name)


@torch.no_grad()
def test_a_model_of_transformers_in_the_cache(tmp_path: Path) -> None:
    meta, arrays = read(HERE / "recorded" / "transformers" / "vit.npz")
    made = tmp_path / "made"
    made.mkdir()
    write(meta, arrays, made)
    stated = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    (made / "preprocessor_config.json").write_text(json.dumps(stated))
    into_cache(tmp_path, "someone/tiny-vit", made)
    checkpoint = open_checkpoint("hf:someone/tiny-vit?arch=tiny-vit&name=theirs", PLUGINS)
    assert (checkpoint.format, checkpoint.mean) == ("hf-vit", (0.1, 0.2, 0.3))
    spec = spec_for(checkpoint, PLUGINS)
    backbone, _ = build_backbone(spec, checkpoint, BuildOptions(img_size=64), seed=0)
    assert worst(backbone.eval()(images(64, 2)).pooled, arrays["pooled"]) <= 1e-5


@torch.no_grad()
def test_a_model_of_timm_in_the_cache(tmp_path: Path) -> None:
    net = timm.create_model("test_vit", num_classes=3).eval()
    made = tmp_path / "made"
    made.mkdir()
    save_file(net.state_dict(), made / "model.safetensors")
    stated = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "input_size": [3, 160, 160]}
    config = {"architecture": "test_vit", "num_classes": 3, "pretrained_cfg": stated}
    (made / "config.json").write_text(json.dumps(config))
    into_cache(tmp_path, "someone/mine", made)
    for source in ("timm:hf-hub:someone/mine", "hf:someone/mine"):
        checkpoint = open_checkpoint(source)
        assert (checkpoint.backbone, checkpoint.mean) == ("timm:test_vit", (0.1, 0.2, 0.3))
        spec = spec_for(checkpoint)
        backbone, _ = build_backbone(spec, checkpoint, BuildOptions(img_size=160), seed=0)
        x = images(160, 1)
        expected = net.forward_head(net.forward_features(x), pre_logits=True)
        assert worst(backbone.eval()(x).pooled, expected) <= 1e-5


@torch.no_grad()
def test_weights_of_torchvision_in_the_cache(tmp_path: Path) -> None:
    net = torchvision.models.resnet18().eval()
    name = Path(torchvision.models.ResNet18_Weights.DEFAULT.url).name
    (tmp_path / "torch" / "checkpoints").mkdir(parents=True)
    torch.save(net.state_dict(), tmp_path / "torch" / "checkpoints" / name)
    checkpoint = open_checkpoint("tv:resnet18")
    assert (checkpoint.backbone, checkpoint.method) == ("timm:resnet18", "supervised")
    spec = spec_for(checkpoint)
    backbone, _ = build_backbone(spec, checkpoint, BuildOptions(img_size=64), seed=0)
    x = images(64, 1)
    net.fc = torch.nn.Identity()
    assert worst(backbone.eval()(x).pooled, net(x)) <= 1e-5


@pytest.mark.parametrize("source", ["hf:someone/absent", "timm:hf-hub:someone/absent"])
def test_a_model_that_is_not_cached_is_one_sentence_offline(source: str) -> None:
    with pytest.raises(PreflightError) as raised:
        open_checkpoint(source)
    assert str(raised.value) == (
        f"{source}: the model is not in the local cache and cannot be downloaded (HF_HUB_OFFLINE "
        "is set); set HF_HOME to a folder that holds it, or name its folder with ckpt:FOLDER."
    )


def test_torchvision_is_one_sentence_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(url: str, path: str, progress: bool) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("torch.hub.download_url_to_file", unreachable)
    with pytest.raises(PreflightError, match=r"^tv:resnet18: resnet18-\w+\.pth is not in the") as e:
        open_checkpoint("tv:resnet18")
    assert "(no route to host)" in str(e.value)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("source", ["hf:absent", "hf:a/b/c", "timm:hf-hub:absent"])
def test_a_name_without_owner_says_how_to_write_it(source: str) -> None:
    with pytest.raises(UserError, match=f"^{source}: .*OWNER/NAME"):
        open_checkpoint(source)
