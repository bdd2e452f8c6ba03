"""The loop from end to end on a toy method: what it computes, keeps and refuses."""

import io
import itertools
import json
import math
import tarfile
from dataclasses import replace

import pytest
import torch

from backbones.base.errors import PreflightError, StoppedError, UserError
from backbones.checkpoint import read_record
from backbones.training.state import random_seed
from backbones.weights.files import read_safetensors
from pretrain.data.find import find_images
from pretrain.initial import whole_checkpoint
from pretrain.objective_file import rebuild_objective
from pretrain.stream import Samples
from pretrain.train import PretrainJob, build_objective, pretrain
from tests.pretrain.conftest import (
    TOY_METHOD,
    TOY_SPEC,
    StopAfter,
    ToyObjective,
    ToyViews,
    toy_config,
    with_,
)


@pytest.fixture
def job(photos, tmp_path):
    return PretrainJob(
        spec=TOY_SPEC,
        config=toy_config(),
        images=photos,
        out_dir=tmp_path / "run",
        seed=3,
        cache=tmp_path,
        recipe="toy-recipe",
        num_workers=0,
    )


def run(job, **changes):
    """Run a job in a folder of its own; return losses by step, weights and outcome."""
    monitor = StopAfter()
    outcome = pretrain(replace(job, **changes), monitor)
    return monitor.losses, read_safetensors(outcome.objective_file), outcome


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)


def test_the_loss_falls_and_the_checkpoint_says_what_made_it(job):
    longer = with_(job.config, "schedule", epochs=20.0)
    losses, _, outcome = run(job, config=longer)
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])
    record = read_record(job.out_dir / "weights.safetensors")
    assert outcome.checkpoint == record
    assert (record.method, record.backbone, record.recipe) == ("toy", "toy", "toy-recipe")
    assert (record.epochs, record.img_size) == (20.0, 224)
    assert set(read_safetensors(record.path)) == {"stem.weight", "stem.bias"}
    assert outcome.cost["images_per_second_train"] > 0


