"""One changed byte in any file that is read back: noticed, harmless, or refused in a sentence.

It may never change a value, and never end in an error that is not one of ours.
"""

import dataclasses
import io
import os
import random
import sys
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from torch import nn

from backbones.base.errors import UserError
from backbones.base.grey import BY_IMAGE
from backbones.checkpoint import Checkpoint, read_record
from backbones.training.state import StateFolder, TrainingState
from backbones.weights.files import save_weights
from benchmarks.by_image.classified import PREDICTIONS
from benchmarks.by_image.resamples import (
    NUM_RESAMPLES,
    Resamples,
    read_resamples,
    write_resamples,
)
from benchmarks.labelled.features.table import BlockFolder
from benchmarks.leaderboard.bundles.reading import read_bundle
from benchmarks.leaderboard.bundles.writing import Packed, write_bundle
from benchmarks.slurm.cluster import RunResources
from benchmarks.slurm.progress import _FORMAT as REQUEUES
from benchmarks.slurm.progress import Requeues
from benchmarks.slurm.submission import (
    JOB_NOTE,
    Array,
    JobNote,
    Submission,
    read_submission,
)
from benchmarks.store.folders import RunFolder
from benchmarks.store.heartbeat import Heartbeat, write_heartbeat
from benchmarks.store.record import Attempt, Failure
from benchmarks.store.record_file import BadRecordError, read_text, to_text
from benchmarks.tasks.correspondence.by_image import CORRESPONDENCE
from benchmarks.tasks.regions.extract import _BLOCK, _known
from benchmarks.work.crash import _FORMAT as CRASH
from benchmarks.work.crash import _Crash
from benchmarks.work.ranks import _FORMAT as RANK_FAILURE
from detection.data.facts import _FACTS as FACTS
from detection.data.facts import DataFacts
from detection.scoring.detections import Detections, read_detections, write_detections
from detection.scoring.matches import read_matches, write_matches
from detection.scoring.matching import match
from pretrain.data.find import find_images
from pretrain.objective_file import _FORMAT as OBJECTIVE
from pretrain.objective_file import ObjectiveRecord, read_objective
from tests.benchmarks.conftest import _record, _request
from tests.parity.detection.test_cocoeval import jitter, make_truth

# What may be raised: each becomes one sentence and an exit code, or the name of a file left out.
REFUSALS = (UserError, BadRecordError)
SAMPLE = 40
Read = Callable[[], Any]


def same(a: Any, b: Any) -> bool:
    """Return whether two values hold the same numbers and texts."""
    return freeze(a) == freeze(b)


def freeze(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        value = value.numpy()
    if isinstance(value, np.ndarray):
        return (value.dtype.str, value.shape, value.tobytes())
    if isinstance(value, msgspec.Struct):
        value = msgspec.structs.asdict(value)
    elif dataclasses.is_dataclass(value):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: freeze(inner) for key, inner in value.items()}
    return [freeze(inner) for inner in value] if isinstance(value, list | tuple) else value


# Each makes a file, and returns it with a function that reads it as the program does: None where
# the program goes on without it.
Kind = Callable[[Path], tuple[Path, Read]]


def record(folder: Path) -> tuple[Path, Read]:
    made = _record()
    run = RunFolder(folder / made.run_id)
    run.write_record(made)
    return run.record, run.read_full_record


def scanned_record(folder: Path) -> tuple[Path, Read]:
    path = folder / "record.json"
    path.write_bytes(to_text(_record()))
    return path, lambda: read_text(path.read_bytes())


def request(folder: Path) -> tuple[Path, Read]:
    run = RunFolder(folder)
    from benchmarks.store.spec import write_request

    write_request(run.request, _request())
    return run.request, run.read_request


def heartbeat(folder: Path) -> tuple[Path, Read]:
    run = RunFolder(folder)
    beat = Heartbeat(7, "node1", 2, 1.5, 2.5, "train", 30, 90, 12.5, {"loss": 0.5}, 0.1, 1.0, 3)
    write_heartbeat(run.heartbeat, beat)
    return run.heartbeat, run.read_heartbeat


def journal(folder: Path) -> tuple[Path, Read]:
    run = RunFolder(folder)
    attempts = tuple(Attempt(n, "node1", "a", "b", "stopped", "") for n in (1, 2))
    for attempt in attempts:
        run.add_attempt(attempt)

    def read() -> Any:
        found = run.read_attempts()
        # A line that is lost is gone on without.
        return found if found == attempts or not set(found) < set(attempts) else None

    return run.journal, read


def state_record(folder: Path) -> tuple[Path, Read]:
    return saved_state(folder, ".json")


def state_tensors(folder: Path) -> tuple[Path, Read]:
    return saved_state(folder, ".safetensors")


