"""``run.py verify``: measured beside published; docs/protocols.md; the README's section."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs

from backbones.base.sections import as_plain
from benchmarks.cli import main
from benchmarks.leaderboard.protocol_page import page
from benchmarks.leaderboard.published.band import architecture
from benchmarks.leaderboard.published.pretraining import pretraining_data
from benchmarks.store.folders import Store
from benchmarks.store.record import BackboneFacts, Labels, MetricValue
from benchmarks.suites import get_task, task_names

ROOT = Path(__file__).resolve().parents[3]
MAE = BackboneFacts("vit-b16", "mae", method="mae", epochs=1600.0)


@pytest.fixture
def measured(tmp_path, make_record, make_spec):
    """Return a function that writes a COCO run and returns the folder."""

    def write(score, recipe="vitdet-100ep", facts=MAE, lr=None, **changes):
        task = get_task("coco")
        config = task.recipes()[recipe]()
        if lr:
            config = replace(config, optim=replace(config.optim, base_lr=lr))
        spec = make_spec(
            backbone=facts.name, recipe=as_plain(task.check(config)), weights_format=facts.format
        )
        values = {"APbox": score, "APmask": score - 5.7}
        record = make_record(
            spec,
            labels=Labels("coco", "entry", recipe, config.protocol, "coco", False),
            backbone=facts,
            metrics={
                name: MetricValue(v, "percent", higher_is_better=True, reason=None)
                for name, v in values.items()
            },
            per_class={},
            **changes,
        )
        store = Store(tmp_path / "runs")
        store.folder(record.run_id).write_record(record)
        return str(store.root)

    return write


def test_a_repeated_result_is_inside_the_band(measured, capsys):
    out = measured(51.5)
    assert main(["verify", "entry", "--out", out]) == 0
    text = capsys.readouterr().out
    assert "inside the published band" in text
    assert "51.2, 51.6" in text
    assert "projects/ViTDet/README.md" in text


def test_another_rate_is_named_beside_what_it_did(measured, capsys):
    out = measured(49.0, lr=3e-4)
    assert main(["verify", "entry", "--out", out, "--json"]) == 5
    (verdict,) = json.loads(capsys.readouterr().out)
    assert not verdict["inside"]
    assert verdict["differences"] == [
        {"setting": "optim.base_lr", "here": "0.0003", "published": "0.0001"}
    ]


def test_a_recipe_of_our_own_is_held_against_the_nearest(measured, capsys):
    out = measured(48.0, recipe="benchmarking-vit-25ep", facts=structs.replace(MAE, epochs=None))
    main(["verify", "entry", "--out", out])
    text = capsys.readouterr().out
    assert "li-2021" in text
    assert "simple feature pyramid" in text


def test_a_published_row_finds_the_measured_ones(measured, capsys):
    facts = BackboneFacts("timm:swin_tiny_patch4_window7_224.ms_in1k", "timm", method="pretrained")
    out = measured(43.7, recipe="swin-1x", facts=facts)
    main(["verify", "supervised-swin-t-300ep--swin-mmdet-1x", "--out", out])
    assert "entry, swin-mmdet/v1+1x" in capsys.readouterr().out
    assert main(["verify", "mae-vit-b-16-1600ep--vitdet-100ep", "--out", out]) == 4


@pytest.mark.parametrize(
    ("tag", "here"),
    [
        ("ms_in1k", None),
        ("ms_in22k", "ImageNet-22K"),
        ("ms_in22k_ft_in1k", "ImageNet-22K, then ImageNet-1K"),
        ("fb_swsl_ig1b_ft_in1k", "fb_swsl_ig1b, then ImageNet-1K"),
    ],
)
def test_other_pretraining_data_is_told(measured, capsys, tag, here):
    name = f"timm:swin_tiny_patch4_window7_224.{tag}"
    facts = BackboneFacts(name, "timm", method="pretrained", data=tag)
    main(["verify", "entry", "--out", measured(43.7, recipe="swin-1x", facts=facts), "--json"])
    (verdict,) = json.loads(capsys.readouterr().out)
    told = [{"setting": "pretraining data", "here": here, "published": "ImageNet-1K"}]
    assert verdict["differences"] == (told if here else [])


def test_the_band_is_that_of_the_same_pretraining_data(measured, capsys):
    name = "timm:swin_large_patch4_window7_224.ms_in22k"
    facts = BackboneFacts(name, "timm", method="pretrained", data="ms_in22k")
    out = measured(55.0, recipe="vitdet-swin-50ep", facts=facts)
    main(["verify", "entry", "--out", out, "--json"])
    (verdict,) = json.loads(capsys.readouterr().out)
    assert {row["data"] for row in verdict["rows"]} == {"ImageNet-22K"}
    assert verdict["differences"] == []


@pytest.mark.parametrize(
    ("facts", "tag", "data"),
    [
        (BackboneFacts("x", "timm"), "mae", "ImageNet-1K"),
        (BackboneFacts("x", "timm"), "augreg2_in21k_ft_in1k", "ImageNet-22K, then ImageNet-1K"),
        (BackboneFacts("x", "timm"), "orig_in21k", "ImageNet-22K"),
        (BackboneFacts("x", "timm"), "sw_in12k", "ImageNet-12K"),
        (BackboneFacts("x", "timm"), "bamboo", "bamboo"),
        (BackboneFacts("x", "backbench", data="imagenet"), "", "ImageNet-1K"),
        (BackboneFacts("x", "backbench", data="ILSVRC2012"), "", "ImageNet-1K"),
        (BackboneFacts("x", "backbench", data="imagenet22k"), "", "imagenet22k"),
        (BackboneFacts("x", "backbench", data="imagenet-100"), "", "imagenet-100"),
        (BackboneFacts("x", "backbench", data="mini"), "", "mini"),
        (BackboneFacts("x", "mae"), "", ""),
    ],
)
def test_what_weights_were_pretrained_on(facts, tag, data):
    assert pretraining_data(facts, tag) == data


@pytest.mark.parametrize(
    ("facts", "name", "code", "words"),
    [
        (MAE, "entri", 2, 'Did you mean "entry"'),
        (BackboneFacts("vit-nano", method="random"), "entry", 2, "Nobody published"),
    ],
)
def test_what_cannot_be_verified_is_one_sentence(measured, capsys, facts, name, code, words):
    out = measured(20.0, facts=facts)
    assert main(["verify", name, "--out", out]) == code
    err = capsys.readouterr().err
    assert words in err
    assert len(err.splitlines()) == 1


def test_mini_rows_are_never_verified(tmp_path, make_record, capsys):
    record = make_record()
    store = Store(tmp_path)
    store.folder(record.run_id).write_record(record)
    assert main(["verify", "vit-nano", "--out", str(tmp_path)]) == 4
    assert "mini data" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("timm:vit_base_patch16_224.mae", "vit-b16"),
        ("timm:resnet50.a1_in1k", "resnet50"),
        ("timm:resnet50d.ra2_in1k", "timm:resnet50d"),
        ("timm:resnet50_clip.openai", "timm:resnet50_clip"),
        ("timm:vit_base_patch16_clip_224.openai", "timm:vit_base_patch16_clip_224"),
        ("lomar-vit-b16", "vit-b16"),
        ("swin-t-w14", "swin-t-w14"),
    ],
)
def test_a_network_has_one_name(name, ours):
    assert architecture(name) == ours


def test_the_page_of_protocols_is_what_the_registries_say():
    text = (ROOT / "docs" / "protocols.md").read_text()
    assert text == page(), "run: python -m benchmarks.leaderboard.protocol_page > docs/protocols.md"
    for name in task_names():
        for make in get_task(name).recipes().values():
            assert f"### `{make().protocol}`" in text


def test_the_readme_gets_a_section_and_a_figure(tmp_path, make_record, make_spec, capsys):
    store = Store(tmp_path / "runs")
    for seed in (0, 1):
        record = make_record(make_spec(seed=seed), 10.0 + seed)
        store.folder(record.run_id).write_record(record)
    readme, figure = tmp_path / "README.md", tmp_path / "docs" / "leaderboard.svg"
    readme.write_text("# A\n<!-- leaderboard: begin -->\nold\n<!-- leaderboard: end -->\nB\n")
    arguments = ["leaderboard", "--readme", str(readme), "--out", str(store.root)]
    assert main(arguments) == 0
    text, drawn = readme.read_text(), figure.read_bytes()
    assert text.startswith("# A\n<!-- leaderboard: begin -->\n\n![APbox")
    assert text.endswith("\n\n<!-- leaderboard: end -->\nB\n")
    assert "old" not in text
    assert "| vit-nano | 10.5" in text
    assert b"vit-nano" in drawn
    assert main(arguments) == 0
    assert (readme.read_text(), figure.read_bytes()) == (text, drawn)
    readme.write_text("no markers")
    assert main(arguments) == 2
    assert "<!-- leaderboard: begin -->" in capsys.readouterr().err
    assert readme.read_text() == "no markers"
    assert main([*arguments[:2], str(tmp_path / "absent.md"), *arguments[3:]]) == 4


GLOBAL = {"detector": {"attention": "global in all blocks", "blocks": "12"}}
WINDOWED = {
    "detector": {
        "attention": "windows of 14 in 8 blocks, global in 2, 5, 8, 11",
        "relative positions": "decomposed",
    }
}
TIMM_MAE = BackboneFacts("timm:vit_base_patch16_224.mae", "timm", method="pretrained", data="mae")


def test_a_detector_with_other_facts_is_not_held_against_a_published_one(measured, capsys):
    out = measured(51.5, details=GLOBAL)
    assert main(["verify", "entry", "--out", out]) == 4
    told = capsys.readouterr().err
    assert "attention: global in all blocks here, windows of 14" in told
    assert main(["verify", "mae-vit-b-16-1600ep--vitdet-100ep", "--out", out]) == 4


def test_a_detector_with_the_same_facts_is(measured, capsys):
    assert main(["verify", "entry", "--out", measured(51.5, details=WINDOWED)]) == 0
    assert "cae" not in capsys.readouterr().out


HUGE = BackboneFacts("vit-h14", "mae", method="mae", data="ImageNet-1K", epochs=1600)
PE = BackboneFacts("timm:vit_pe_core_gigantic_patch14_448", "timm", method="pe")


def test_patches_of_another_size_are_another_detector(measured, capsys):
    """ViTDet's ViT-H has patches of 16, vit-h14 those of MAE's file, 14."""
    out = measured(56.7, recipe="vitdet-h-75ep", facts=HUGE)
    assert main(["verify", "entry", "--out", out]) == 4
    said = "patches: 14 pixels, map resampled to stride 16 here, 16 pixels"
    assert said in capsys.readouterr().err
    facts = {
        "attention": "windows of 32 in 46 blocks, global in 12, 24, 36, 49",
        "patches": "14 pixels, map resampled to stride 16",
    }
    out = measured(57.0, recipe="pe-g-75ep", facts=PE, details={"detector": facts})
    assert main(["verify", "pe-core-g--vitdet-pe-75ep", "--out", out]) == 4
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(("details", "code"), [({}, 4), (WINDOWED, 0), (GLOBAL, 4)])
def test_a_timm_vit_needs_its_facts(measured, capsys, details, code):
    out = measured(51.5, facts=TIMM_MAE, details=details)
    assert main(["verify", "entry", "--out", out]) == code
    assert ("not recorded here" in capsys.readouterr().err) == (not details)


def test_a_labs_row_is_part_of_the_band(measured, capsys, tmp_path):
    path = tmp_path / "lab.csv"
    path.write_text(
        "row,family,method,backbone,arch,pretrain_data,pretrain_epochs,img_size,task,protocol,"
        "metric,value,setting,source\n"
        "lab-mae,mae,MAE,ViT-B/16,vit-b16,ImageNet-1K,1600,,coco,vitdet/v1+100ep,APbox,48.9,,r7\n"
    )
    out = measured(49.0)
    assert main(["verify", "entry", "--out", out]) == 5
    assert main(["verify", "lab-mae", "--out", out, "--published", str(path)]) == 0
    assert main(["leaderboard", "--out", out, "--published", str(path)]) == 0
    assert "r7" in capsys.readouterr().out
    path.write_text("row\n")
    assert main(["verify", "entry", "--out", out, "--published", str(path)]) == 2
    assert "column 'family' is missing" in capsys.readouterr().err
