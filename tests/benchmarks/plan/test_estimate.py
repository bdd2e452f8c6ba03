"""What a plan says that runs will cost, and where it has that from."""

from dataclasses import asdict

import pytest

from backbones.catalog import get_spec
from benchmarks.commands.plan_view import plan_lines, plan_table
from benchmarks.plan.estimate import ASSUMED_CPU, ASSUMED_GPU, Estimator, multiply_adds
from benchmarks.plan.plan import Cell
from detection.model.arithmetic import head_multiply_adds
from detection.recipes import RECIPES

MODEL = asdict(RECIPES["mini"]().model)
RECIPE = {"data": {"img_size": 224}, "model": MODEL}


def backbone_and_heads(name):
    """Return the multiply-adds of a detector's forward pass."""
    return multiply_adds(get_spec(name), 224) + head_multiply_adds(MODEL, 224)


@pytest.mark.parametrize(
    ("name", "published"),
    # 10^9 multiply-adds at 224 pixels: ViT and ResNet-50 as Touvron et al. 2021 and He et al. 2016
    # give them, Swin from Liu et al. 2021, table 1.
    [("vit-s16", 4.6), ("vit-b16", 17.6), ("vit-l16", 61.6), ("swin-t", 4.5), ("swin-s", 8.7),
     ("swin-b", 15.4), ("resnet50", 4.1)],
)  # fmt: skip
def test_multiply_adds_come_near_the_published_ones(name, published):
    assert multiply_adds(get_spec(name), 224) / 1e9 == pytest.approx(published, rel=0.16)


def test_without_records_flops_and_an_assumed_speed_decide(make_request, make_spec):
    request = make_request(make_spec(backbone="vit-b16", recipe=RECIPE), num_images=1000)
    for gpu, speed in ((True, ASSUMED_GPU), (False, ASSUMED_CPU)):
        found = Estimator([], gpu)(request)
        assert found.basis == "FLOPs"
        expected = 1000 * 3 * backbone_and_heads("vit-b16") / speed
        assert found.device_seconds == pytest.approx(expected)
    frozen = make_request(make_spec(task="knn", backbone="vit-b16", recipe=RECIPE), num_images=1000)
    expected = 1000 * multiply_adds(get_spec("vit-b16"), 224) / ASSUMED_CPU
    assert Estimator([], False)(frozen).device_seconds == pytest.approx(expected)


def test_a_measured_rate_counts_and_tells_how_fast_others_are(make_record, make_request, make_spec):
    spec = make_spec(backbone="vit-b16", recipe=RECIPE)
    record = make_record(spec, environment={"slurm": {"processes": "4"}})
    known = Estimator([record], gpu=True)
    same = make_request(make_spec(backbone="vit-b16", recipe=RECIPE, seed=7), num_images=1000)
    assert known(same).basis == "measured"
    assert known(same).device_seconds == pytest.approx(1000 / (8.0 / 4)), "8 images/s of four"
    other = make_request(make_spec(backbone="vit-s16", recipe=RECIPE), num_images=1000)
    ratio = backbone_and_heads("vit-s16") / backbone_and_heads("vit-b16")
    assert known(other).basis == "FLOPs"
    assert known(other).device_seconds == pytest.approx(ratio * 1000 / 2)


def test_nothing_is_said_where_nothing_is_known(make_request, make_spec, make_record):
    assert Estimator([], gpu=True)(make_request()) is None
    assert Estimator([], True)(make_request(make_spec(backbone="gone", recipe=RECIPE))) is None
    silent = make_record(cost={"images_per_second_train": None, "images_per_second_test": 9.0})
    assert Estimator([silent], gpu=True)(make_request()) is None
    older = make_spec(backbone="vit-b16", recipe={"data": {"img_size": 224}, "model": {}})
    assert Estimator([make_record(older)], gpu=True)(make_request()) is None, "values it lacks"


def test_the_rate_of_the_whole_run_counts_where_another_was_timed_alone(
    make_record, make_request, make_spec
):
    spec = make_spec(backbone="vit-b16", recipe=RECIPE)
    same = make_request(make_spec(backbone="vit-b16", recipe=RECIPE, seed=7), num_images=1000)
    cost = {"images_per_second_train": 20.0, "images_per_second_train_overall": 5.0}
    assert Estimator([make_record(spec, cost=cost)], True)(same).device_seconds == 1000 / 5
    # A training of few steps has no rate of its own.
    cost["images_per_second_train_overall"] = None
    assert Estimator([make_record(spec, cost=cost)], True)(same).device_seconds == 1000 / 20


def test_a_plan_says_which_is_which(make_record, make_request, make_spec):
    known = Estimator([make_record(make_spec(backbone="vit-b16", recipe=RECIPE))], gpu=True)
    requests = [
        make_request(make_spec(backbone=name, recipe=RECIPE), num_images=28_800)
        for name in ("vit-b16", "vit-s16", "gone")
    ]
    cells = [Cell(request, "missing", estimate=known(request)) for request in requests]
    (cost,) = [line for line in plan_lines(cells, cells, gpu=True) if line.startswith("cost")]
    assert "about 1.3 GPU-hours" in cost
    assert "1 at rates measured here before" in cost
    assert "1 guessed (~) from FLOPs" in cost
    assert "1 unknown until measured" in cost
    (cost,) = [line for line in plan_lines(cells, cells, gpu=False) if line.startswith("cost")]
    assert "of one process" in cost
    times = [row.split("mini")[-1] for row in plan_table(cells)]
    assert sum("~" in row for row in times) == 1
