"""Looking at many files: an interrupted look is gone on with."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from backbones.base.content import FileContents

NUM_FILES = 3000
# Looks at files of a folder slowly, and says each that it reads.
SLOW = """
import signal, sys, time
from pathlib import Path
from backbones.base import content

# Jobs in the background of a shell ignore it otherwise.
signal.signal(signal.SIGINT, signal.default_int_handler)
content._SECONDS_UNTIL_KEPT = 0.1

def inspect(read):
    time.sleep(0.004)
    print(read.decode(), flush=True)
    return read.decode()

root = Path(sys.argv[1])
contents = content.FileContents(root / "record.json", inspect)
contents.look(root, [f"{number}.txt" for number in range(int(sys.argv[2]))])
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for number in range(NUM_FILES):
        (tmp_path / f"{number}.txt").write_text(str(number))
        os.utime(tmp_path / f"{number}.txt", (1, 1))
    return tmp_path


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_look_is_gone_on_with(files: Path, how: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SLOW, str(files), str(NUM_FILES)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        assert process.stdout is not None
        for _ in range(NUM_FILES // 2):
            process.stdout.readline()
        process.send_signal(how)
        rest = process.stdout.read().split()
        assert process.wait(timeout=30) != 0
    read = NUM_FILES // 2 + len(rest)
    # An interruption does not wait for all files that are queued.
    assert read < NUM_FILES
    seen: list[str] = []

    def inspect(content: bytes) -> str:
        seen.append(content.decode())
        return content.decode()

    looks = FileContents(files / "record.json", inspect).look(
        files, [f"{number}.txt" for number in range(NUM_FILES)]
    )
    assert [look.seen for look in looks] == [str(number) for number in range(NUM_FILES)]
    # What was read within the last tenth of a second before a kill, and in several threads out of
    # order, is read again.
    assert len(seen) <= NUM_FILES - read // 3
