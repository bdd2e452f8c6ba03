"""A network that fails its check is not measured; one that kills its process does not kill ours."""

from pathlib import Path

import pytest

from backbones import trial
from backbones.base.errors import UserError
from backbones.catalog import get_spec
from backbones.trial import TrialVerdict, known_verdict, refuse_broken, verdict_of
from benchmarks.cli import main

PLUGIN = """
import os, sys
from backbones.spec import BackboneSpec

def build(options):
    if "backbones.trial" in " ".join(sys.argv) or "trial" in sys.argv[0]:
        os._exit(9)
    from backbones.timm_networks.families import build_timm
    return build_timm("test_convnext", options)

SPEC = BackboneSpec(
    name="killer", build=build, layout="hierarchical", strides=(4, 8, 16, 32),
    channels=(24, 32, 48, 64), num_layers=9, source="",
)
"""


def test_networks_of_the_zoo_cost_no_trial(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(trial, "_try_in_child", None)
    assert verdict_of(get_spec("vit-nano"), None, tmp_path) == TrialVerdict()


def test_a_verdict_is_made_once(tmp_path: Path, monkeypatch) -> None:
    made = []
    answer = TrialVerdict({"layer ids": "layers fall"}, channels_last=False)
    monkeypatch.setattr(trial, "_try_in_child", lambda *args: made.append(args) or answer)
    spec = get_spec("timm:test_vit")
    assert verdict_of(spec, None, tmp_path) == answer
    assert verdict_of(spec, None, tmp_path) == answer
    assert len(made) == 1


def test_a_torn_verdict_is_made_again(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(trial, "_try_in_child", lambda *args: TrialVerdict())
    spec = get_spec("timm:test_vit")
    verdict_of(spec, None, tmp_path)
    (path,) = (tmp_path / "verdicts").glob("*.json")
    path.write_text("{")
    assert verdict_of(spec, None, tmp_path) == TrialVerdict()


def test_tasks_on_pooled_features_forgive_faults_of_maps() -> None:
    spec = get_spec("timm:test_vit")
    verdict = TrialVerdict({"shapes": "maps do not cover the image."})
    refuse_broken(spec, verdict, reads_maps=False)
    with pytest.raises(UserError, match="fails the check 'shapes': maps do not cover the image"):
        refuse_broken(spec, verdict, reads_maps=True)
    with pytest.raises(UserError, match="'layer ids'"):
        refuse_broken(spec, TrialVerdict({"layer ids": "layers fall"}), reads_maps=False)


def test_a_process_that_dies_is_a_verdict(tmp_path: Path) -> None:
    (tmp_path / "killer.py").write_text(PLUGIN)
    spec = get_spec("killer", tmp_path)
    verdict = verdict_of(spec, tmp_path, tmp_path / "cache")
    assert verdict.failures == {"process": "the network ends its process (exit code 9)"}


@pytest.mark.slow
def test_fastvit_is_laid_out_contiguously(tmp_path: Path) -> None:
    verdict = verdict_of(get_spec("timm:fastvit_t8"), None, tmp_path)
    assert verdict == TrialVerdict(channels_last=False)
    verdict = verdict_of(get_spec("timm:test_convnext"), None, tmp_path)
    assert verdict == TrialVerdict(channels_last=True)


def test_a_plan_refuses_what_a_verdict_already_says(tmp_path: Path, monkeypatch, capsys) -> None:
    spec = get_spec("timm:test_vit")
    cache = tmp_path / "runs" / ".cache"
    assert known_verdict(spec, cache) == TrialVerdict()
    broken = TrialVerdict({"layer ids": "layers fall."})
    monkeypatch.setattr(trial, "_try_in_child", lambda *args: broken)
    assert verdict_of(spec, None, cache) == known_verdict(spec, cache) == broken
    with pytest.raises(UserError) as refused:
        refuse_broken(spec, broken, reads_maps=True)
    arguments = ["--tasks", "regions", "--entries", "random:timm:test_vit", "--dry-run"]
    assert main([*arguments, "--out", str(tmp_path / "runs")]) == 2
    assert str(refused.value) in capsys.readouterr().err
