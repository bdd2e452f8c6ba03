import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from backbones.base.errors import PreflightError, UserError
from backbones.base.files import sha256_file
from backbones.catalog import get_spec, list_specs
from backbones.checkpoint import Checkpoint
from backbones.spec import BuildOptions
from backbones.weights.files import save_weights
from backbones.weights.loading import build_backbone
from backbones.weights.source import open_checkpoint


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "some weights.pth"
    torch.save({"model": {"w": torch.ones(1)}}, path)
    return path


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No weights anywhere and no way to the hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    # A port of this machine that nobody listens on refuses at once, as no network does.
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "hub"


@pytest.mark.parametrize("source", ["vit-nano", "random:vit-nano", "vit_nano"])
def test_names_mean_fresh_weights(source: str) -> None:
    checkpoint = open_checkpoint(source)
    assert checkpoint == Checkpoint(
        backbone="vit-nano", path=None, sha256="random", method="random", source=source
    )


def test_timm_names_can_be_fresh_too() -> None:
    assert open_checkpoint("random:timm:resnet18").backbone == "timm:resnet18"


def test_a_file_is_known_by_its_bytes(weights: Path) -> None:
    source = f"ckpt:{weights}?arch=vit_b16&format=mae"
    assert open_checkpoint(source) == Checkpoint(
        backbone="vit-b16",
        path=weights,
        sha256=sha256_file(weights),
        format="mae",
        method="mae",
        source=source,
    )


def test_a_branch_is_kept(weights: Path) -> None:
    assert (
        open_checkpoint(f"ckpt:{weights}?arch=vit-s16&format=dino&branch=student").branch
        == "student"
    )
    for default in ("", "&branch=teacher"):
        assert open_checkpoint(f"ckpt:{weights}?arch=vit-s16&format=dino{default}").branch == ""


def test_our_own_files_need_no_options(tmp_path: Path) -> None:
    fresh = open_checkpoint("vit-nano")
    backbone, _ = build_backbone(get_spec("vit-nano"), fresh, BuildOptions(), seed=3)
    saved = save_weights(backbone, tmp_path / "w.safetensors", fresh)
    opened = open_checkpoint(f"ckpt:{saved.path}")
    assert opened.backbone == "vit-nano"
    again, coverage = build_backbone(get_spec("vit-nano"), opened, BuildOptions(), seed=4)
    assert coverage.loaded == coverage.total
    assert torch.equal(again.state_dict()["norm.weight"], backbone.state_dict()["norm.weight"])
    assert torch.equal(
        again.state_dict()["blocks.0.attn.qkv.weight"],
        backbone.state_dict()["blocks.0.attn.qkv.weight"],
    )


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("vit-nanno", 'Did you mean "vit-nano"'),
        ("random:resnet5", 'Did you mean "resnet50"'),
        ("checkpoint:x.pth", 'Unknown source "checkpoint"'),
        ("ckpt:{}", "needs arch="),
        ("ckpt:{}?format=mae", "needs arch="),
        ("ckpt:{}?arch=vit-b16&format=mae&epochs=many", "not a number of epochs"),
        ("ckpt:{}?arch=vit-b16&format=mae&mean=1,2", "mean=1,2 must be one number or three"),
        ("ckpt:{}?arch=vit-b16&format=mae&std=0", "std=0 must be"),
        ("ckpt:{}?arch=vit-b16&arch=vit-s16", "arch= stands twice"),
        ("ckpt:{}?arch=vit-b61&format=mae", 'Did you mean "vit-b16"'),
        ("ckpt:{}?arch=vit-b16&format=mea", 'Did you mean "mae"'),
        ("ckpt:{}?arch=vit-b16&fromat=mae", 'Did you mean "format"'),
        ("ckpt:{}?arch=vit-s16&format=dino&branch=techer", 'Did you mean "teacher"'),
        ("ckpt:{}?arch=vit-b16&format=mae&branch=teacher", "hold one network"),
        ("ckpt:{}?arch=&format=mae", "arch= has no value"),
        ("ckpt:{}?vit-b16", "write options as"),
    ],
)
def test_mistakes_are_one_sentence(weights: Path, source: str, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint) as caught:
        open_checkpoint(source.format(weights))
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match="there is no file"):
        open_checkpoint(f"ckpt:{tmp_path}/absent.pth?arch=vit-b16&format=mae")


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("resnet5", 'no network "resnet5". Did you mean "timm:resnet50"'),
        ("resnet50.nonsense", "no weights 'nonsense' for resnet50; it has: .*a1_in1k"),
    ],
)
def test_unknown_timm_names_are_one_sentence(name: str, complaint: str) -> None:
    for ask in (open_checkpoint, get_spec):
        with pytest.raises(UserError, match=complaint):
            ask(f"timm:{name}")


def test_offline_and_not_cached_is_one_sentence_at_once(empty_cache: Path) -> None:
    with pytest.raises(
        PreflightError, match=r"not in the local cache.*HF_HOME.*random:timm:"
    ) as caught:
        open_checkpoint("timm:test_resnet")
    assert "\n" not in str(caught.value)


def test_offline_by_choice_is_said(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(PreflightError, match="HF_HUB_OFFLINE is set"):
        open_checkpoint("timm:test_resnet")


def test_cached_timm_weights_load_offline(empty_cache: Path) -> None:
    net = timm.create_model("test_resnet")
    folder = empty_cache / "models--timm--test_resnet.r160_in1k"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    (folder / "snapshots" / "abc").mkdir(parents=True)
    path = folder / "snapshots" / "abc" / "model.safetensors"
    save_file(net.state_dict(), path)

    checkpoint = open_checkpoint("timm:test_resnet")
    assert checkpoint.path == path
    assert checkpoint.sha256 == sha256_file(path)
    assert checkpoint.data == "r160_in1k"
    assert checkpoint.img_size == 160
    spec = get_spec("timm:test_resnet")
    backbone, coverage = build_backbone(spec, checkpoint, BuildOptions(), seed=0)
    assert coverage.loaded == coverage.total
    assert set(coverage.dropped.values()) == {"classifier"}
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = net.eval().forward_features(images)
        found = backbone.eval()(images).maps[-1]
    assert torch.equal(found, expected)


def test_fresh_and_file_sources_import_no_torch(weights: Path) -> None:
    code = (
        "import sys; from backbones.weights.source import open_checkpoint as o; "
        "from backbones.catalog import get_spec; o('swin-nano'); o('random:timm:resnet18'); "
        "get_spec('vit-b16'); "
        f"o('ckpt:{weights}?arch=vit-b16&format=mae'); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_plugins_are_found_everywhere(tmp_path: Path) -> None:
    plugin = (
        "from backbones.spec import BackboneSpec\n"
        "SPEC = BackboneSpec('mine', lambda options: None, 'plain', (16,), (8,), 2, 'a test')\n"
    )
    (tmp_path / "mine.py").write_text(plugin)
    assert open_checkpoint("mine", tmp_path).backbone == "mine"
    assert get_spec("mine", tmp_path).channels == (8,)
    assert "mine" in [spec.name for spec in list_specs(tmp_path)]
    with pytest.raises(UserError, match='Unknown backbone "mine"'):
        open_checkpoint("mine")
