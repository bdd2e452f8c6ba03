"""Rules: they enter the identity of the runs that they apply to, and of no others."""

from dataclasses import replace

import pytest
from msgspec.structs import replace as changed

from backbones.base.sections import as_plain
from backbones.checkpoint import Checkpoint
from backbones.weights.use import WeightsUse
from benchmarks.leaderboard.rows import make_tables
from benchmarks.plan.plan import make_plan
from benchmarks.plan.rules import RunFacts, broken_rules, known_rules, rules_of
from benchmarks.store.folders import Scan, Store
from benchmarks.store.record import BackboneFacts
from benchmarks.suites import get_task

FRESH_USE = WeightsUse()


def _of(make_spec, task, recipe, backbone, use=FRESH_USE, **values):
    config = get_task(task).recipes()[recipe]()
    if values:
        section = replace(config.data, **values)
        config = replace(config, data=section)
    plain = as_plain(config)
    return rules_of(RunFacts(make_spec(task=task, backbone=backbone, recipe=plain), use))


def _weights(form, backbone, **facts):
    made = Checkpoint(backbone, None, "1" * 64, form, **facts)
    return WeightsUse.of_checkpoint(made)


@pytest.mark.parametrize("backbone", ["vit-nano", "resnet-nano", "efficientnet-lite0"])
def test_own_networks_keep_their_ids(make_spec, backbone):
    assert _of(make_spec, "coco", "mini", backbone) == ()


# Layer decay in mini; a frozen first layer in ResNet's recipe, which is a block or a whole stage.
@pytest.mark.parametrize(
    ("task", "recipe", "backbone", "applies"),
    [
        ("coco", "mini", "timm:pvt_v2_b0", True),
        ("coco", "mini", "timm:resnet18", False),
        ("coco", "mini", "timm:convnext_atto", False),
        ("coco", "r50-fpn-1x", "timm:pvt_v2_b0", True),
        ("coco", "r50-fpn-1x", "timm:resnet18", False),
        ("finetune", "finetune-mini", "timm:pvt_v2_b0", True),
        ("partial", "partial-mini", "timm:pvt_v2_b0", True),
        ("knn", "knn", "timm:pvt_v2_b0", False),
    ],
)
def test_layers_of_timm(make_spec, task, recipe, backbone, applies):
    assert ("timm-layers/1" in _of(make_spec, task, recipe, backbone)) == applies


@pytest.mark.parametrize(
    ("task", "recipe", "backbone", "applies"),
    [
        ("coco", "swin-1x", "timm:coat_tiny", True),
        ("coco", "mini", "timm:coat_tiny", False),
        ("coco", "swin-1x", "timm:convnext_atto", False),
        ("finetune", "finetune-vit-b16", "timm:levit_128s", True),
        ("knn", "knn", "timm:levit_128s", False),
    ],
)
def test_stochastic_depth_of_networks_with_one_rate(make_spec, task, recipe, backbone, applies):
    assert ("drop-path/1" in _of(make_spec, task, recipe, backbone)) == applies


@pytest.mark.parametrize(
    ("use", "backbone", "size", "applies"),
    [
        (replace(_weights("dino", "vit-s16"), table=14), "vit-s16", 224, False),
        (replace(_weights("dino", "vit-s16"), table=14), "vit-s16", 160, True),
        (replace(_weights("mae", "vit-s16"), table=14), "vit-s16", 160, False),
        (_weights("backbench", "vit-s16", method="dino", img_size=224), "vit-s16", 160, True),
        (_weights("backbench", "vit-s16", method="dino", img_size=160), "vit-s16", 160, False),
        (_weights("backbench", "vit-s16", method="mae", img_size=224), "vit-s16", 160, False),
        (_weights("backbench", "franca-b14", method="mae", img_size=224), "franca-b14", 160, True),
        (_weights("backbench", "franca-b14", method="mae", img_size=224), "franca-b14", 224, False),
        (replace(_weights("esvit", "swin-t"), table=0), "swin-t", 160, False),
        (FRESH_USE, "vit-s16", 160, False),
    ],
)
def test_positions(make_spec, use, backbone, size, applies):
    found = _of(make_spec, "knn", "knn", backbone, use, img_size=size)
    assert ("positions/1" in found) == applies
    assert _of(make_spec, "coco", "vitdet-25ep", backbone, use) == ()


@pytest.mark.parametrize(
    ("backbone", "size", "applies"),
    [
        ("timm:vit_small_patch14_dinov2.lvd142m", 224, True),
        ("timm:vit_small_patch14_dinov2", 224, True),
        ("timm:vit_small_patch14_dinov2.lvd142m", 518, False),
        ("timm:vit_small_patch14_reg4_dinov2.lvd142m", 224, False),
        ("timm:vit_small_patch16_224.dino", 224, False),
        ("timm:vit_small_patch16_224.dino", 160, True),
        ("timm:vit_small_patch16_224.augreg_in1k", 160, False),
    ],
)
def test_positions_of_timms_tags(make_spec, backbone, size, applies):
    table = 37 if "dinov2" in backbone else 14
    use = replace(_weights("timm", backbone, method="pretrained"), table=table)
    config = get_task("knn").recipes()["knn"]()
    recipe = as_plain(replace(config, data=replace(config.data, img_size=size)))
    spec = make_spec(task="knn", backbone=backbone, recipe=recipe, weights_format="timm")
    assert ("author-positions/1" in rules_of(RunFacts(spec, use))) == applies
    own = changed(spec, weights_format="backbench")
    assert "author-positions/1" not in rules_of(RunFacts(own, use))


