"""Pictures of detection runs: drawn from the very detections and images of the record, or not."""

import numpy as np
import pytest

from backbones.base.files import sha256_file
from benchmarks import cli
from benchmarks.by_image.resamples import compute_resamples, write_resamples
from benchmarks.data.roots import DataRoot
from benchmarks.leaderboard.page.gallery import galleries
from benchmarks.leaderboard.rows import make_tables
from benchmarks.store.folders import Store
from benchmarks.store.record import BackboneFacts, FullRecord, Labels, MetricValue, RunFile
from benchmarks.store.spec import RunRequest, RunSpec
from benchmarks.suites import get_task
from detection.data.dataset import find_coco, load_truth
from detection.scoring.detections import DETECTIONS_FILE, write_detections
from detection.scoring.matches import MATCHES_FILE, write_matches
from detection.scoring.matching import match
from tests.detection.conftest import content, write_files
from tests.parity.detection.test_cocoeval import jitter


def run_of(store, root, entry, seed):
    """Write a run on a data set: its request, what it found, and its record."""
    data = DataRoot("coco", "tiny", root, "--data")
    spec = RunSpec(
        task="coco", task_version=1,
        data_fingerprint=get_task("coco").read_facts(data, store.cache).fingerprint,
        backbone=entry, backbone_sha256="", weights_sha256="random", weights_format="backbench",
        weights_branch="", recipe={}, seed=seed, precision="fp32", batch_size=8, limit_images=None,
    )  # fmt: skip
    names = ("coco", entry, entry, "r", "mini/v1")
    folder = store.prepare(RunRequest(spec, *names, num_steps=1, num_images=1, data=data))
    truth = load_truth(find_coco(root, "tiny"), "val")
    detections = jitter(np.random.default_rng([seed, len(entry)]), truth, 2, 3)
    write_detections(folder.work / DETECTIONS_FILE, detections)
    write_matches(folder.work / MATCHES_FILE, match(truth, detections))
    results = get_task("coco").image_file.read(folder.work / MATCHES_FILE, ())
    resamples = compute_resamples(results)
    write_resamples(folder.work / "resamples.npz", resamples)
    files = tuple(
        RunFile(f"work/{path.name}", sha256_file(path), path.stat().st_size)
        for path in sorted(folder.work.glob("*.npz"))
    )
    facts = {"unit": "percent", "higher_is_better": True, "reason": None}
    record = FullRecord(
        spec=spec, status="done", attempt=1, created="2026-01-01T00:00:00+00:00",
        finished="2026-01-01T00:01:00+00:00",
        labels=Labels("coco", entry, "r", "mini/v1", "tiny", False),
        backbone=BackboneFacts(entry), headline="APbox", columns=("APbox",),
        metrics={"APbox": MetricValue(resamples.plain["APbox"], **facts)}, per_class={}, curves={},
        cost={"seconds": 2.0}, environment={}, attempts=(), failure=None, warnings=(),
        details={}, files=files,
    )  # fmt: skip
    folder.write_record(record)
    return record


@pytest.fixture
def store(tmp_path):
    """Return a folder of runs of two entries on one data set."""
    write_files(tmp_path / "tiny")
    store = Store(tmp_path / "runs")
    for entry in ("one", "other"):
        run_of(store, tmp_path / "tiny", entry, 0)
    return store


def shown(store):
    """Return the rows that the page's gallery shows, by position."""
    scan = store.scan()
    found = galleries(make_tables(scan, store), scan, store)
    return sorted(found["0"]["rows"]) if found else []


def compared(store, folder, capsys):
    code = cli.main(
        ["compare", "one", "other", "--out", str(store.root), "--pictures", str(folder)]
    )
    assert code == 0
    return capsys.readouterr().out


def test_both_are_drawn_where_all_is_as_it_was(store, tmp_path, capsys):
    assert shown(store) == ["0", "1"]
    out = compared(store, tmp_path / "pictures", capsys)
    assert "no pictures" not in out
    assert list((tmp_path / "pictures").glob("01-image-*.png"))


def test_detections_of_another_run_are_not_drawn(store, tmp_path, capsys):
    first, second = store.scan().records
    found = (store.folder(first).work / DETECTIONS_FILE).read_bytes()
    (store.folder(second).work / DETECTIONS_FILE).write_bytes(found)
    assert len(shown(store)) == 1
    assert "no pictures: " in compared(store, tmp_path / "pictures", capsys)
    assert not (tmp_path / "pictures").exists()


def test_images_of_other_data_are_not_drawn(store, tmp_path, capsys):
    write_files(tmp_path / "tiny", val=content(3))
    assert shown(store) == []
    out = compared(store, tmp_path / "pictures", capsys)
    assert "no pictures: " in out
    assert "other data than the run was tested on" in " ".join(out.split())


def test_an_image_that_is_gone_leaves_the_page_without_a_gallery(store, tmp_path, capsys):
    (tmp_path / "tiny" / "val2017" / "1.png").unlink()
    assert shown(store) == []
    assert "no pictures: " in compared(store, tmp_path / "pictures", capsys)


def test_a_first_seed_that_never_ended_gives_no_picture_but_its_next_does(store, tmp_path, capsys):
    run_of(store, tmp_path / "tiny", "one", 1)
    (first,) = (
        record
        for record in store.scan().records.values()
        if (record.spec.backbone, record.spec.seed) == ("one", 0)
    )
    store.folder(first.run_id).record.unlink()
    assert "no pictures" not in compared(store, tmp_path / "pictures", capsys)
    assert list((tmp_path / "pictures").glob("*.png"))
