import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from backbones.base.json_files import UnreadableFileError
from benchmarks.data.roots import DataRoot
from benchmarks.store.spec import read_request, write_request


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
    "first_sha256": "a" * 64,
    "rules": ("timm-layers/1",),
}


def test_every_field_is_identity(make_spec):
    spec = make_spec()
    assert set(CHANGES) == set(spec.__struct_fields__)
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
    assert read_request(tmp_path / "run.json") == request


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda c: c.pop("schema"), "missing required field `schema`"),
        (lambda c: c.pop("spec"), "missing required field `spec`"),
        (lambda c: c.pop("data"), "missing required field `data`"),
        (lambda c: c.update(schema="backbench.run/2"), "Invalid enum value 'backbench.run/2'"),
        (lambda c: c["spec"].update(seed=5), "does not belong to its run_id"),
        (lambda c: c["spec"].update(seed="0"), r"Expected `int`, got `str` at `\$.spec.seed`"),
        (lambda c: c.update(num_steps=None), r"Expected `int`, got `null` at `\$.num_steps`"),
        (lambda c: c.update(colour="red"), "unknown field `colour`"),
    ],
)
def test_a_damaged_request_is_refused_with_the_place(tmp_path, make_request, damage, words):
    path = tmp_path / "run.json"
    write_request(path, make_request())
    content = json.loads(path.read_text())
    del content["checksum"]
    damage(content)
    path.write_text(json.dumps(content))
    with pytest.raises(UnreadableFileError, match=words):
        read_request(path)


def test_an_edited_request_is_refused_by_its_checksum(tmp_path, make_request):
    path = tmp_path / "run.json"
    write_request(path, make_request())
    path.write_text(path.read_text().replace('"num_steps": 10', '"num_steps": 90'))
    with pytest.raises(UnreadableFileError, match="checksum differs"):
        read_request(path)


def test_a_request_of_an_earlier_version_is_read(tmp_path, make_request):
    path = tmp_path / "run.json"
    request = make_request(overrides_not_in_spec=("data.num_workers=2",))
    write_request(path, request)
    content = json.loads(path.read_text())
    del content["checksum"]
    content["aside"] = content.pop("overrides_not_in_spec")
    path.write_text(json.dumps(content))
    assert read_request(path) == request
