"""Tables, comparisons and refusals, from records with results image by image."""

import json
import shutil
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

from backbones.base.files import sha256_file
from benchmarks import cli
from benchmarks.by_image.resamples import compute_resamples, write_resamples
from benchmarks.by_image.runs import NoImagesError, resamples_of
from benchmarks.data.roots import DataRoot
from benchmarks.leaderboard.rows import make_tables
from benchmarks.leaderboard.statistics.correlation import predictions
from benchmarks.leaderboard.statistics.table import difference, table_statistics
from benchmarks.seed_floors import ANY_PROTOCOL, SeedFloor, find_floor
from benchmarks.store.folders import Store
from benchmarks.store.record import BackboneFacts, FullRecord, Labels, MetricValue, RunFile
from benchmarks.store.spec import RunRequest, RunSpec
from benchmarks.suites import get_task, image_file_of

COUNT = 200


class Averages:
    """Results image by image of a metric that is a mean."""

    def __init__(self, values):
        self.values = values
        self.image_ids = np.arange(len(values))

    def metrics(self, weights):
        return {"knn_top1": weights @ self.values / weights.sum(axis=1)}


def record(store, entry, seed, values, **changes):
    """Write the record of a run that scored ``values`` on its images."""
    spec = RunSpec(
        task="knn", task_version=changes.get("version", 1), data_fingerprint="f" * 64,
        backbone=entry, backbone_sha256="", weights_sha256="random", weights_format="backbench",
        weights_branch="", recipe={"vote": {"k": changes.get("k", 20)}}, seed=seed,
        precision="fp32", batch_size=8, limit_images=None,
    )  # fmt: skip
    path = store.folder(spec.run_id).work / "resamples.npz"
    files = ()
    if changes.get("images", True):
        write_resamples(path, compute_resamples(Averages(values)))
        files = (RunFile("work/resamples.npz", sha256_file(path), path.stat().st_size),)
    metric = MetricValue(float(values.mean()), "percent", higher_is_better=True, reason=None)
    made = FullRecord(
        spec=spec, status="done", attempt=1, created="2026-01-01T00:00:00+00:00",
        finished="2026-01-01T00:01:00+00:00",
        labels=Labels("imagenet", entry, "r", changes.get("protocol", "knn/v1"), "mini", True),
        backbone=BackboneFacts(entry), headline="knn_top1", columns=("knn_top1",),
        metrics={"knn_top1": metric}, per_class={}, curves={},
        cost={"seconds": 2.0 + seed}, environment=changes.get("environment", {}),
        attempts=(), failure=None, warnings=(), details={}, files=files,
    )  # fmt: skip
    store.folder(spec.run_id).write_record(made)
    return made


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return runs of two entries that differ for sure, and one like the first."""
    store = Store(tmp_path_factory.mktemp("made"))
    rng = np.random.default_rng(0)
    common = rng.normal(50, 20, COUNT)
    for entry, skill in (("good", 8.0), ("like", 7.8), ("bad", 0.0)):
        for seed in range(3):
            noise = rng.normal(0, 3, COUNT) + rng.normal(0, 0.4)
            record(store, entry, seed, common + skill + noise)
    return store.root


@pytest.fixture
def store(made, tmp_path):
    """Return a copy of ``made`` that may be changed."""
    return Store(Path(shutil.copytree(made, tmp_path / "runs")))


def statistics_of(store):
    scan = store.scan()
    (table,) = make_tables(scan, store)
    return table, table_statistics(table, store, scan.records)


@contextmanager
def floors_of(task, floors):
    """Give a task other seed floors for a while."""
    owner = type(get_task(task))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, "seed_floors", floors)
        yield


def run(store, capsys, *arguments):
    code = cli.main(["compare", *arguments, "--out", str(store.root)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_table_has_intervals_ranks_and_brackets(store):
    table, found = statistics_of(store)
    order = [row.entry for row in table.rows]
    assert order[2] == "bad"
    assert set(order[:2]) == {"good", "like"}
    assert found.num_images == COUNT
    assert [row.rank for row in found.rows] == [(1, 2), (1, 2), (3, 3)]
    assert found.brackets == ((0, 1),)
    assert [row.brackets for row in found.rows] == [(0,), (0,), ()]
    noise = found.noise["knn_top1"]
    assert noise.freedom == 6
    assert noise.floor is not None
    assert 0.1 < noise.floor < 1.0
    interval = found.rows[0].intervals["knn_top1"]
    assert interval.low is not None
    assert interval.images_error == pytest.approx(20 / COUNT**0.5, rel=0.25)
    # Paired: the images that are hard for both say nothing about the difference.
    apart = difference(table, found, "knn_top1", 0, 2)
    assert apart.word == "better"
    assert apart.low is not None
    assert apart.high is not None
    assert apart.high - apart.low < interval.high - interval.low
    assert difference(table, found, "knn_top1", 2, 0).word == "worse"
    assert difference(table, found, "knn_top1", 0, 1).word == "tie"


def test_compare_says_better_and_tie(store, capsys):
    code, out, _ = run(store, capsys, "good", "bad")
    assert code == 0
    assert "verdict: good is better than bad: +" in out
    code, out, _ = run(store, capsys, "good", "like", "bad", "--json")
    (found,) = json.loads(out)["comparisons"]
    words = [pair["difference"]["word"] for pair in found["headline"]]
    assert words == ["tie", "better", "better"]
    raw = [pair["difference"]["p"] for pair in found["headline"]]
    corrected = [pair["difference"]["p_corrected"] for pair in found["headline"]]
    assert all(own >= p for own, p in zip(corrected, raw, strict=True))
    assert found["costs"]["seconds"] == [3.0, 3.0, 3.0]


def test_two_seeds_of_one_entry_tie(store, capsys):
    ids = [i for i, r in store.scan().records.items() if r.labels.entry == "good"]
    code, out, _ = run(store, capsys, ids[0], ids[1][:6])
    assert code == 0
    assert "verdict: tie" in out


def test_one_seed_takes_the_protocols_seed_floor(tmp_path, capsys):
    """Three points apart on the same images, as sure as can be; trained again, it may be none."""
    store = Store(tmp_path)
    values = np.random.default_rng(0).normal(50, 5, COUNT)
    record(store, "a", 0, values)
    record(store, "b", 0, values + 3)
    floors = {"knn/v1": SeedFloor(2.0, "five seeds of x", assumed=False)}
    with floors_of("knn", floors):
        _, out, _ = run(store, capsys, "a", "b")
        _, found = statistics_of(store)
    assert "verdict: tie: these two trained networks differ, -3.0 knn_top1 [" in out
    assert "a new training of a or b may not" in out
    assert "better" not in out
    assert "worse" not in out
    assert "note: 1 seed: a, b; a new training may differ." in out
    assert "2 knn_top1 (measured: five seeds of x); three seeds measure it" in out
    assert [row.rank for row in found.rows] == [(1, 2), (1, 2)]
    assert found.brackets == ((0, 1),)
    assert all(row.one_seed for row in found.rows)
    interval = found.rows[0].intervals["knn_top1"]
    assert interval.seeds_error == 2.0
    total = (interval.images_error**2 + 2.0**2) ** 0.5
    assert (interval.high - interval.low) / 2 == pytest.approx(1.96 * total, rel=0.01)
    # A difference beyond what training again does stays one.
    record(store, "c", 0, values + 30)
    with floors_of("knn", floors):
        _, out, _ = run(store, capsys, "c", "a")
    assert "verdict: c is better than a: +30.0" in out
    assert ", 1 seed)" in out


def test_one_seed_without_a_floor_gets_no_interval_no_rank_and_no_verdict(tmp_path, capsys):
    store = Store(tmp_path)
    values = np.random.default_rng(0).normal(50, 5, COUNT)
    for number, entry in enumerate("abc"):
        record(store, entry, 0, values + 10 * number)
    with floors_of("knn", {}):
        _, out, _ = run(store, capsys, "a", "b")
        _, found = statistics_of(store)
    assert "a and b: -10.0 knn_top1, and 1 seed says nothing about training again" in out
    assert [row.rank for row in found.rows] == [(1, 3)] * 3
    assert found.brackets == ((0, 2),)
    assert all(row.intervals["knn_top1"].low is None for row in found.rows)
    assert "no seed floor is known for protocol knn/v1" in found.rows[0].note


def test_floors_of_derived_protocols_are_assumptions():
    floors = {"a/v1": SeedFloor(1.0, "s", assumed=False), ANY_PROTOCOL: SeedFloor(9.0, "any")}
    own = find_floor(floors, "a/v1")
    assert own is not None
    assert not own.assumed
    for protocol in ("a/v1+frozen", "a/v1+custom:abcdef", "a/v1+frozen+custom:abcdef"):
        found = find_floor(floors, protocol)
        assert found is not None
        assert (found.headline, found.assumed, found.source) == (1.0, True, "s, for a/v1")
    limited = find_floor(floors, "a/v1", limited=True)
    assert limited is not None
    assert limited.assumed
    other = find_floor(floors, "b/v1")
    assert other is not None
    assert other.headline == 9.0
    assert find_floor({}, "b/v1") is None


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"protocol": "knn/v2", "k": 5}, "recipe.vote.k"), ({"version": 2}, "task_version")],
)
def test_unequal_rules_are_refused_field_by_field(store, capsys, changes, field):
    record(store, "other", 0, np.full(COUNT, 50.0), **changes)
    code, out, _ = run(store, capsys, "good", "other")
    assert code == 5
    assert "Refused: knn" in out
    assert field in out
    assert "verdict" not in out


def test_a_first_seed_that_never_ended_is_passed_over(store, capsys):
    rules = {"protocol": "knn/v2", "k": 5}
    first, _ = (record(store, "other", seed, np.full(COUNT, 50.0), **rules) for seed in (0, 1))
    store.folder(first.run_id).record.unlink()
    data = DataRoot("imagenet", "mini", None, "embedded")
    names = ("imagenet", "other", "other", "r", "knn/v2")
    store.prepare(RunRequest(first.spec, *names, num_steps=1, num_images=1, data=data))
    _, out, _ = run(store, capsys, "good", "other")
    (line,) = (line for line in out.splitlines() if "recipe.vote.k" in line)
    assert line.split()[-2:] == ["20", "5"]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["good"], "two different rows"),
        (["good", "good"], "two different rows"),
        (["good", "nobody"], "no entry and no run 'nobody'"),
        (["good", "abcd"], "no entry and no run 'abcd'"),
    ],
)
def test_names_that_mean_nothing(store, capsys, names, words):
    code, _, err = run(store, capsys, *names)
    assert code == 2
    assert words in err


def test_a_row_without_an_interval_says_why_below_the_table(store, capsys):
    run_id, own = next(iter(store.scan().records.items()))
    path = store.folder(run_id).work / "resamples.npz"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert cli.main(["leaderboard", "--out", str(store.root)]) == 0
    why = "no interval over images: work/resamples.npz is not the file that the record names"
    assert f"{own.labels.entry}: {why}" in capsys.readouterr().out


def test_files_that_were_changed_are_not_used(store):
    scan = store.scan()
    run_id, own = next(iter(scan.records.items()))
    path = store.folder(run_id).work / "resamples.npz"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(NoImagesError, match="not the file that the record names"):
        resamples_of(store, own, image_file_of(own.spec.task))
    table, found = statistics_of(store)
    row = next(i for i, r in enumerate(table.rows) if run_id in r.run_ids)
    assert "not the file" in found.rows[row].note
    interval = found.rows[row].intervals["knn_top1"]
    assert interval.images_error is None
    # Seeds alone still say something.
    assert interval.low is not None


def test_numbers_that_are_not_the_records_are_not_used(store):
    own = next(iter(store.scan().records.values()))
    metrics = {"knn_top1": structs.replace(own.metrics["knn_top1"], value=99.0)}
    with pytest.raises(NoImagesError, match="the record says 99"):
        resamples_of(store, structs.replace(own, metrics=metrics), image_file_of("knn"))


def test_records_without_images_say_so(tmp_path):
    store = Store(tmp_path)
    record(store, "old", 0, np.full(COUNT, 50.0), images=False)
    table, found = statistics_of(store)
    assert "before results by image existed" in found.rows[0].note
    assert found.rows[0].intervals["knn_top1"].low is None
    assert table.rows[0].rank == 1


def test_does_imagenet_predict_coco(store):
    scan = store.scan()
    (knn,) = make_tables(scan, store)
    statistics = table_statistics(knn, store, scan.records)
    coco = replace(knn, key=replace(knn.key, task="coco"))
    found, *_ = predictions([knn, coco], {0: statistics, 1: statistics})
    assert found.spearman is None
    assert found.sentence.startswith("3 entries have both")
    rng = np.random.default_rng(5)
    for number in range(6):
        record(store, f"more{number}", 0, rng.normal(10 + 9 * number, 3, COUNT))
    scan = store.scan()
    (knn,) = make_tables(scan, store)
    statistics = table_statistics(knn, store, scan.records)
    coco = replace(knn, key=replace(knn.key, task="coco"))
    found, *_ = predictions([knn, coco], {0: statistics, 1: statistics})
    assert len(found.points) == 9
    assert found.spearman is not None
    assert found.spearman.value == pytest.approx(1)
    assert "k-NN ranks them much as" in found.sentence


def test_compare_names_what_rounds_differently(tmp_path, capsys):
    def made(name, first, second):
        store = Store(tmp_path / name)
        for entry, environment in (("a", first), ("b", second)):
            record(store, entry, 0, np.linspace(20, 80, COUNT), environment=environment)
        text = run(store, capsys, "a", "b")[1]
        return [line for line in text.splitlines() if "note: different" in line]

    new = {
        "gpus": [], "kernels": "AVX512", "instructions": ["avx2", "avx512f", "fma"],
        "threads_used": 1, "processes": 1,
    }  # fmt: skip
    assert made("same", new, new) == []
    old = {**new, "kernels": "AVX2", "instructions": ["avx2", "fma"]}
    kernels, instructions = made("other", new, old)
    why = "The same seed gives other weights there, so part of a difference may come from that"
    assert kernels == f"note: different kernels of torch: a AVX512; b AVX2. {why}"
    assert instructions == (f"note: different instruction sets: a avx512f; b none of them. {why}")
    (threads,) = made("threads", new, {**new, "threads_used": 2})
    assert "different numbers of threads: a 1; b 2." in threads
    # A GPU's host decides nothing, and records of before say nothing of this.
    assert made("before", new, {"gpus": [], "processes": 1}) == []
    (gpus,) = made("gpu", new, {**old, "gpus": ["NVIDIA A100", "NVIDIA A100"]})
    assert "different GPUs: a none; b NVIDIA A100." in gpus
    assert made("gpus", {**new, "gpus": ["A100"]}, {**old, "gpus": ["A100"]}) == []
