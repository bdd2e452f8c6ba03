"""A GPU whose memory runs out: the run goes on with half as many images, and says so."""

import io

import pytest
import torch
from PIL import Image

from benchmarks.plan.weights import PlanContext, Pretraining, pretraining_request
from benchmarks.store.folders import Store
from benchmarks.work.contract import DONE, FAILED
from benchmarks.work.interrupt import Interrupt
from benchmarks.work.worker import work
from pretrain.methods.mae import MAEObjective
from pretrain.methods.supervised import SupervisedObjective

STEPS = 4


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    for number in range(16):
        path = folder / f"class{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((40, 40), 30 + number).convert("RGB").save(path)
    return folder


@pytest.fixture
def pretrain(images, tmp_path):
    def call(name, recipe="mae-nano", arch=""):
        overrides = (f"schedule.epochs={STEPS}", "schedule.state_images=1")
        where = PlanContext({"images": images}, None, None, tmp_path / "cache", "pretrain")
        request = pretraining_request(Pretraining(recipe, arch, 0, overrides), where)
        store = Store(tmp_path / name)
        folder = store.prepare(request)
        said = io.StringIO()
        code = work(folder, Interrupt(on_second=lambda: None), said)
        return code, folder, said.getvalue()

    return call


def full_above(monkeypatch, objective, most, from_step=0):
    """Let an objective run out of memory when it sees more than ``most`` images at once."""
    forward, calls = objective.forward, []

    def limited(self, batch):
        calls.append(len(batch["image"]))
        if len(calls) > from_step and len(batch["image"]) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return forward(self, batch)

    monkeypatch.setattr(objective, "forward", limited)
    return calls


def test_a_full_gpu_halves_what_it_holds_and_the_run_goes_on(pretrain, monkeypatch):
    code, whole, _ = pretrain("whole")
    assert code == DONE
    seen = full_above(monkeypatch, MAEObjective, most=4, from_step=2)
    code, folder, said = pretrain("halved")
    assert code == DONE
    # Two steps are saved before memory runs out, and are not done again.
    assert [n for n in seen if n > 4] == [16, 16, 16, 8]
    assert "goes on with 8 images at once" in said
    assert "Going on from step 2 of 4" in said
    record, expected = folder.read_full_record(), whole.read_full_record()
    assert record.run_id == expected.run_id
    assert record.labels.protocol == expected.labels.protocol
    reasons = [(one.outcome, one.reason) for one in record.attempts]
    assert [outcome for outcome, _ in reasons] == ["stopped", "stopped", "done"]
    assert "8 images at once" in reasons[0][1]
    assert "4 images at once" in reasons[1][1]
    assert "4 micro-batches x 4 images" in record.details["batch"]
    assert record.curves["loss"] == pytest.approx(expected.curves["loss"], rel=1e-4)


def test_it_is_halved_twice_and_then_the_run_fails_with_a_sentence(pretrain, monkeypatch):
    full_above(monkeypatch, MAEObjective, most=1)
    code, folder, said = pretrain("full")
    assert code == FAILED
    failure = folder.read_full_record().failure
    assert failure.message == (
        "The GPU ran out of memory with 4 images at once; 2 at once change no result "
        "(--set schedule.micro_batch=2)."
    )
    assert "Traceback" not in said


def test_where_fewer_images_would_change_the_result_the_run_fails(pretrain, monkeypatch):
    seen = full_above(monkeypatch, SupervisedObjective, most=8)
    code, folder, _ = pretrain("normed", "supervised-nano", "resnet-nano")
    assert code == FAILED
    assert seen == [16]
    failure = folder.read_full_record().failure
    assert "hold fewer images at once with --set schedule.batch_size_per_device=N" in failure.hint
