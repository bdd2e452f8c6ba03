"""Bundles: what goes in comes out, and nothing else ever gets in."""

import hashlib
import io
import json
import re
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from backbones.base.errors import PreflightError
from benchmarks.by_image.resamples import NUM_RESAMPLES
from benchmarks.cli import main
from benchmarks.leaderboard.bundles.merging import merge
from benchmarks.leaderboard.bundles.reading import read_bundle
from benchmarks.leaderboard.bundles.writing import Packed, write_bundle
from benchmarks.store.folders import Store
from benchmarks.store.record import RunFile
from benchmarks.store.record_file import to_text


def scores(root):
    return sorted(record.value("APbox") for record in Store(root).scan().records.values())


def bundled(runs, tmp_path):
    path = tmp_path / "x.zip"
    assert main(["bundle", str(path), "--out", str(runs.root)]) == 0
    return path


def test_a_bundle_brings_every_record_and_merging_twice_changes_nothing(runs, tmp_path, capsys):
    path, there = bundled(runs, tmp_path), tmp_path / "there"
    assert main(["merge", str(path), "--out", str(there)]) == 0
    assert "3 records added" in capsys.readouterr().out
    before = {p: p.read_bytes() for p in there.glob("*/record.json")}
    assert main(["merge", str(path), "--out", str(there), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["same"]) == 3
    assert {p: p.read_bytes() for p in there.glob("*/record.json")} == before
    assert scores(there) == [10.0, 11.0, 12.0]


def test_the_same_records_make_the_same_file(runs, tmp_path):
    first = bundled(runs, tmp_path).read_bytes()
    assert bundled(runs, tmp_path).read_bytes() == first


def test_what_is_there_stays_and_a_conflict_is_named(runs, tmp_path, make_record, capsys):
    path = bundled(runs, tmp_path)
    other = Store(tmp_path / "other")
    mine = make_record(score=99.0)
    other.folder(mine.run_id).write_record(mine)
    assert main(["merge", str(path), "--out", str(other.root)]) == 3
    assert mine.run_id in capsys.readouterr().err
    assert scores(other.root) == [11.0, 12.0, 99.0]


@pytest.fixture
def with_intervals(runs, make_record):
    """Return the folder of a run that kept resamples."""
    content = npz()
    # Whatever else a record names stays where it is.
    other = RunFile("../../evil", "0" * 64, 1)
    record = make_record(replace(make_record().spec, seed=7), files=(facts_of(content), other))
    folder = runs.folder(record.run_id)
    folder.write_record(record)
    folder.work.mkdir()
    (folder.work / "resamples.npz").write_bytes(content)
    return folder


def test_resamples_travel_with_their_record(runs, tmp_path, with_intervals):
    run_id, kept = with_intervals.path.name, with_intervals.work / "resamples.npz"
    path, there = bundled(runs, tmp_path), Store(tmp_path / "there")
    assert main(["merge", str(path), "--out", str(there.root)]) == 0
    copy = there.folder(run_id).work / "resamples.npz"
    assert copy.read_bytes() == kept.read_bytes()
    assert not list(tmp_path.rglob("evil"))
    copy.unlink()
    assert main(["merge", str(path), "--out", str(there.root)]) == 0
    assert copy.read_bytes() == kept.read_bytes(), "they come even when the record was there"
    repack(path, lambda m: with_resamples(m, run_id, npz(0.25)))
    with pytest.raises(PreflightError, match="not the file that"):
        read_bundle(path)
    repack(path, lambda m: with_resamples(m, "0" * 16, b"alone"))
    with pytest.raises(PreflightError, match="no record"):
        read_bundle(path)


def test_damaged_resamples_stay_behind_and_are_named(runs, tmp_path, with_intervals, capsys):
    (with_intervals.work / "resamples.npz").write_bytes(b"others")
    with zipfile.ZipFile(bundled(runs, tmp_path)) as archive:
        assert not [name for name in archive.namelist() if name.startswith("resamples/")]
    said = capsys.readouterr().err
    assert "resamples.npz: it is not the file that the record names" in said


def facts_of(content):
    """Return what a record says of its resamples."""
    return RunFile("work/resamples.npz", hashlib.sha256(content).hexdigest(), len(content))


def npz(value=0.5, **changes):
    """Return the bytes of a file of resamples."""
    columns = {
        "format": np.array("backbench-resamples-1"),
        "images": np.array("a" * 64),
        "num_images": np.array(12),
        "names": np.array(["APbox"]),
        "plain": np.array([value]),
        "values": np.full((1, NUM_RESAMPLES), value, dtype=np.float32),
    }
    file = io.BytesIO()
    np.savez(file, **{**columns, **changes})
    return file.getvalue()


def claiming(shape):
    """Return a file of resamples whose values claim a shape that is not there."""
    header = io.BytesIO()
    facts = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, facts)
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(npz())) as whole, zipfile.ZipFile(file, "w") as archive:
        for info in whole.infolist():
            claim = header.getvalue() + b"\0" * 4
            archive.writestr(info, claim if info.filename == "values.npy" else whole.read(info))
    return file.getvalue()


