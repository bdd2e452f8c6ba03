import io

import pytest

from benchmarks.local.terminal import Screen, describe, duration
from benchmarks.output import clean
from benchmarks.store.heartbeat import Heartbeat, read_heartbeat, write_heartbeat


def beat(**changes):
    values = {"pid": 1, "host": "h", "attempt": 1, "started": 0.0, "time": 0.0}
    return Heartbeat(**{**values, **changes})


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59, "59 s"), (61, "1 min 01 s"), (3700, "1 h 01 min"), (2e5, "2.3 days")],
)
def test_durations_are_for_people(seconds, text):
    assert duration(seconds) == text


def test_a_heartbeat_reads_as_one_line():
    text = describe(
        beat(phase="train", step=5, num_steps=20, losses={"a": 1.0, "b": 2.0}, lr=1e-3,
             images_per_second=7.25), 90.0,
    )  # fmt: skip
    assert text == "train 5/20  loss 3.000  lr 1.0e-03  7.2 images/s  1 min 30 s left"


def test_time_left_comes_from_the_steps_of_this_phase():
    stream = io.StringIO()
    line = Screen(stream).begin("run")
    line.show(beat(phase="load"))
    line.show(beat(phase="train", step=100, num_steps=300, time=10.0))
    line._shown -= 60
    line.show(beat(phase="train", step=110, num_steps=300, time=20.0))
    assert "3 min 10 s left" in stream.getvalue().splitlines()[-1]


def test_without_a_terminal_lines_are_plain_and_few():
    stream = io.StringIO()
    line = Screen(stream).begin("run")
    for step in range(100):
        line.show(beat(phase="train", step=step, num_steps=100, time=float(step)))
    line.end("done")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3
    assert "\x1b" not in stream.getvalue()


def test_on_a_terminal_one_line_lives(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    line = Screen(stream).begin("run")
    for step in range(5):
        line.show(beat(phase="train", step=step, num_steps=100, time=float(step)))
    assert "\r" in stream.getvalue()
    line.end("all done")
    assert stream.getvalue().rstrip().endswith("run  all done")


def test_words_of_a_run_cannot_steer_the_terminal():
    stream = io.StringIO()
    screen = Screen(stream)
    screen.begin("x\x1b[2J")
    screen.say("\x1b]0;title\x07[red]hi[/red]")
    assert "\x1b" not in stream.getvalue()
    assert "[red]hi[/red]" in stream.getvalue()
    assert clean("a\nb\u202ec") == "a·b·c"


def test_a_heartbeat_survives_its_file_and_a_bad_file_is_none(tmp_path):
    path = tmp_path / "heartbeat.json"
    assert read_heartbeat(path) is None
    write_heartbeat(path, beat(step=3))
    assert read_heartbeat(path) == beat(step=3)
    path.write_text("{")
    assert read_heartbeat(path) is None
    write_heartbeat(tmp_path / "absent" / "heartbeat.json", beat())