@pytest.mark.parametrize(
    ("backbone", "method", "size", "applies"),
    [
        ("timm:vit_small_patch16_224", "dino", 160, True),
        ("timm:vit_small_patch16_224", "esvit", 160, True),
        ("timm:vit_small_patch16_224", "dino", 224, False),
        ("timm:vit_small_patch16_224", "mae", 160, False),
        ("vit-s16", "dino", 160, False),
    ],
)
def test_positions_of_timm_networks_pretrained_here(make_spec, backbone, method, size, applies):
    use = _weights("backbench", backbone, method=method, img_size=224)
    config = get_task("knn").recipes()["knn"]()
    recipe = as_plain(replace(config, data=replace(config.data, img_size=size)))
    spec = make_spec(task="knn", backbone=backbone, recipe=recipe, weights_format="backbench")
    assert ("trained-positions/1" in rules_of(RunFacts(spec, use))) == applies


def test_norm_behind_pooling(make_spec):
    use = replace(_weights("beit", "beit-b16"), table=0, norm_behind_pooling=True)
    assert _of(make_spec, "knn", "knn", "beit-b16", use) == ("pooled-norm/1",)
    assert _of(make_spec, "coco", "mini", "beit-b16", use) == ()


def test_an_old_record_under_a_rule_is_stale(tmp_path, make_spec, make_request, make_record):
    spec = make_spec()
    ruled = changed(spec, rules=("timm-layers/1",))
    assert ruled.run_id != spec.run_id
    old, scan = make_record(spec), Scan({spec.run_id: make_record(spec)}, {}, {})
    (cell,) = make_plan([make_request(ruled)], Store(tmp_path), scan)
    assert cell.state == "stale"
    assert "before the rule timm-layers/1 (layers of timm networks are their blocks)" in cell.note
    assert old.run_id in cell.note


def _old(make_spec, make_record, **environment):
    recipe = as_plain(get_task("coco").recipes()["mini"]())
    spec = make_spec(backbone="timm:pvt_v2_b0", recipe=recipe)
    record = make_record(spec, backbone=BackboneFacts("timm:pvt_v2_b0", "backbench"))
    return changed(record, environment=environment)


def test_no_table_ranks_a_record_from_before_a_rule(tmp_path, make_spec, make_record):
    old = _old(make_spec, make_record)
    assert broken_rules(old) == ("timm-layers/1",)
    other = make_record(make_spec(seed=0))
    scan = Scan({old.run_id: old, other.run_id: other}, {}, {})
    first, second = sorted(make_tables(scan, Store(tmp_path)), key=lambda t: len(t.key.protocol))
    assert (first.key.protocol, len(first.rows)) == ("mini/v1", 1)
    assert second.key.protocol == "mini/v1+before:timm-layers/1"
    assert "done before the rule timm-layers/1" in second.rows[0].note


def test_a_record_that_knew_the_rules_is_not_asked_again(make_spec, make_record):
    assert broken_rules(_old(make_spec, make_record, rules=known_rules())) == ()


def test_a_new_run_of_the_same_kind_tells_what_the_old_record_does_not(
    tmp_path, make_spec, make_request, make_record
):
    spec = make_spec(task="knn", recipe={})
    ruled = changed(spec, rules=("pooled-norm/1",))
    old, new = make_record(spec), make_record(ruled)
    scan = Scan({old.run_id: old, new.run_id: new}, {}, {})
    tables = make_tables(scan, Store(tmp_path))
    assert sorted(t.key.protocol for t in tables) == ["mini/v1", "mini/v1+before:pooled-norm/1"]


def test_old_records_of_real_runs_break_no_rule(real_records):
    from benchmarks.store.record_file import read_text

    assert real_records
    for path in real_records:
        assert broken_rules(read_text(path.read_bytes())) == ()


# Windows of 7 on maps of 4 tokens, of 14 on maps of 8; Swin-nano has windows of 4, and one block
# where its map is 4 tokens wide.
@pytest.mark.parametrize(
    ("recipe", "backbone", "applies"),
    [
        ("mini", "swin-nano", False),
        ("mini", "swin-t", True),
        ("mini", "timm:swinv2_tiny_window8_256", True),
        ("mini", "timm:convnext_atto", False),
        ("small", "swin-t-w14", False),
        ("small", "timm:swinv2_tiny_window16_256", True),
        ("swin-1x", "swin-t-w14", False),
        ("swin-1x", "timm:swin_base_patch4_window12_384", False),
    ],
)
def test_windows_of_swin(make_spec, recipe, backbone, applies):
    assert ("swin-windows/1" in _of(make_spec, "coco", recipe, backbone)) == applies
    assert "swin-windows/1" not in _of(make_spec, "knn", "knn", backbone)