BOMBS = {
    "10^11 values": claiming((1, 10**11)),
    "values below zero": claiming((-1, 4)),
    "much of one byte": npz(values=np.zeros((1, 10**7), np.float32)),
    "another number of resamples": npz(values=np.zeros((1, 5), np.float32)),
    "names twice": npz(names=np.array(["APbox", "APbox"]), plain=np.zeros(2)),
    "NaN": npz(np.nan),
    "another format": npz(format=np.array("x")),
    "no archive": b"no archive",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_resamples_that_are_a_bomb_or_nothing_are_refused(runs, tmp_path, make_record, bomb):
    content = BOMBS[bomb]
    record = make_record(replace(make_record().spec, seed=7), files=(facts_of(content),))
    packed = Packed(record, to_text(record), content)
    write_bundle(tmp_path / "x.zip", [packed])
    with pytest.raises(PreflightError, match="resamples") as caught:
        read_bundle(tmp_path / "x.zip")
    assert "\n" not in str(caught.value)
    assert main(["merge", str(tmp_path / "x.zip"), "--out", str(tmp_path / "there")]) == 4
    # Who has such a file in a folder already loses its intervals only.
    folder = runs.folder(record.run_id)
    folder.write_record(record)
    folder.work.mkdir()
    (folder.work / "resamples.npz").write_bytes(content)
    assert main(["leaderboard", "--out", str(runs.root)]) == 0


def with_resamples(members, run_id, content):
    """Return members with a file of resamples that the list knows."""
    listing = json.loads(members[0][1])
    name = f"resamples/{run_id}.npz"
    listing["members"] = {k: v for k, v in listing["members"].items() if "resamples" not in k}
    listing["members"][name] = {"bytes": 0, "sha256": hashlib.sha256(content).hexdigest()}
    rest = [member for member in members[1:] if "resamples" not in member[0]]
    return [(members[0][0], json.dumps(listing).encode()), *rest, (name, content)]


def repack(path, edit):
    """Write a bundle anew; ``edit`` changes a list of (name or info, bytes)."""
    with zipfile.ZipFile(path) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    # The list first, where the edits look for it; its place has no meaning.
    members = edit(sorted(members, key=lambda member: member[0] != "bundle.json"))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)


def renamed(members, name):
    return [*members[:-1], (name, members[-1][1])]


def edited(members):
    name, text = members[-1]
    return [*members[:-1], (name, text.replace(b'"value":1', b'"value":9'))]


def relisted(members, text):
    """Return members with other bytes in the last one, and a list that agrees."""
    listing = json.loads(members[0][1])
    name = members[-1][0]
    listing["members"][name]["sha256"] = hashlib.sha256(text).hexdigest()
    return [(members[0][0], json.dumps(listing).encode()), *members[1:-1], (name, text)]


def link(members):
    info = zipfile.ZipInfo(members[-1][0])
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return [*members[:-1], (info, b"/etc/passwd")]


