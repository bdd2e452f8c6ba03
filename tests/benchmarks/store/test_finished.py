"""A damaged file next to a valid record is named, and the record counts."""

import json

import pytest

from benchmarks.commands.status import main, survey
from benchmarks.options import StatusOptions
from benchmarks.store.folders import Store
from benchmarks.store.record import Attempt


@pytest.fixture
def finished(tmp_path, make_record, make_request):
    store, record = Store(tmp_path), make_record()
    folder = store.prepare(make_request(record.spec))
    folder.add_attempt(Attempt(1, "host", "a", "b", "done", ""))
    folder.write_record(record)
    assert survey(store)[1].rejected == ()
    return folder


@pytest.mark.parametrize("name", ["run.json", "attempts.jsonl", "heartbeat.json"])
@pytest.mark.parametrize("content", [b"[]\n", b"{\n", b"\xff\xfe\x00\n", b"null\n"])
def test_status_names_it(finished, name, content, capsys, tmp_path):
    (finished.path / name).write_bytes(content)
    assert main(StatusOptions(out=tmp_path)) == 0
    said = capsys.readouterr()
    assert "1 done" in said.out
    assert f"left out: {finished.path / name}" in said.err


def test_a_record_of_another_version_is_named_once_among_others(finished, make_record, capsys):
    content = json.loads(finished.record.read_text())
    content["schema"] = "backbench.record/9"
    finished.record.write_text(json.dumps(content))
    assert main(StatusOptions(out=finished.path.parent)) == 0
    assert "schema is 'backbench.record/9'" in capsys.readouterr().err
