import json

import pytest

from benchmarks.commands import doctor
from benchmarks.options import DoctorOptions


@pytest.mark.slow
def test_check_proves_a_backbone_and_tries_every_task(run_py):
    done = run_py("check", "vit-nano")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "task coco" in done.stdout
    assert "FAILED" not in done.stdout
    content = json.loads(
        run_py("check", "vit-nano", "--json", STAND_IN_FAIL="vit-nano=crash").stdout
    )
    assert [r["name"] for r in content["vit-nano"] if not r["passed"]] == ["task coco"]


@pytest.mark.slow
def test_check_of_a_broken_plugin_fails(run_py):
    folder = run_py.folder / "plugins"
    folder.mkdir()
    (folder / "broken.py").write_text(
        "from dataclasses import replace\n"
        "from backbones.catalog import zoo\n"
        "spec = replace(zoo()['vit-nano'], name='broken', strides=(32,))\n"
    )
    done = run_py("check", "broken", "--plugins", folder)
    assert done.returncode == 3
    assert "FAILED  declared facts" in done.stdout


def test_check_of_an_unknown_name_is_one_sentence(run_py):
    done = run_py("check", "vit-nan")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert 'Did you mean "vit-nano"' in done.stderr


@pytest.mark.slow
def test_check_of_a_recipe_trains_it(run_py):
    done = run_py("check", "mae-nano", "pretrain:simmim-nano?arch=vit-nano")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("ok      training") == 2
    assert "simmim takes vit-nano" in done.stdout
    refused = run_py("check", "pretrain:mae-nano?arch=swin-nano")
    assert refused.returncode == 3
    assert "FAILED  recipe" in refused.stdout
    assert "mae works with plain backbones" in refused.stdout


def test_check_of_an_unknown_recipe_is_one_sentence(run_py):
    done = run_py("check", "pretrain:mea-nano")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert 'Did you mean "mae-nano"' in done.stderr


@pytest.mark.slow
def test_doctor_finds_this_machine_ready(run_py):
    done = run_py("doctor")
    assert done.returncode == 0, done.stdout
    assert "detectron2" in done.stdout
    assert done.stdout.rstrip().endswith("ready")


def test_doctor_names_the_fix_for_what_is_missing(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(
        doctor, "version", lambda name: {"torch": "2.5.1", "timm": ""}.get(name, "9")
    )
    monkeypatch.setattr(doctor, "detectron2_version", lambda: "")
    monkeypatch.setattr(doctor, "_device", lambda: [])
    options = DoctorOptions(data=["coco=/absent"], out=tmp_path)
    assert doctor.main(options) == 4
    lines = {line.split()[1]: line for line in capsys.readouterr().out.splitlines()[:-1]}
    assert lines["torch"].startswith("missing")
    assert "2.5.1, needs 2.6" in lines["torch"]
    assert "pip install timm" in lines["timm"]
    assert "make setup" in lines["detectron2"]
    assert "/absent" in lines["coco"]
    assert lines["hotcoco"].startswith("ok")
    column = lines["torch"].index("2.5.1")
    assert lines["imagenet"][:column].endswith("imagenet data  ")
    assert lines["hotcoco"][column] == "9"


def test_doctor_names_each_kind_of_data_once_with_its_own_variable(tmp_path, monkeypatch):
    monkeypatch.delenv("DETECTRON2_DATASETS", raising=False)
    monkeypatch.delenv("IMAGENET_DIR", raising=False)
    found = {own.name: own for own in doctor._data([], tmp_path)}
    assert list(found) == ["imagenet data", "coco data"]
    assert found["coco data"].found.endswith(" (for coco, regions)")
    assert found["coco data"].fix == "--data coco=DIR or $DETECTRON2_DATASETS names real data"
    assert found["imagenet data"].fix == "--data imagenet=DIR or $IMAGENET_DIR names real data"
