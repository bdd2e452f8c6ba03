import copy
import json
import multiprocessing
import os
from dataclasses import replace

import pytest
from jsonschema import Draft202012Validator

import benchmarks.store.record_text as record_text
from backbones.base.errors import PreflightError
from benchmarks.cli import main
from benchmarks.store.folders import BusyError, RunFolder, Store
from benchmarks.store.record import MAX_CURVE_POINTS, Attempt, from_json, thinned, to_json
from benchmarks.store.record_text import BadRecordError, to_text


def signed(record, **changes):
    """Return a record's JSON, changed and signed anew, so that only the schema can object."""
    content = {**to_json(record), **changes}
    return {**content, "sha256": record_text._digest(content)}


def test_a_record_survives_its_file(tmp_path, make_record):
    record = make_record()
    store = Store(tmp_path)
    store.folder(record.run_id).write_record(record)
    found = store.scan().records[record.run_id]
    assert to_json(found) == to_json(record)
    assert found.value("APbox") == 10.0
    assert found.value("APmask") is None
    assert found.value("absent") is None


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda c: c["metrics"]["APbox"].update(value=99.0), "checksum"),
        (lambda c: c.update(schema="backbench.record/2"), "backbench.record/2"),
        (lambda c: c.pop("metrics"), "metrics"),
        (lambda c: c.update(extra=1), "extra"),
        (lambda c: c["spec"].update(seed="0"), "spec/seed"),
        (lambda c: c["metrics"]["APbox"].update(value=float("nan")), "number that is none"),
        (lambda c: c["curves"].update(loss=[0.0] * 201), "curves/loss"),
        (lambda c: c.update(status="maybe"), "status"),
    ],
)
def test_a_bad_record_is_refused_with_the_reason(make_record, edit, words):
    content = to_json(make_record())
    edit(content)
    with pytest.raises(BadRecordError, match=words):
        from_json(content)


def test_a_record_of_another_spec_is_refused_even_when_signed(make_record):
    content = signed(make_record(), run_id="0" * 16)
    with pytest.raises(BadRecordError, match="run_id"):
        from_json(content)


@pytest.mark.parametrize("content", [[], 3, None, "text", {}])
def test_json_that_is_no_record_is_refused(content):
    with pytest.raises(BadRecordError):
        from_json(content)


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"schema": 1}'])
def test_a_scan_names_what_it_leaves_out(tmp_path, make_record, text):
    good, bad = make_record(), make_record(replace(make_record().spec, seed=7))
    store = Store(tmp_path)
    for record in (good, bad):
        store.folder(record.run_id).write_record(record)
    store.folder(bad.run_id).record.write_bytes(text)
    (tmp_path / "stray.txt").write_text("")
    (tmp_path / "empty").mkdir()
    scan = store.scan()
    assert set(scan.records) == {good.run_id}
    ((path, reason),) = scan.rejected
    assert path == store.folder(bad.run_id).record
    assert reason


def test_a_record_in_a_foreign_folder_is_left_out(tmp_path, make_record):
    record = make_record()
    RunFolder(tmp_path / "0000000000000000").write_record(record)
    scan = Store(tmp_path).scan()
    assert not scan.records
    assert "belongs to run" in scan.rejected[0][1]


def test_the_compiled_validator_refuses_what_the_reference_refuses(make_record):
    reference = Draft202012Validator(json.loads(record_text.SCHEMA_FILE.read_text()))
    good = to_json(make_record())
    wrong = [None, True, 1, 1.5, "x", [], {}, [1], {"x": 1}, {"x": None}]
    places = [(key,) for key in good]
    places += [(key, inner) for key in good if isinstance(good[key], dict) for inner in good[key]]
    verdicts = set()
    for path in [(), *places]:
        for value in wrong:
            content = copy.deepcopy(good)
            holder = content
            for key in path[:-1]:
                holder = holder[key]
            if path:
                holder[path[-1]] = value
            else:
                content["extra"] = value
            expected = reference.is_valid(content)
            verdicts.add(expected)
            try:
                record_text._check_schema(content)
            except BadRecordError:
                assert not expected, (path, value)
            else:
                assert expected, (path, value)
    assert verdicts == {True, False}


