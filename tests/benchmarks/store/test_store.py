import copy
import json
import multiprocessing
import os
import socket

import pytest
from jsonschema import Draft202012Validator
from msgspec.structs import replace

from backbones.base.errors import PreflightError
from backbones.base.files import canonical_json
from backbones.base.json_files import convert
from benchmarks.cli import main
from benchmarks.store import record_file
from benchmarks.store.folders import BusyError, RunFolder, Store
from benchmarks.store.heartbeat import Heartbeat
from benchmarks.store.record import MAX_CURVE_POINTS, Attempt, RunRecord, thinned
from benchmarks.store.record_file import (
    BadRecordError,
    read_canonical,
    read_full_text,
    read_text,
    record_schema,
    to_content,
    to_text,
)


def signed(record, **changes):
    """Return a record's JSON, changed and signed anew, so that only the schema can object."""
    content = {**to_content(record), **changes}
    return {**content, "sha256": record_file._digest(content)}


def test_a_record_survives_its_file(tmp_path, make_record):
    record = make_record()
    store = Store(tmp_path)
    store.folder(record.run_id).write_record(record)
    found = store.scan().records[record.run_id]
    assert type(found) is RunRecord
    assert to_content(store.full(found)) == to_content(record)
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
        (lambda c: c["spec"].update(seed="0"), r"Expected `int`, got `str` at `\$.spec.seed`"),
        (lambda c: c["metrics"]["APbox"].update(value=float("nan")), "contains NaN or infinity"),
        (
            lambda c: c["curves"].update(loss=[0.0] * 201),
            "Expected `array` of length <= 200",
        ),
        (lambda c: c.update(status="maybe"), "status"),
    ],
)
def test_a_bad_record_is_refused_with_the_reason(make_record, edit, words):
    content = to_content(make_record())
    edit(content)
    with pytest.raises(BadRecordError, match=words):
        read_full_text(json.dumps(content).encode())


def test_a_record_of_another_spec_is_refused_even_when_signed(make_record):
    content = signed(make_record(), run_id="0" * 16)
    with pytest.raises(BadRecordError, match="run_id"):
        read_full_text(json.dumps(content).encode())


@pytest.mark.parametrize("content", [[], 3, None, "text", {}])
def test_json_that_is_no_record_is_refused(content):
    with pytest.raises(BadRecordError):
        read_full_text(json.dumps(content).encode())


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


def test_the_type_refuses_what_its_schema_refuses(make_record):
    reference = Draft202012Validator(record_schema())
    good = to_content(make_record())
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
                convert(content, record_file._File)
            except ValueError:
                assert not expected, (path, value)
            else:
                assert expected, (path, value)
    assert verdicts == {True, False}


def test_the_schema_describes_records_of_before(real_records):
    reference = Draft202012Validator(record_schema())
    for path in real_records:
        content = json.loads(path.read_bytes())
        reference.validate(content)
        record, text = read_canonical(path.read_bytes())
        assert text == path.read_bytes()
        # Fields that came later have their defaults.
        again = to_content(record)
        assert again["backbone"].items() >= content["backbone"].items()
        same = content.keys() - {"backbone", "sha256"}
        assert {key: again[key] for key in same} == {key: content[key] for key in same}


