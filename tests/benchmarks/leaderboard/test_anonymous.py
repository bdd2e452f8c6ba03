"""Records, bundles and boards without names."""

import json
import os
import socket
import time
import zipfile

import pytest

from benchmarks.cli import main
from benchmarks.leaderboard.anonymous import anonymous_record
from benchmarks.store.folders import Store
from benchmarks.store.heartbeat import Heartbeat, write_heartbeat
from benchmarks.store.record import Attempt, Failure, Labels
from benchmarks.store.record_file import to_content

SECRETS = ("gpu-node7", "jdoe", "alice", "/scratch", "server", "example.org", "/data", "C:")


def private(make_record):
    record = make_record(
        labels=Labels("coco", "ckpt:jdoe/mae.pth?arch=vit-nano", "mini", "mini/v1", "mini", True),
        attempts=(
            Attempt(1, "gpu-node7.server", "a", "b", "lost", "killed on GPU-NODE7 by alice@server"),
        ),
        environment={
            "host": "gpu-node7.server", "python": "3.11", "slurm": {"nodes": "gpu-node7"},
            "nested": [{"deep": ["/" + "home/jdoe/x/y.py", {"user": "alice"}]}],
        },
        warnings=("skipped an unreadable image: /data/coco/1.jpg", "see https://example.org/x"),
        details={"where": r"C:\Users\jdoe\runs", "/scratch/x": 1, "note": "jdoe and Alice ran it"},
        status="failed",
        failure=Failure("train", "OSError", "cannot read /scratch/jdoe/a b", "ask alice", 4),
    )  # fmt: skip
    return record


def test_an_anonymous_record_names_nobody_and_stays_valid(make_record):
    text = json.dumps(to_content(anonymous_record(private(make_record))))
    for secret in SECRETS:
        assert secret.lower() not in text.lower(), secret
    again = json.dumps(to_content(anonymous_record(anonymous_record(private(make_record)))))
    assert again == text


def test_identities_and_numbers_survive_anonymity(make_record):
    # A host may be called as a task or a metric is.
    record = make_record(attempts=(Attempt(1, "coco", "a", "b", "done", ""),))
    plain, bare = to_content(record), to_content(anonymous_record(record))
    for key in ("run_id", "spec", "metrics", "labels", "curves", "per_class", "cost"):
        assert plain[key] == bare[key], key
    assert bare["attempts"][0]["host"] == "<name>"


def test_a_bundle_without_names_merges_with_its_original(runs, tmp_path, make_record, capsys):
    record = private(make_record)
    runs.folder(record.run_id).write_record(record)
    path = tmp_path / "x.zip"
    assert main(["bundle", str(path), "--anonymous", "--out", str(runs.root)]) == 0
    with zipfile.ZipFile(path) as archive:
        text = b"".join(archive.read(name) for name in archive.namelist()).decode().lower()
    assert not [secret for secret in SECRETS if secret.lower() in text]
    capsys.readouterr()
    assert main(["merge", str(path), "--out", str(runs.root)]) == 0
    assert "3 were there" in capsys.readouterr().out


@pytest.mark.parametrize("form", ["table", "markdown", "csv", "latex", "json"])
def test_an_anonymous_leaderboard_names_nobody(tmp_path, make_record, form, capsys):
    record = private(make_record)
    store = Store(tmp_path / "runs")
    store.folder(record.run_id).write_record(record)
    main(["leaderboard", "--anonymous", "--format", form, "--out", str(store.root)])
    captured = capsys.readouterr()
    text = (captured.out + captured.err).lower()
    assert "mae.pth" in text
    assert not [secret for secret in SECRETS if secret.lower() in text]


def test_an_anonymous_leaderboard_keeps_the_host_of_a_running_run_to_itself(
    tmp_path, make_request, capsys, monkeypatch
):
    monkeypatch.setattr(socket, "gethostname", lambda: "node-17")
    folder = Store(tmp_path / "runs").prepare(make_request())
    now = time.time()
    beat = Heartbeat(os.getpid(), "node-17", 1, now, now, "train", step=3, num_steps=10)
    write_heartbeat(folder.heartbeat, beat)
    main(["leaderboard", "--anonymous", "--out", str(tmp_path / "runs")])
    text = capsys.readouterr().out
    assert "running: train 3/10" in text
    assert "node-17" not in text