def test_timing_a_run_changes_no_file(job, tmp_path):
    timed = run(job, out_dir=tmp_path / "timed", timed=True)[2]
    assert timed.rates.images_per_second["images_per_second_train"] > 0
    assert timed.rates.conditions["images_per_second_train"].alone
    plain = run(job, out_dir=tmp_path / "plain")[2]
    assert timed.curves == plain.curves
    for name in ("weights.safetensors", "objective.safetensors"):
        files = [tmp_path / folder / name for folder in ("timed", "plain")]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_updates_are_those_of_a_plain_loop(job):
    config = job.config
    losses, weights, _ = run(job)
    samples = Samples(find_images(job.images, job.cache), ToyViews(), job.seed, 0)
    objective = build_objective(TOY_METHOD, TOY_SPEC, config, job.seed)
    decayed = [p for p in objective.parameters() if p.ndim > 1]
    others = [p for p in objective.parameters() if p.ndim <= 1]
    groups = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95), weight_decay=0.05, foreach=False)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (TOY_SPEC.mean, TOY_SPEC.std))
    found = []
    for step in range(10):
        epoch = step * 4 / 20
        peak = 2.0 * 4 / 256
        cosine = 0.5 * (1 + math.cos(math.pi * (epoch - 0.5) / 1.5))
        for group in optimizer.param_groups:
            group["lr"] = peak * epoch / 0.5 if epoch < 0.5 else peak * cosine
        batch = samples(range(step * 4, step * 4 + 4)).batch
        batch["image"] = (batch["image"] / 255 - mean) / std
        torch.manual_seed(random_seed("step", job.seed, step, 0))
        loss = sum(objective(batch).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        objective.after_update(None)
        found.append(loss.item())
    assert losses == pytest.approx(found, rel=1e-4)
    for name, value in objective.state_dict().items():
        torch.testing.assert_close(weights[name], value, rtol=1e-3, atol=1e-5)


def test_the_curve_holds_losses_metrics_and_rate(job):
    losses, _, outcome = run(job)
    curve = outcome.curves
    assert curve["step"] == list(range(1, 11))
    assert curve["loss"] == pytest.approx(losses)
    assert curve["loss"] == pytest.approx(
        [a + b for a, b in zip(curve["noise"], curve["size"], strict=True)], rel=1e-5
    )
    assert {"centre", "lr"} < curve.keys()
    assert list((job.out_dir / "tensorboard").iterdir())


def test_the_same_seed_gives_the_same_weights_and_another_others(job, tmp_path):
    _, first, _ = run(job)
    _, again, _ = run(job, out_dir=tmp_path / "again")
    _, other, _ = run(job, out_dir=tmp_path / "other", seed=4)
    assert_equal(again, first)
    assert not torch.equal(other["head.weight"], first["head.weight"])


@pytest.mark.parametrize("stop", range(1, 10))
def test_a_stopped_run_ends_in_the_same_weights(job, tmp_path, stop):
    losses, expected, unbroken = run(job)
    stopped = replace(job, out_dir=tmp_path / "stopped")
    monitor = StopAfter(stop)
    with pytest.raises(StoppedError, match=rf"Stopped after step {stop} of 10"):
        pretrain(stopped, monitor)
    rest, weights, outcome = run(stopped)
    assert monitor.losses + rest == losses
    assert_equal(weights, expected)
    assert outcome.curves == unbroken.curves
    assert outcome.checkpoint.sha256 == unbroken.checkpoint.sha256


def test_a_finished_run_does_nothing_again(job):
    _, expected, _ = run(job)
    losses, weights, _ = run(job)
    assert losses == []
    assert_equal(weights, expected)


def test_accumulated_gradients_are_those_of_the_whole_batch(job, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "tests.pretrain.conftest.ToyBackbone.forward_maps", lambda s, x: (s.stem(x),)
    )
    whole, expected, _ = run(job)
    config = with_(job.config, "schedule", batch_size_per_device=1)
    parts, weights, _ = run(job, config=config, out_dir=tmp_path / "parts")
    assert parts == pytest.approx(whole, rel=1e-4)
    for name in expected:
        torch.testing.assert_close(weights[name], expected[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("workers", [1, 3])
def test_loader_processes_change_nothing(job, tmp_path, workers):
    losses, expected, _ = run(job)
    found, weights, _ = run(job, out_dir=tmp_path / "workers", num_workers=workers)
    assert found == losses
    assert_equal(weights, expected)


def test_bf16_stays_near_fp32(job, tmp_path):
    losses, _, _ = run(job)
    found, weights, _ = run(
        job, config=with_(job.config, "schedule", precision="bf16"), out_dir=tmp_path / "bf16"
    )
    assert found == pytest.approx(losses, rel=0.05)
    assert found != losses
    assert all(value.dtype == torch.float32 for value in weights.values())


def test_activations_are_recomputed_where_asked(job, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "tests.pretrain.conftest.ToyBackbone.set_activation_checkpointing",
        lambda _, enabled: asked.append(enabled),
    )
    run(job, config=with_(job.config, "runtime", activation_checkpointing=True))
    assert asked == [True]


def test_losses_that_are_no_numbers_stop_with_step_images_and_state(job, monkeypatch):
    calls = itertools.count()
    forward = ToyObjective.forward

    def poisoned(self, batch):
        losses = forward(self, batch)
        return losses | {"noise": losses["noise"] * (float("nan") if next(calls) == 7 else 1)}

    monkeypatch.setattr(ToyObjective, "forward", poisoned)
    monitor = StopAfter()
    with pytest.raises(UserError) as raised:
        pretrain(job, monitor)
    message = str(raised.value)
    assert "at step 8 (noise = nan, size = " in message
    assert "step-00000006.safetensors" in message
    images = message.partition("images ")[2].partition(")")[0]
    assert len(images.split(", ")) == 4
    states = sorted(path.name for path in (job.out_dir / "states").glob("*.safetensors"))
    assert states[-1] == "step-00000006.safetensors"
    monkeypatch.setattr(ToyObjective, "forward", forward)
    losses, _, _ = run(job)  # goes on from the good state
    assert len(losses) == 4


@pytest.mark.parametrize(("broken", "noticed"), [(4, 6), (9, 10)])
def test_weights_that_are_no_numbers_are_never_saved(job, monkeypatch, broken, noticed):
    """The last update's, which no loss sees, and those of a step whose state is due."""

    def overflow(self, moment):
        if moment.step == broken:
            next(self.backbone.parameters()).data[0] = float("inf")

    def blind(self, batch):
        return {name: value.nan_to_num(1.0) for name, value in forward(self, batch).items()}

    forward = ToyObjective.forward
    with monkeypatch.context() as patch:
        patch.setattr(ToyObjective, "after_update", overflow)
        patch.setattr(ToyObjective, "forward", blind)
        with pytest.raises(
            UserError, match=f"update of step {noticed} left backbone.* with infinite"
        ):
            pretrain(job, StopAfter())
    assert not (job.out_dir / "weights.safetensors").exists()
    for path in (job.out_dir / "states").glob("*.safetensors"):
        assert all(value.isfinite().all() for value in read_safetensors(path).values())
    pretrain(job, StopAfter())


def test_two_states_are_kept_and_a_torn_one_is_passed_over(job, tmp_path):
    _, expected, _ = run(job)
    states = sorted((job.out_dir / "states").glob("*.safetensors"))
    assert [path.stem for path in states] == ["step-00000009", "step-00000010"]
    states[-1].write_bytes(states[-1].read_bytes()[:-1])
    monitor = StopAfter()
    outcome = pretrain(job, monitor)
    assert any("step-00000010.safetensors is damaged" in text for text in monitor.said)
    assert len(monitor.losses) == 1
    assert_equal(read_safetensors(outcome.objective_file), expected)


def test_a_state_of_another_run_is_refused_by_what_differs(job):
    run(job)
    with pytest.raises(UserError, match=r"another run \(seed 3 instead of 4\)"):
        run(job, seed=4)
    with pytest.raises(UserError, match=r"another run \(settings \w+ instead of \w+\)"):
        run(job, config=with_(job.config, "optim", base_lr=0.1))
    run(job, config=with_(job.config, "schedule", state_images=4))


def test_a_state_of_another_method_is_refused(job, monkeypatch):
    run(job)
    monkeypatch.setattr("pretrain.train.get_method", lambda _: TOY_METHOD)
    with pytest.raises(UserError, match=r"method toy instead of mae"):
        run(job, config=replace(job.config, method="mae"))


def test_a_full_disk_stops_with_one_sentence_and_loses_nothing(job, monkeypatch):
    saves = itertools.count()

    def full(path, write):
        if "states" in str(path) and next(saves) == 2:
            raise PreflightError(f"Cannot write {path}: the disk is full.")
        return written(path, write)

    from backbones.training import state as training_state

    written = training_state.write_atomically
    with monkeypatch.context() as patched:
        patched.setattr(training_state, "write_atomically", full)
        with pytest.raises(PreflightError, match="the disk is full"):
            run(job)
    losses, weights, _ = run(job)
    assert len(losses) == 4
    _, expected, _ = run(job, out_dir=job.out_dir.parent / "unbroken")
    assert_equal(weights, expected)


def test_checkpoints_are_kept_every_few_epochs(job):
    run(job, config=with_(job.config, "schedule", checkpoint_epochs=0.5))
    folder = job.out_dir / "checkpoints"
    names = sorted(path.name for path in folder.glob("*.safetensors"))
    assert names == [f"epoch-{n}.safetensors" for n in ("0_5", "1", "1_5", "2")]
    assert read_record(folder / "epoch-1_5.safetensors").epochs == 1.5


def test_pictures_are_png_files(job):
    _, _, outcome = run(job, config=with_(job.config, "runtime", picture_every=4))
    names = sorted(path.name for path in (job.out_dir / "pictures").iterdir())
    assert names == [f"toy-seen-{step:08d}.png" for step in (4, 8, 10)]
    assert [path.name for path in outcome.pictures] == names[-1:]


def test_a_run_begins_with_the_weights_of_another(job, tmp_path):
    run(job)
    source = job.out_dir / "objective.safetensors"
    first = whole_checkpoint(source, "toy")
    second = replace(job, out_dir=tmp_path / "second", init_from=first)
    monitor = StopAfter()
    pretrain(second, monitor)
    assert any("5 of 5 tensors from objective.safetensors" in text for text in monitor.said)
    losses, _, _ = run(job, out_dir=tmp_path / "fresh")
    assert monitor.losses[0] != losses[0]


def test_weights_of_another_method_or_shape_are_no_beginning(job, tmp_path):
    run(job)
    source = job.out_dir / "objective.safetensors"
    first = whole_checkpoint(source, "toy")
    second = replace(job, out_dir=tmp_path / "second", init_from=first)
    record = json.loads(source.with_suffix(".json").read_text())
    record["made_by"]["method"] = "mae"
    source.with_suffix(".json").write_text(json.dumps(record))
    with pytest.raises(PreflightError, match="checksum differs"):
        pretrain(second, StopAfter())
    # As an earlier version wrote it.
    del record["checksum"]
    source.with_suffix(".json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"was made by mae, and this run's method is toy"):
        pretrain(second, StopAfter())
    with pytest.raises(PreflightError, match=r"the file does not exist"):
        whole_checkpoint(tmp_path / "no.pth", "toy")


def test_an_objective_is_built_again_from_its_file(job):
    _, weights, outcome = run(job)
    objective, method = rebuild_objective(outcome.objective_file)
    assert method == "toy"
    assert_equal(dict(objective.state_dict()), weights)


def test_images_without_classes_cannot_serve_a_method_that_needs_them(job, monkeypatch, tmp_path):
    monkeypatch.setattr(
        "pretrain.train.get_method", lambda _: replace(TOY_METHOD, needs_classes=True)
    )
    (tmp_path / "list.txt").write_text("\n".join(map(str, sorted(job.images.rglob("*.png")))))
    with pytest.raises(UserError, match=r"toy learns from classes, and list has none"):
        run(job, images=tmp_path / "list.txt")
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for name in ("ants/01.png", "ants/03.png"):
            tar.add(job.images / name, name)
        label = tarfile.TarInfo("ants/01.cls")
        label.size = 1
        tar.addfile(label, io.BytesIO(b"0"))
    with pytest.raises(PreflightError, match=r"toy learns from classes: 0.tar gives 1 of 2 images"):
        run(job, images=tmp_path / "0.tar")
    _, _, outcome = run(job)
    assert outcome.checkpoint.method == "toy"


def test_unreadable_images_are_named_in_the_outcome(job, photos, tmp_path):
    import shutil

    shutil.copytree(photos, tmp_path / "set")
    bad = tmp_path / "set" / "ants" / "01.png"
    bad.write_bytes(b"no image")
    _, _, outcome = run(job, images=tmp_path / "set")
    (warning,) = outcome.warnings
    assert warning.startswith("skipped an unreadable image: ")
    assert str(bad) in warning
    config = with_(job.config, "data", max_corrupt=0)
    with pytest.raises(PreflightError, match=r"1 images cannot be read, more than .* = 0"):
        run(job, images=tmp_path / "set", config=config, out_dir=tmp_path / "strict")


def test_impossible_settings_are_named(job):
    with pytest.raises(UserError, match=r'schedule.precision: "fp16" is not supported; use'):
        run(job, config=with_(job.config, "schedule", precision="fp16"))
    with pytest.raises(UserError, match=r"batch_size: 4 .* use a multiple of .*_per_device \(3\)"):
        run(job, config=with_(job.config, "schedule", batch_size_per_device=3))
