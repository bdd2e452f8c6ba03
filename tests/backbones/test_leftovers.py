"""What a killed writer leaves is removed once it is gone, and nothing else is."""

import os
import subprocess
import sys

import pytest

from backbones.base import leftovers
from backbones.base.files import write_all_atomically, write_atomically

_WRITE_AND_DIE = """
import os, sys
from pathlib import Path
from backbones.base.files import atomic_file, write_all_atomically
path = Path(sys.argv[1])
def endless():
    for number in range(100):
        yield path.with_name(f"{number}.json"), b"whole"
    os.kill(os.getpid(), 9)
if sys.argv[2] == "all":
    write_all_atomically(endless())
with atomic_file(path) as file:
    file.write(b"half of it")
    file.flush()
    os.kill(os.getpid(), 9)
"""


def parts(folder):
    return sorted(path.name for path in folder.glob(".*.part"))


@pytest.mark.parametrize("how", ["one", "all"])
def test_a_killed_write_is_removed_by_the_next_into_its_folder(tmp_path, how):
    path = tmp_path / "record.json"
    command = [sys.executable, "-c", _WRITE_AND_DIE, str(path), how]
    assert subprocess.run(command, check=False).returncode == -9
    assert len(parts(tmp_path)) >= 1
    write_atomically(tmp_path / "other.json", b"whole")
    assert parts(tmp_path) == []
    assert [one.name for one in tmp_path.iterdir()] == ["other.json"]


def test_a_write_of_a_living_process_stays(tmp_path):
    own = tmp_path / f"{leftovers.prefix_of('a.json')}x.part"
    own.write_bytes(b"half")
    ours = tmp_path / ".notes.part"
    ours.write_bytes(b"of somebody else")
    write_all_atomically([(tmp_path / "b.json", b"whole")])
    assert parts(tmp_path) == sorted([own.name, ours.name])


def test_a_writer_on_another_machine_has_a_day(tmp_path):
    part = tmp_path / ".a.json.01234567-1.x.part"
    part.write_bytes(b"half")
    leftovers.remove_leftovers(tmp_path)
    assert part.exists()
    long_ago = part.stat().st_mtime - 2 * leftovers._STALE_SECONDS
    os.utime(part, (long_ago, long_ago))
    leftovers.remove_leftovers(tmp_path)
    assert not part.exists()


def test_folders_and_links_are_removed_and_what_a_link_names_stays(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    prefix = leftovers.prefix_of("code").replace(f"-{os.getpid()}.", f"-{gone.pid}.")
    inner = tmp_path / "cache"
    (inner / f"{prefix}x.part" / "deep").mkdir(parents=True)
    kept = tmp_path / "kept"
    kept.mkdir()
    (inner / f"{prefix}y.part").symlink_to(kept)
    leftovers.remove_all_leftovers(tmp_path)
    assert list(inner.iterdir()) == []
    assert kept.is_dir()
