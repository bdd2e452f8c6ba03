"""Slurm's commands may answer anything, or nothing: one sentence, or nothing is known."""

import sys

import pytest

from backbones.base.errors import PreflightError
from benchmarks.slurm import client as slurm
from benchmarks.slurm.launch import sbatch
from benchmarks.slurm.submission import Submission

GARBAGE = {
    "nothing": b"",
    "an empty line": b"\n",
    "words": b"Welcome to the cluster!\n",
    "not UTF-8": b"\xff\xfe\x00|\xff\n",
    "too few fields": b"1|2|RUNNING\n",
    "zeros": b"\0" * 5000,
    "a page": b"<html>|||</html>\n" * 1000,
}


@pytest.fixture
def answer(tmp_path, monkeypatch):
    """Return a function that lets a command answer bytes and end with a code."""
    monkeypatch.setenv("PATH", str(tmp_path))

    def script(name, said, code=0):
        (tmp_path / f"{name}.out").write_bytes(said)
        path = tmp_path / name
        path.write_text(
            f"#!{sys.executable}\nimport sys\n"
            f"sys.stdout.buffer.write(open({str(path) + '.out'!r}, 'rb').read())\n"
            f"sys.exit({code})\n"
        )
        path.chmod(0o755)

    return script


@pytest.mark.parametrize("said", GARBAGE.values(), ids=GARBAGE)
def test_a_queue_that_is_none_is_one_sentence(answer, said):
    answer("squeue", said)
    if not said:
        assert slurm.queue() == []
        return
    with pytest.raises(PreflightError, match="which is not a job in the asked format"):
        slurm.queue()


@pytest.mark.parametrize("said", GARBAGE.values(), ids=GARBAGE)
def test_accounting_that_says_nothing_understandable_tells_nothing(answer, said):
    answer("sacct", said)
    assert slurm.endings(["7_1", "8"]) == {}
    answer("sacct", b"7_1|TIMEOUT|0:0\n" + said)
    assert slurm.endings(["7_1", "8"]) == {"7_1": "TIMEOUT"}


def test_without_accounting_nothing_is_known(answer):
    assert slurm.endings(["7_1"]) == {}
    answer("sacct", b"", code=1)
    assert slurm.endings(["7_1"]) == {}


@pytest.mark.parametrize("said", GARBAGE.values(), ids=GARBAGE)
def test_other_answers_are_read_as_far_as_they_go(answer, said):
    answer("scontrol", said)
    assert slurm.largest_array(1000) == 1000
    slurm.job_facts("7")
    answer("scontrol", said, code=1)
    with pytest.raises(PreflightError, match="scontrol: no reason given"):
        slurm.job_facts("7")


@pytest.mark.parametrize("said", GARBAGE.values(), ids=GARBAGE)
def test_a_submission_without_an_id_says_where_to_look(answer, said, tmp_path):
    (tmp_path / "jobs").mkdir()
    answer("srun", b"")
    answer("sbatch", said)
    with pytest.raises(slurm.UnreachableError, match="squeue --me shows whether there is one"):
        sbatch(Submission(tmp_path / "jobs", "my", 0.0, tmp_path), "#!/bin/sh\n")


def test_a_command_that_cannot_be_started_is_one_sentence(answer, tmp_path):
    answer("squeue", b"")
    (tmp_path / "squeue").write_bytes(b"\x7fELF")
    with pytest.raises(PreflightError, match="squeue cannot be started"):
        slurm.queue()