def test_a_record_is_checked_at_every_look(tmp_path, make_record):
    spec = make_record().spec
    store = Store(tmp_path)
    for seed in range(20):
        record = make_record(replace(spec, seed=seed))
        store.folder(record.run_id).write_record(record)
    first = store.scan()
    assert len(first.records) == 20
    assert store.scan() == first
    touched = store.folder(record.run_id).record
    text, facts = touched.read_text(), touched.stat()
    touched.write_text(text.replace('"value":10.0', '"value":99.9'))
    # As if nobody had been there: same size, same time.
    os.utime(touched, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert [path for path, _ in store.scan().rejected] == [touched]
    touched.write_text(text)
    assert store.scan() == first


def test_a_scan_reads_what_the_slow_way_reads(make_record):
    text = to_text(make_record())
    quick, full = read_text(text), read_full_text(text)
    for name in RunRecord.__struct_fields__:
        assert getattr(quick, name) == getattr(full, name)
    assert quick.run_id == full.run_id == make_record().run_id


def test_bulky_parts_that_are_invalid_leave_the_numbers(tmp_path, make_record):
    record, store = make_record(), Store(tmp_path)
    folder = store.folder(record.run_id)
    folder.path.mkdir(parents=True)
    folder.record.write_bytes(canonical_json(signed(record, curves={"loss": ["x"]})).encode())
    found = store.scan().records[record.run_id]
    assert found.value("APbox") == 10.0
    full = store.full(found)
    assert (full.curves, full.per_class) == ({}, {})
    assert "left out: Expected `int | float | null`, got `str`" in full.warnings[-1]
    with pytest.raises(BadRecordError, match="curves"):
        folder.read_full_record()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_record_that_an_editor_saved_anew_is_still_the_same(tmp_path, make_record, encoding):
    record, store = make_record(), Store(tmp_path)
    store.folder(record.run_id).write_record(record)
    path = store.folder(record.run_id).record
    path.write_bytes(path.read_text("utf-8").encode(encoding))
    for _ in range(3):
        scan = store.scan()
        assert not scan.rejected
        assert to_content(store.full(scan.records[record.run_id])) == to_content(record)


def test_a_record_that_was_laid_out_anew_is_still_the_same(tmp_path, make_record):
    record, store = make_record(), Store(tmp_path)
    store.folder(record.run_id).write_record(record)
    path = store.folder(record.run_id).record
    path.write_text(json.dumps(json.loads(path.read_text()), indent=4))
    assert to_content(store.full(store.scan().records[record.run_id])) == to_content(record)
    path.write_text(path.read_text().replace("10.0", "10.5"))
    assert "checksum" in store.scan().rejected[0][1]


def test_a_checksum_covers_every_byte(tmp_path, make_record):
    record = make_record()
    text = to_text(record)
    content = json.loads(text)
    for spoiled in (
        text.replace(b'"seed":0', b'"seed":1'),
        text.replace(b'"sha256":"', b'"sha256":"0', 1),
        text.replace(b'"status":"done"', b'"status":"failed"'),
        text.replace(b'"warnings":[]', b'"warnings":["x"]'),
        text.replace(content["sha256"].encode(), b"0" * 64),
    ):
        assert spoiled != text
        for read in (read_text, read_full_text):
            with pytest.raises(BadRecordError):
                read(spoiled)


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


def test_bad_files_of_an_unfinished_run_are_named_and_stop_nothing(
    tmp_path, make_record, make_request, make_spec, capsys
):
    store = Store(tmp_path)
    good = make_record()
    store.folder(good.run_id).write_record(good)
    folder = store.prepare(make_request(make_spec(seed=3)))
    folder.heartbeat.write_text('{"pid": "me", "host": 3}')
    folder.journal.write_text('[]\n{"number": "one"}\n')
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    scan = store.scan()
    assert set(scan.records) == {good.run_id}
    assert set(scan.unfinished) == {make_spec(seed=3).run_id}
    reasons = {path.name: reason for path, reason in scan.rejected}
    assert set(reasons) == {"heartbeat.json", "attempts.jsonl", "loop"}
    assert len(scan.rejected) == 4
    assert folder.read_attempts() == ()
    assert folder.read_heartbeat() is None
    plan = ["run", "--suite", "coco", "--entries", "vit-nano", "--dry-run"]
    for command in (["status"], ["leaderboard"], plan):
        assert main([*command, "--out", str(tmp_path)]) == 0
        said = capsys.readouterr().err
        assert "heartbeat.json" in said
        assert "loop" in said


@pytest.mark.parametrize("pid", [0, -1, 2**32, 10**30])
def test_a_heartbeat_with_an_impossible_process_is_named_and_hides_nothing(
    tmp_path, make_request, make_spec, capsys, pid
):
    folder = Store(tmp_path).prepare(make_request(make_spec(seed=3)))
    folder.heartbeat.write_text(
        json.dumps(
            {"pid": pid, "host": socket.gethostname(), "attempt": 1, "started": 0, "time": 1}
        )
    )
    folder.add_attempt(Attempt(1, "host", "a", "b", "stopped", ""))
    assert main(["status", "--out", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    assert "heartbeat.json" in captured.err
    # The journal knows of the start.
    assert "interrupted" in captured.out
    assert "missing" not in captured.out


@pytest.mark.parametrize("text", [b"\xff\xfe[]", b"[]", b"{", b'{"schema": "backbench.run/1"}'])
def test_a_bad_request_is_named_and_stops_nothing(tmp_path, make_record, make_request, text):
    store, record = Store(tmp_path), make_record()
    store.folder(record.run_id).write_record(record)
    folder = store.prepare(make_request(replace(record.spec, seed=3)))
    folder.request.write_bytes(text)
    scan = store.scan()
    assert set(scan.records) == {record.run_id}
    assert [path for path, _ in scan.rejected] == [folder.request]


def test_a_heartbeat_of_an_earlier_version_is_read(tmp_path):
    folder = RunFolder(tmp_path)
    beat = {"pid": 1, "host": "h", "attempt": 2, "started": 0.5, "time": 1.5, "losses": {"a": 1.0}}
    folder.heartbeat.write_text(json.dumps(beat))
    assert folder.read_heartbeat() == Heartbeat(1, "h", 2, 0.5, 1.5, losses={"a": 1.0})


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
    assert len(json.dumps(to_content(record))) < 200_000


def test_a_folder_of_foreign_records_names_a_few(tmp_path, make_record, make_spec, capsys):
    for seed in range(14):
        record = make_record(make_spec(seed=seed))
        content = signed(record, status="perhaps")
        folder = Store(tmp_path).folder(record.run_id)
        folder.path.mkdir(parents=True)
        folder.record.write_bytes(canonical_json(content).encode())
    main(["leaderboard", "--out", str(tmp_path)])
    notes = capsys.readouterr().err.splitlines()
    assert len(notes) == 11
    assert all("Invalid enum value 'perhaps' at `$.status`" in note for note in notes[:10])
    assert notes[10] == "left out: 4 more files for the last reason"