def saved_state(folder: Path, suffix: str) -> tuple[Path, Read]:
    states = StateFolder(folder, {"recipe": "mini", "seed": "0"})
    notes = {"curve": {"step": [1.0], "loss": [0.5]}, "seconds": 1.25}
    path = states.save(TrainingState(26, {"model.w": torch.arange(5.0)}, notes))
    return path.with_suffix(suffix), lambda: states.newest(lambda _: None)


def card(folder: Path) -> tuple[Path, Read]:
    return weights(folder, ".json")


def weights_file(folder: Path) -> tuple[Path, Read]:
    return weights(folder, ".safetensors")


def weights(folder: Path, suffix: str) -> tuple[Path, Read]:
    made = Checkpoint("vit-nano", None, "", method="mae", epochs=12.5, img_size=64, data="mini")
    path = save_weights(nn.Linear(3, 2), folder / "weights.safetensors", made).path
    assert path is not None
    return path.with_suffix(suffix), lambda: read_record(path)


def objective_record(folder: Path) -> tuple[Path, Read]:
    path = folder / "objective.safetensors"
    saved = save_weights(nn.Linear(3, 2), path, Checkpoint("vit-nano", None, ""))
    facts = {"method": "mae", "backbone": "vit-nano", "protocol": "p"}
    record = ObjectiveRecord(saved.sha256, facts, {"optim": {"lr": 0.1}})
    OBJECTIVE.write(path.with_suffix(".json"), record)
    return path.with_suffix(".json"), lambda: read_objective(path)


def block_record(folder: Path) -> tuple[Path, Read]:
    return features(folder, ".json")


def block_rows(folder: Path) -> tuple[Path, Read]:
    return features(folder, ".npy")


def features(folder: Path, suffix: str) -> tuple[Path, Read]:
    blocks = BlockFolder(folder / "features", 5, 3)
    blocks.write(0, np.arange(15, dtype=np.float32).reshape(5, 3), {2: "a.jpg: truncated"})
    return folder / "features" / f"block-00000{suffix}", lambda: blocks.read(0)


def listing(folder: Path) -> tuple[Path, Read]:
    return shard(folder, is_content=False)


def contents(folder: Path) -> tuple[Path, Read]:
    return shard(folder, is_content=True)


def shard(folder: Path, is_content: bool) -> tuple[Path, Read]:
    path = folder / "a.tar"
    with tarfile.open(path, "w") as tar:
        for name in ("a.png", "b.png"):
            info = tarfile.TarInfo(name)
            info.size = 1
            tar.addfile(info, io.BytesIO(b"x"))
    # Long ago enough for its times to be trusted.
    os.utime(path, (10**9, 10**9))
    found = find_images(path, folder / "cache")

    def read() -> Any:
        again = find_images(path, folder / "cache")
        return (again.fingerprint, len(again), again.read(1))

    assert read() == (found.fingerprint, 2, b"x")
    files = (folder / "cache" / "images").iterdir()
    (kept,) = [one for one in files if one.name.startswith("content-") == is_content]
    return kept, read


def data_facts(folder: Path) -> tuple[Path, Read]:
    path = folder / "facts.json"
    sha = "a" * 64
    facts = DataFacts(
        sha, sha, sha, 7, 3, ("cat",), (1,), BY_IMAGE, as_stored=False, has_masks=True, notes=()
    )
    FACTS.write(path, facts)
    return path, lambda: FACTS.read(path)


def resamples(folder: Path) -> tuple[Path, Read]:
    path = folder / "resamples.npz"
    values = np.linspace(0, 1, NUM_RESAMPLES, dtype=np.float32)
    write_resamples(path, Resamples("a" * 64, 12, {"APbox": 0.5}, {"APbox": values}))
    return path, lambda: read_resamples(path)


def predictions(folder: Path) -> tuple[Path, Read]:
    path = folder / "predictions.npz"
    ids = np.arange(6)
    PREDICTIONS.write(path, {"indices": ids, "labels": ids % 2, "rank": ids.astype(np.uint8)})
    return path, lambda: PREDICTIONS.read(path, dict)


def correspondence(folder: Path) -> tuple[Path, Read]:
    path = folder / "correspondence.npz"
    shares = np.linspace(0, 1, 4)
    columns = {"indices": np.arange(4), "accuracy": shares, "pixels": shares}
    CORRESPONDENCE.write(path, columns)
    return path, lambda: CORRESPONDENCE.read(path, dict)


def pooled_boxes(folder: Path) -> tuple[Path, Read]:
    path = folder / "block-00000.npz"
    _BLOCK.write(path, {"objects": np.ones((2, 3), np.float32)}, compressed=False)
    return path, lambda: _known(path)