EVIL = {
    "another folder": (lambda m: renamed(m, "../../evil.json"), "neither"),
    "absolute": (lambda m: renamed(m, "/tmp/evil.json"), "neither"),
    "backslashes": (lambda m: renamed(m, "records\\..\\evil.json"), "neither"),
    "a stranger": (lambda m: [*m, ("records/readme.txt", b"x")], "neither"),
    "unlisted": (lambda m: [*m, (f"records/{'0' * 16}.json", b"{}")], "do not agree"),
    "gone": (lambda m: m[:-1], "do not agree"),
    "no list": (lambda m: m[1:], "no bundle"),
    "list of another kind": (lambda m: [(m[0][0], b'{"schema":"x/9"}'), *m[1:]], "schema 'x/9'"),
    "list that is none": (lambda m: [(m[0][0], b"[1"), *m[1:]], "malformed"),
    "a link": (link, "not a plain file"),
    "edited": (edited, "not what bundle.json lists"),
    "edited and relisted": (lambda m: relisted(m, edited(m)[-1][1]), "checksum"),
    "newer schema": (
        lambda m: relisted(m, m[-1][1].replace(b"backbench.record/1", b"backbench.record/2")),
        "schema",
    ),
    "not a number": (
        lambda m: relisted(m, re.sub(rb'"value":1[0-9.]+', b'"value":NaN', m[-1][1])),
        "NaN|number",
    ),
    "another's record": (lambda m: relisted(m, m[-2][1]), "holds the record of"),
    "a bomb": (lambda m: relisted(m, b" " * (3 * 2**20)), "unpacks to more"),
}


@pytest.mark.parametrize("trick", EVIL)
def test_a_bad_bundle_is_refused_whole(runs, tmp_path, trick, capsys):
    path, there = bundled(runs, tmp_path), tmp_path / "there"
    edit, words = EVIL[trick]
    repack(path, edit)
    with pytest.raises(PreflightError, match=words):
        read_bundle(path)
    capsys.readouterr()
    assert main(["merge", str(path), "--out", str(there)]) == 4
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not list(tmp_path.rglob("evil*"))
    assert not list(there.glob("*")) if there.exists() else True


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_is_there_twice_is_refused(runs, tmp_path):
    path = bundled(runs, tmp_path)
    repack(path, lambda members: [*members, members[-1]])
    with pytest.raises(PreflightError, match="twice"):
        read_bundle(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"x" * 1000])
def test_a_file_that_is_no_archive_is_one_sentence(tmp_path, content, capsys):
    path = tmp_path / "x.zip"
    path.write_bytes(content)
    assert main(["merge", str(path), "--out", str(tmp_path / "there")]) == 4
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert main(["merge", str(tmp_path / "absent"), "--out", str(tmp_path / "there")]) == 4


def test_a_damaged_byte_in_an_archive_is_found(runs, tmp_path):
    path = bundled(runs, tmp_path)
    whole = path.read_bytes()
    for at in range(0, len(whole), 97):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            records = read_bundle(path)
        except PreflightError:
            continue
        assert sorted(one.record.value("APbox") for one in records) == [10.0, 11.0, 12.0]


def test_an_empty_folder_makes_no_bundle(tmp_path, capsys):
    assert main(["bundle", str(tmp_path / "x.zip"), "--out", str(tmp_path)]) == 4
    assert not Path(tmp_path / "x.zip").exists()


def test_a_bundle_that_changes_after_it_was_checked_is_refused(runs, tmp_path):
    path, there = bundled(runs, tmp_path), Store(tmp_path / "there")
    checked = read_bundle(path)
    repack(path, lambda members: [(name, b"{}") for name, _ in members])
    with pytest.raises(PreflightError, match="refused"):
        merge(checked, there)
    assert not list(there.root.rglob("*.json"))
    repack(path, lambda members: members[:1])
    with pytest.raises(PreflightError, match="changed while the bundle was read"):
        merge(checked, there)


def test_a_bundle_whose_records_were_laid_out_anew_brings_the_usual_files(runs, tmp_path):
    path, there = bundled(runs, tmp_path), Store(tmp_path / "there")
    repack(path, laid_out_anew)
    assert len(merge(read_bundle(path), there).added) == 3
    for copy in there.root.glob("*/record.json"):
        assert copy.read_bytes() == (runs.root / copy.parent.name / copy.name).read_bytes()


def laid_out_anew(members):
    """Return members whose records are indented, and a list that fits them."""
    new = {
        name: json.dumps(json.loads(content), indent=1).encode()
        for name, content in members
        if name != "bundle.json"
    }
    facts = {n: {"bytes": len(c), "sha256": hashlib.sha256(c).hexdigest()} for n, c in new.items()}
    listed = json.dumps({"schema": "backbench.bundle/1", "members": facts}).encode()
    return [("bundle.json", listed), *new.items()]
