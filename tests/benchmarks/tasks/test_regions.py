"""The region probe: boxes, pooling and readers against independent references; resume; results."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from backbones.base.errors import StoppedError, UserError
from backbones.base.monitor import SilentMonitor
from backbones.catalog import get_spec
from backbones.spec import BuildOptions
from backbones.weights.loading import build_backbone
from backbones.weights.source import open_checkpoint
from benchmarks.annotated.task import facts_of
from benchmarks.suites import choose_suite, get_task
from benchmarks.task import inputs_on_mini
from benchmarks.tasks.regions import ridge
from benchmarks.tasks.regions.boxes import boxes_of, moved, offsets, paired_iou
from benchmarks.tasks.regions.extract import maps_of
from benchmarks.tasks.regions.readers import held_out
from benchmarks.tasks.regions.recipes import BoxesConfig, region_probe_mini
from benchmarks.tasks.regions.results import RESULTS_FILE, RegionResults, read_results
from benchmarks.tasks.regions.ridge import BoxRidge

SAMPLE = {
    "image_id": 7,
    "width": 200,
    "height": 100,
    "annotations": [
        {"bbox": [10, 20, 30, 40], "category_id": 2, "iscrowd": 0, "area": 1000.0},
        {"bbox": [150, 0, 50, 100], "category_id": 0, "iscrowd": 0, "area": 10_000.0},
        {"bbox": [60, 0, 80, 100], "category_id": 1, "iscrowd": 1, "area": 8000.0},
    ],
}


def test_boxes_are_objects_without_crowds_their_copies_and_free_places():
    config = BoxesConfig(jitters=3)
    found = boxes_of(SAMPLE, config, seed=0)
    assert found.objects.tolist() == [[10, 20, 40, 60], [150, 0, 200, 100]]
    assert found.labels.tolist() == [2, 0]
    assert found.sizes.tolist() == [0, 2]
    assert found.jittered.shape == (2, 3, 4)
    for box, copies in zip(found.objects, found.jittered, strict=True):
        assert (copies[:, :2] >= 0).all()
        assert (copies[:, 2:] <= [200, 100]).all()
        iou = paired_iou(np.repeat(box[None], 3, axis=0), copies)
        assert (iou > 0.1).all()
        assert (iou < 1).any()
    everything = np.array([[10, 20, 40, 60], [150, 0, 200, 100], [60, 0, 140, 100]], float)
    for box in found.background:
        assert paired_iou(np.repeat(box[None], 3, axis=0), everything).max() <= 0.2
    again = boxes_of(SAMPLE, config, seed=0)
    assert np.array_equal(again.jittered, found.jittered)
    assert not np.array_equal(boxes_of(SAMPLE, config, seed=1).jittered, found.jittered)


def test_offsets_lead_back_and_are_torchvisions():
    random = np.random.default_rng(0)
    corners = random.uniform(0, 50, (2, 20, 2))
    boxes, targets = (np.concatenate([c, c + random.uniform(5, 60, (20, 2))], 1) for c in corners)
    by = offsets(boxes, targets)
    assert np.allclose(moved(boxes, by), targets, atol=1e-12)
    from torchvision.models.detection._utils import BoxCoder

    coder = BoxCoder((1.0, 1.0, 1.0, 1.0))
    reference = coder.encode_single(torch.from_numpy(targets), torch.from_numpy(boxes))
    assert np.allclose(by, reference.numpy(), atol=1e-12)


@pytest.mark.parametrize("rows", [8, 300, 5000])
@pytest.mark.parametrize("chunk", [2**24, 70])
def test_ridge_is_scikit_learns_on_standardised_rows(rows, chunk, monkeypatch):
    """More and fewer rows than features: the normal equations and their dual."""
    monkeypatch.setattr(ridge, "_CHUNK_VALUES", chunk if rows < 5000 else 2**14)
    random = np.random.default_rng(1)
    cells = (random.normal(3, 2, (rows, 12)) * random.uniform(0.1, 9, 12)).astype(np.float16)
    cells[:, 5] = 1.5
    targets = random.normal(0, 1, (rows, 4)) + cells[:, :4].astype(float)
    l2 = 0.03
    reader = BoxRidge(cells, torch.device("cpu"), clip=1e6)
    places = random.permutation(rows)[: rows - 2]
    fit = reader.fit(places, targets)
    assert fit.dual == (rows == 8)
    assert fit.gram.shape == (min(len(places), 12),) * 2
    found = reader.predict(reader.solve(fit, l2), cells, np.arange(rows))
    scaler = StandardScaler().fit(cells[places].astype(float))
    ours = scaler.transform(cells.astype(float))
    reference = Ridge(alpha=l2 * len(places)).fit(ours[places], targets[places]).predict(ours)
    assert np.allclose(found, reference, atol=1e-8)


def test_a_wide_ridge_needs_no_matrix_of_its_features():
    """100,000 features and 12 rows: a matrix of all pairs of features would take 75 GiB."""
    random = np.random.default_rng(3)
    cells = random.normal(0, 1, (12, 100_000)).astype(np.float16)
    targets = random.normal(0, 1, (12, 4))
    reader = BoxRidge(cells, torch.device("cpu"), clip=5.0)
    fit = reader.fit(np.arange(12), targets)
    assert fit.gram.shape == (12, 12)
    found = reader.predict(reader.solve(fit, 1e-3), cells, np.arange(12))
    # So many features fit the targets almost exactly.
    assert np.abs(found - targets).max() < 0.05


def test_a_cell_far_out_throws_no_box_away():
    random = np.random.default_rng(2)
    cells = random.normal(0, 1, (400, 6)).astype(np.float16)
    cells[::80, 0] = 40
    targets = random.normal(0, 0.1, (400, 4)) + 0.1 * cells[:, 1:5].astype(float)
    reader = BoxRidge(cells, torch.device("cpu"), clip=5.0)
    places = np.arange(400)
    solved = reader.solve(reader.fit(places, targets), 0.03)
    z = StandardScaler().fit_transform(cells.astype(float)).clip(-5, 5)
    scaler = StandardScaler().fit(z)
    reference = Ridge(alpha=0.03 * 400).fit(scaler.transform(z), targets)
    found = reader.predict(solved, cells, places)
    assert np.allclose(found, reference.predict(scaler.transform(z)), atol=1e-8)
    # A value that no training cell comes near counts as the clip, not as itself.
    far = cells[:1].copy()
    far[0, 2] = 6e4
    assert np.abs(reader.predict(solved, far, np.zeros(1, np.int64))).max() < 1.5


def test_a_plain_map_is_the_normed_tokens_in_their_places():
    spec = get_spec("vit-nano")
    net, _ = build_backbone(spec, open_checkpoint("vit-nano"), BuildOptions(img_size=64), 0)
    net.eval()
    images = torch.randn(2, 3, 48, 64)
    with torch.no_grad():
        (found,) = maps_of(net, images, True)
        raw = net.forward_maps(images)[-1]
        expected = net.norm(raw.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    assert torch.allclose(found, expected, atol=1e-6)


def test_hierarchical_maps_are_normed_only_where_the_network_norms():
    images = torch.randn(1, 3, 64, 64)
    for name, layer_norm in (("swin-nano", True), ("resnet-nano", False)):
        net, _ = build_backbone(get_spec(name), open_checkpoint(name), BuildOptions(img_size=64), 0)
        net.eval()
        with torch.no_grad():
            found, raw = maps_of(net, images, layer_norm), net.forward_maps(images)
        assert len(found) == len(net.strides)
        for ours, theirs in zip(found, raw, strict=True):
            if layer_norm:
                assert torch.allclose(ours.mean(1), torch.zeros_like(ours.mean(1)), atol=1e-5)
            else:
                assert torch.equal(ours, theirs)


def test_held_out_images_are_some_and_not_all():
    for count in (1, 2, 3, 10, 1000):
        held = held_out(count, 0.2, seed=0)
        assert held.sum() == max(1, round(0.2 * count))
        assert count == 1 or not held.all()


def _results() -> RegionResults:
    random = np.random.default_rng(3)
    n, m, k = 40, 25, 60
    images, copies = random.integers(0, 6, n), random.integers(0, 6, k)
    return RegionResults(
        {
            "image_ids": np.arange(100, 106),
            "images": images.astype(np.int32),
            "labels": random.integers(0, 4, n).astype(np.int32),
            "sizes": random.integers(0, 3, n).astype(np.int8),
            "linear": random.random(n) < 0.6,
            "knn": random.random(n) < 0.4,
            "predicted": random.integers(0, 4, n).astype(np.int32),
            "with_background": random.random(n) < 0.5,
            "background_images": random.integers(0, 6, m).astype(np.int32),
            "background": random.random(m) < 0.7,
            "copy_images": copies.astype(np.int32),
            "copy_sizes": random.integers(0, 3, k).astype(np.int8),
            "copy_labels": random.integers(0, 4, k).astype(np.int32),
            "iou": random.random(k).astype(np.float32),
        }
    )


def test_metrics_of_resampled_images_are_those_of_the_boxes_written_out():
    results = _results()
    weights = np.array([[1, 1, 1, 1, 1, 1], [2, 0, 1, 0, 3, 0], [0, 0, 0, 0, 0, 6]], np.int32)
    found = results.metrics(weights)
    c = results.columns
    for row, times in enumerate(weights):
        boxes = np.concatenate([np.repeat(np.flatnonzero(c["images"] == i), t)
                                for i, t in enumerate(times)]).astype(int)  # fmt: skip
        free = np.concatenate([np.repeat(np.flatnonzero(c["background_images"] == i), t)
                               for i, t in enumerate(times)]).astype(int)  # fmt: skip
        copies = np.concatenate([np.repeat(np.flatnonzero(c["copy_images"] == i), t)
                                 for i, t in enumerate(times)]).astype(int)  # fmt: skip
        right, labels = c["linear"][boxes], c["labels"][boxes]
        both = np.concatenate([c["with_background"][boxes], c["background"][free]])
        small = c["sizes"][boxes] == 0
        expected = {
            "region_top1": right.mean(),
            "region_knn_top1": c["knn"][boxes].mean(),
            "region_background_top1": both.mean(),
            "region_mean_class": np.mean([right[labels == n].mean() for n in np.unique(labels)]),
            "region_iou": c["iou"][copies].mean(),
            "region_iou75": (c["iou"][copies] > 0.75).mean(),
            "region_top1_small": right[small].mean() if small.any() else np.nan,
        }
        for name, value in expected.items():
            assert found[name][row] == pytest.approx(100 * value, nan_ok=True), name


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    config = region_probe_mini()
    small = replace(
        config, heads=replace(config.heads, l2s=(0.1, 1.0), box_l2s=(1.0, 10.0), max_iterations=30)
    )
    folder = tmp_path_factory.mktemp("regions")
    checkpoint = open_checkpoint("resnet-nano")
    made = inputs_on_mini("coco", get_spec("resnet-nano"), checkpoint, small, folder, 12)
    made.out_dir.mkdir()
    return made


def test_a_run_reports_every_metric_and_its_results_again(inputs):
    result = get_task("regions").run(inputs, SilentMonitor())
    names = set(get_task("regions").metrics)
    assert set(result.metrics) == names
    again = read_results(inputs.out_dir / RESULTS_FILE)
    ones = np.ones((1, len(again.image_ids)), np.int32)
    for name, values in again.metrics(ones).items():
        value = result.metrics[name]
        assert (value is None and np.isnan(values[0])) or value == values[0], name
    assert all(path.is_file() for path in result.files)
    json.dumps(dict(result.details))
    # The images were pooled once: a second run reads them.
    second = get_task("regions").run(inputs, SilentMonitor())
    assert dict(second.metrics) == dict(result.metrics)
    assert second.cost["images_per_second_test"] is None


def test_a_stop_loses_no_finished_block_and_changes_nothing(inputs, tmp_path):
    class Stops(SilentMonitor):
        def should_stop(self) -> bool:
            return True

    other = replace(inputs, out_dir=tmp_path, cache=tmp_path / "cache")
    with pytest.raises(StoppedError):
        get_task("regions").run(other, Stops())
    result = get_task("regions").run(other, SilentMonitor())
    before = get_task("regions").run(inputs, SilentMonitor())
    assert dict(result.metrics) == dict(before.metrics)


def test_a_damaged_block_is_pooled_again(inputs):
    before = get_task("regions").run(inputs, SilentMonitor())
    for path in (inputs.cache / "regions").rglob("*.npz"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(content)
    after = get_task("regions").run(inputs, SilentMonitor())
    assert after.cost["images_per_second_test"] is not None
    assert dict(after.metrics) == dict(before.metrics)


def test_damaged_results_are_refused(inputs):
    get_task("regions").run(inputs, SilentMonitor())
    path = inputs.out_dir / RESULTS_FILE
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=RESULTS_FILE):
        read_results(path)


def test_coco_measures_regions_on_request_and_all_by_default(inputs):
    assert "regions" not in choose_suite("coco", []).tasks
    assert choose_suite("coco", ["regions"]).tasks == ("regions",)
    assert "regions" in choose_suite("all", []).tasks
    assert facts_of(inputs.data, inputs.cache) == get_task("coco").read_facts(
        inputs.data, inputs.cache
    )


def test_a_network_of_one_size_gets_squares_under_a_protocol_of_its_own():
    task, config = get_task("regions"), region_probe_mini()
    assert task.fit(config, get_spec("vit-nano")) == config
    fitted = task.fit(config, get_spec("timm:hiera_tiny_224"))
    assert (fitted.protocol, fitted.images.square) == ("region-probe-mini/v1+square128", True)
    assert task.fit(fitted, get_spec("timm:hiera_tiny_224")) == fitted
    odd = replace(config, images=replace(config.images, short_side=96, max_size=100))
    with pytest.raises(UserError, match="runs only at the square size") as caught:
        task.fit(odd, get_spec("timm:hiera_tiny_224"))
    assert "\n" not in str(caught.value)
