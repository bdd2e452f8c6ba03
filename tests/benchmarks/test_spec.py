import json
from dataclasses import fields, replace
from pathlib import Path

import pytest

from benchmarks.data.roots import DataRoot
from benchmarks.store.spec import parse_request, write_request


def test_run_id_is_known_and_stable(make_spec):
    # Written down, because a change would orphan every run there is.
    assert make_spec().run_id == "bdea2002af7a413c"


CHANGES = {
    "task": "imagenet",
    "task_version": 2,
    "data_fingerprint": "0" * 64,
    "backbone": "vit-b16",
    "backbone_sha256": "2" * 64,
    "weights_sha256": "1" * 64,
    "weights_format": "mae",
    "weights_branch": "teacher",
    "recipe": {"protocol": "mini/v1", "optim": {"lr": 0.2}},
    "seed": 1,
    "precision": "bf16",
    "batch_size": 16,
    "limit_images": 5,
}


def test_every_field_is_identity(make_spec):
    spec = make_spec()
    assert set(CHANGES) == {item.name for item in fields(spec)}
    ids = {replace(spec, **{name: value}).run_id for name, value in CHANGES.items()}
    assert len(ids | {spec.run_id}) == len(CHANGES) + 1


def test_labels_and_places_are_no_identity(make_request):
    one = make_request()
    other = make_request(
        suite="all",
        entry="mine",
        data=DataRoot("coco", "x", Path("/elsewhere"), "--data"),
        evaluator="pycocotools",
        plugins=Path("/plugins"),
    )
    assert one.spec.run_id == other.spec.run_id


def test_a_cell_outlives_versions_and_recipes_but_not_overrides(make_request, make_spec):
    cell = make_request().cell
    newer = make_spec(task_version=2, recipe={"protocol": "mini/v2", "optim": {"lr": 0.3}})
    assert make_request(newer, protocol="mini/v2").cell == cell
    assert make_request(make_spec(seed=1)).cell != cell
    assert make_request(protocol="mini/v1+custom:abcdef").cell != cell
    assert make_request(recipe="long").cell != cell


def test_a_request_survives_its_file(tmp_path, make_request):
    root = DataRoot("coco", "dev", tmp_path, "--data")
    request = make_request(data=root, plugins=tmp_path / "plugins")
    write_request(tmp_path / "run.json", request)
    assert parse_request(json.loads((tmp_path / "run.json").read_text())) == request


@pytest.mark.parametrize("damage", ["schema", "spec", "seed", "data"])
def test_a_damaged_request_is_refused(tmp_path, make_request, damage):
    write_request(tmp_path / "run.json", make_request())
    content = json.loads((tmp_path / "run.json").read_text())
    if damage == "seed":
        content["spec"]["seed"] = 5
    else:
        del content[damage]
    with pytest.raises(ValueError, match=r"schema|fields|run\.1|run/1|run_id"):
        parse_request(content)