def test_a_record_is_checked_once_and_again_when_touched(tmp_path, make_record, monkeypatch):
    checks = []
    check = record_text._check_schema
    monkeypatch.setattr(record_text, "_check_schema", lambda c: checks.append(1) or check(c))
    spec = make_record().spec
    store = Store(tmp_path)
    for seed in range(20):
        record = make_record(replace(spec, seed=seed))
        store.folder(record.run_id).write_record(record)
    checks.clear()
    first = store.scan()
    assert len(checks) == 20
    second = Store(tmp_path).scan()
    assert len(checks) == 20, "known records were checked again"
    assert second == first
    assert second.records[record.run_id].curves["loss"] == [3.0, None]
    touched = store.folder(record.run_id).record
    text, facts = touched.read_text(), touched.stat()
    touched.write_text(text.replace('"value":10.0', '"value":99.9'))
    # As if nobody had been there: same size, same time.
    os.utime(touched, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert [path for path, _ in store.scan().rejected] == [touched]
    assert len(checks) == 21
    assert [path for path, _ in store.scan().rejected] == [touched], "bad ones are never known"
    touched.write_text(text)
    assert store.scan() == first
    assert store.scan() == first
    assert len(checks) == 23


def test_a_record_that_was_laid_out_anew_is_still_the_same(tmp_path, make_record):
    record, store = make_record(), Store(tmp_path)
    store.folder(record.run_id).write_record(record)
    path = store.folder(record.run_id).record
    path.write_text(json.dumps(json.loads(path.read_text()), indent=4))
    assert to_json(store.scan().records[record.run_id]) == to_json(record)
    path.write_text(path.read_text().replace("10.0", "10.5"))
    assert "checksum" in store.scan().rejected[0][1]


def test_a_checksum_covers_every_byte(tmp_path, make_record):
    record = make_record()
    text = to_text(to_json(record))
    content = json.loads(text)
    for spoiled in (
        text.replace(b'"seed":0', b'"seed":1'),
        text.replace(b'"sha256":"', b'"sha256":"0', 1),
        text.replace(b'"status":"done"', b'"status":"failed"'),
        text.replace(b'"warnings":[]', b'"warnings":["x"]'),
        text.replace(content["sha256"].encode(), b"0" * 64),
    ):
        assert spoiled != text
        with pytest.raises(BadRecordError):
            from_json(json.loads(spoiled), spoiled)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"schema": 1}', '{"schema": 1, "valid": 3}'])
def test_a_damaged_memory_of_checked_records_costs_time_alone(tmp_path, make_record, text):
    record, store = make_record(), Store(tmp_path)
    store.folder(record.run_id).write_record(record)
    store.scan()
    (store.cache / "records.json").write_text(text)
    assert set(store.scan().records) == {record.run_id}


def test_a_folder_that_is_absent_holds_nothing(tmp_path):
    assert Store(tmp_path / "absent").scan().records == {}


def test_the_journal_survives_a_torn_last_line(tmp_path):
    folder = RunFolder(tmp_path)
    attempt = Attempt(1, "host", "a", "b", "stopped", "")
    folder.add_attempt(attempt)
    with folder.journal.open("a") as file:
        file.write('{"number": 2, "ho')
    assert folder.read_attempts() == (attempt,)
    folder.add_attempt(replace(attempt, number=2))
    assert [a.number for a in folder.read_attempts()] == [1, 2]


def hold(path, held, done):
    with RunFolder(path).lock():
        held.set()
        done.wait(30)


def test_a_lock_keeps_others_out_and_dies_with_its_holder(tmp_path):
    context = multiprocessing.get_context("fork")
    held, done = context.Event(), context.Event()
    holder = context.Process(target=hold, args=(tmp_path, held, done))
    holder.start()
    assert held.wait(30)
    with pytest.raises(BusyError, match="Another process"), RunFolder(tmp_path).lock():
        pass
    holder.kill()
    holder.join()
    with RunFolder(tmp_path).lock():
        pass


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PreflightError, match="is a file"):
        Store(tmp_path / "file").check_writable()


def test_curves_keep_their_ends():
    assert thinned([1.0, float("inf")]) == [1.0, None]
    series = [float(i) for i in range(1234)]
    short = thinned(series)
    assert len(short) == MAX_CURVE_POINTS
    assert (short[0], short[-1]) == (0.0, 1233.0)


def test_a_record_with_the_longest_curves_stays_small(make_record):
    record = make_record(
        curves={name: thinned([i / 7 for i in range(5000)]) for name in ("step", "loss", "lr")},
        per_class={f"class {i}": {"APbox": i / 7, "APmask": i / 3} for i in range(80)},
    )
    assert len(json.dumps(to_json(record))) < 200_000


def test_a_folder_of_foreign_records_names_a_few(tmp_path, make_record, make_spec, capsys):
    for seed in range(14):
        record = make_record(make_spec(seed=seed))
        content = signed(record, status="perhaps")
        folder = Store(tmp_path).folder(record.run_id)
        folder.path.mkdir(parents=True)
        folder.record.write_bytes(to_text(content))
    main(["leaderboard", "--out", str(tmp_path)])
    notes = capsys.readouterr().err.splitlines()
    assert len(notes) == 11
    assert all("perhaps" in note for note in notes[:10])
    assert notes[10] == "left out: 4 more files for the last reason"