def detections(folder: Path) -> tuple[Path, Read]:
    path = folder / "detections.npz"
    found = Detections(
        np.array([3, 9]), np.full((2, 2), 64, np.int32), np.array([1, 2]),
        np.ones((2, 4), np.float32), np.ones(2, np.float32), np.zeros(2, np.int32), [b"ab", b"c"],
    )  # fmt: skip
    write_detections(path, found)
    return path, lambda: read_detections(path)


def matches(folder: Path) -> tuple[Path, Read]:
    path = folder / "matches.npz"
    rng = np.random.default_rng(0)
    truth = make_truth(rng)
    write_matches(path, match(truth, jitter(rng, truth, 1, 2)))
    return path, lambda: read_matches(path)


def submission(folder: Path) -> tuple[Path, Read]:
    own = folder / ".slurm" / "x"
    array = Array("backbench:coco:x.0", "coco", RunResources(gpus=1), ("a" * 16,), job="12")
    made = Submission(own, "my", 1.5, folder / "code", (array,))
    made.save()
    return own / "submission.json", lambda: read_submission(own)


def job_note(folder: Path) -> tuple[Path, Read]:
    path = folder / "job.json"
    JOB_NOTE.write(path, JobNote("12_3", "/s", 1))
    return path, lambda: JOB_NOTE.read(path)


def requeues(folder: Path) -> tuple[Path, Read]:
    path = folder / "requeues.json"
    REQUEUES.write(path, Requeues("x", {"train": 12}, 1))
    return path, lambda: REQUEUES.read(path)


def crash_note(folder: Path) -> tuple[Path, Read]:
    path = folder / "crash.json"
    CRASH.write(path, _Crash(11, "train 5", "7.jpg"))
    return path, lambda: CRASH.read(path)


def rank_failure(folder: Path) -> tuple[Path, Read]:
    path = folder / "failure-1.json"
    RANK_FAILURE.write(path, Failure("train", "RuntimeError", "Process 1: x", "y", 3))
    return path, lambda: RANK_FAILURE.read(path)


def a_bundle(folder: Path) -> tuple[Path, Read]:
    path = folder / "records.zip"
    write_bundle(path, [Packed(_record(), to_text(_record()))])
    return path, lambda: list(read_bundle(path))


KINDS: tuple[Kind, ...] = (
    record, scanned_record, request, heartbeat, journal, state_record, state_tensors, card,
    weights_file, objective_record, block_record, block_rows, listing, contents, data_facts,
    resamples,
    predictions, correspondence, pooled_boxes, detections, matches, submission, job_note, requeues,
    crash_note, rank_failure,
    a_bundle,
)  # fmt: skip


def outcome(read: Read, good: Any) -> tuple[str, str]:
    """Return in a word how a read of a damaged file ends, and what was said."""
    try:
        found = read()
    except REFUSALS as error:
        return "refused", str(error)
    if found is None:
        return "passed over", "-"
    return ("same values" if same(found, good) else "CHANGED"), "-"


def flip(path: Path, places: Iterable[int], read: Read, seed: int) -> Counter[str]:
    """Return how reads of a file end in which one byte is another, by outcome."""
    whole, good = path.read_bytes(), read()
    assert good is not None
    rng = random.Random(seed)
    outcomes: Counter[str] = Counter()
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= rng.randrange(1, 256)
        path.write_bytes(damaged)
        word, said = outcome(read, good)
        assert word != "CHANGED", (path.name, place, damaged[place], bytes(damaged)[:400])
        assert said, place
        assert "\n" not in said, place
        outcomes[word] += 1
        # What was passed over may have been written anew.
        path.write_bytes(whole)
    return outcomes


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_changed_byte_changes_no_value(tmp_path, kind):
    path, read = kind(tmp_path)
    size = path.stat().st_size
    places = random.Random(kind.__name__).sample(range(size), min(size, SAMPLE))
    assert flip(path, places, read, seed=1).total() == len(places)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_any_changed_byte_changes_no_value(tmp_path, kind, capsys):
    path, read = kind(tmp_path)
    size = path.stat().st_size
    outcomes = flip(path, range(size), read, seed=2)
    assert outcomes.total() == size
    with capsys.disabled():
        sys.stdout.write(f"\n{kind.__name__}: {size} bytes, {dict(outcomes)}")


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"1", b'"x"', b"{}", b"\xff\xfe[]", b"{"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_other_content_is_passed_over_or_refused(tmp_path, kind, content):
    path, read = kind(tmp_path)
    good = read()
    path.write_bytes(content)
    word, said = outcome(read, good)
    assert word != "CHANGED"
    assert "\n" not in said
