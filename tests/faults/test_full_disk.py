"""A full disk and folders that cannot be had are one sentence that names them in full."""

import errno
import os
import subprocess
import sys

import numpy as np
import pytest

from backbones.base.errors import PreflightError
from backbones.base.files import write_atomically
from benchmarks.data.mini import cache as mini
from benchmarks.slurm.cluster import folders

# A bound on the size of files stands for the disk; np.save then writes less than it was asked to.
_BLOCK = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from backbones.base.errors import PreflightError
from benchmarks.labelled.features.table import BlockFolder
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
folder = BlockFolder(Path(sys.argv[1]), 64, 512)
try:
    folder.write(0, np.ones((64, 512), np.float32), {})
except PreflightError as error:
    print(error)
assert folder.read(0) is None
assert not list(Path(sys.argv[1]).glob(".*"))
"""


def test_a_full_disk_below_the_feature_cache(tmp_path):
    command = [sys.executable, "-c", _BLOCK, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"Cannot write {tmp_path}/block-00000.npy: the disk is full." in done.stdout


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("this user may not mount a small file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_file_system_that_is_really_full(small_disk):
    from benchmarks.labelled.features.table import BlockFolder

    with pytest.raises(PreflightError, match=r"block-00000.npy: the disk is full\."):
        BlockFolder(small_disk, 64, 512).write(0, np.ones((64, 512), np.float32), {})
    with pytest.raises(PreflightError, match="the disk is full"):
        write_atomically(small_disk / "x", bytes(2**20))
    assert list(small_disk.iterdir()) == []


def test_the_mini_data_name_their_variable(tmp_path, monkeypatch):
    def full(staging):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(mini, "generate", full)
    monkeypatch.setenv("BACKBENCH_CACHE", str(tmp_path / "cache"))
    with pytest.raises(PreflightError) as raised:
        mini.mini_data()
    assert str(raised.value) == (
        f"The mini data cannot be written to {tmp_path}/cache/mini-3: the disk is full. Free "
        "space, or set BACKBENCH_CACHE to the full path of another folder, then run the same "
        "command again."
    )


def test_a_relative_cache_is_one_folder_for_all_processes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BACKBENCH_CACHE", "here")
    assert mini.default_cache() == tmp_path / "here"


def test_homes_that_do_not_exist(monkeypatch):
    monkeypatch.setenv("BACKBENCH_CACHE", "~nobody-at-all/x")
    with pytest.raises(
        PreflightError, match=r"^BACKBENCH_CACHE=~nobody-at-all/x: that user has no"
    ):
        mini.default_cache()
    monkeypatch.delenv("BACKBENCH_CACHE")

    def none():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(mini.Path, "home", staticmethod(none))
    with pytest.raises(PreflightError, match=r"no home folder .* set BACKBENCH_CACHE to the full"):
        mini.default_cache()


def test_profiles_are_looked_for_here_where_there_is_no_home(monkeypatch):
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert [str(folder) for folder in folders()] == ["clusters"]
