"""Speeds timed alone: turns among runs, what else the machine did, and nothing else changed."""

import multiprocessing
import os
import random
import threading
import time
from types import SimpleNamespace

import pytest
import torch

from backbones.base.errors import UserError
from backbones.base.monitor import SilentMonitor
from backbones.timing import alone, conditions
from backbones.timing.alone import Rehearsal, time_alone
from backbones.timing.conditions import Conditions, Watch, busy_seconds, own_seconds
from backbones.timing.machine import Machine

_FORK = multiprocessing.get_context("fork")


def spin(seconds):
    """Compute for that many processor seconds."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def sibling(folder, started, finish, paused):
    """Compute in steps of 10 ms as another run does, and tell how long it paused."""
    turns = Machine(folder)
    turns.begin()
    started.set()
    while not finish.is_set():
        turns.give_way()
        time.sleep(0.01)
    turns.end()
    paused.put(turns.seconds_paused)


@pytest.fixture
def other_run(tmp_path):
    """Start a run that gives way, and return how long it paused once it is told to finish."""
    started, finish, paused = _FORK.Event(), _FORK.Event(), _FORK.Queue()
    process = _FORK.Process(target=sibling, args=(tmp_path, started, finish, paused))
    process.start()
    assert started.wait(30)

    def end():
        finish.set()
        seconds = paused.get(timeout=30)
        process.join(30)
        return seconds

    yield end
    finish.set()
    process.join(30)


def test_another_run_pauses_between_two_steps_while_one_is_timed(tmp_path, other_run):
    turns = Machine(tmp_path)
    turns.begin()
    assert turns.siblings() == 1
    with turns.alone(limit=30) as waited:
        assert waited is not None
        assert turns.siblings() == 0
        time.sleep(0.5)
    # It computes again, and so does this run.
    deadline = time.monotonic() + 10
    while turns.siblings() != 1:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert 0.4 < other_run() < 5


def test_the_wait_for_a_run_that_does_not_pause_is_bounded_and_said(tmp_path):
    stubborn = Machine(tmp_path)
    stubborn.begin()
    said = []
    monitor = SilentMonitor()
    monitor.say = said.append
    work = {"rate": lambda: Rehearsal(lambda: time.sleep(0.01), 4)}
    start = time.monotonic()
    rates = time_alone(work, monitor, Machine(tmp_path), limit=0.3)
    assert time.monotonic() - start < 10
    assert said == ["speed: other runs did not pause within 0 s, so it is measured next to them."]
    assert rates.images_per_second["rate"] > 0
    stubborn.end()


def test_a_run_that_computes_next_to_a_timing_is_counted(tmp_path):
    def hold(ready, done):
        turns = Machine(tmp_path)
        turns.begin()
        ready.set()
        done.wait(60)

    ready, done = _FORK.Event(), _FORK.Event()
    process = _FORK.Process(target=hold, args=(ready, done))
    process.start()
    assert ready.wait(30)
    work = {"rate": lambda: Rehearsal(lambda: time.sleep(0.02), 4)}
    found = time_alone(work, SilentMonitor(), Machine(tmp_path), limit=0.2).conditions["rate"]
    done.set()
    process.join(30)
    assert found.sibling_runs == 1
    assert found.quiet is False


def test_a_run_that_was_killed_blocks_nobody(tmp_path):
    def die(ready):
        Machine(tmp_path).begin()
        ready.set()
        time.sleep(60)

    ready = _FORK.Event()
    process = _FORK.Process(target=die, args=(ready,))
    process.start()
    assert ready.wait(30)
    process.kill()
    process.join(30)
    with Machine(tmp_path).alone(limit=5) as waited:
        assert waited is not None


def test_two_timings_come_one_after_the_other(tmp_path):
    inside, most = 0, 0
    lock = threading.Lock()

    def timed():
        nonlocal inside, most
        with Machine(tmp_path).alone(limit=30) as waited:
            assert waited is not None
            with lock:
                inside += 1
                most = max(most, inside)
            time.sleep(0.1)
            with lock:
                inside -= 1

    threads = [threading.Thread(target=timed) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_a_stop_ends_the_pause_and_the_timing(tmp_path):
    holder = Machine(tmp_path)
    with holder.alone(limit=5):
        waiting = Machine(tmp_path)
        waiting._computing = True
        start = time.monotonic()
        waiting.give_way(lambda: True)
        assert time.monotonic() - start < 5
        monitor = SilentMonitor()
        monitor.should_stop = lambda: True
        work = {"rate": lambda: Rehearsal(lambda: None, 1)}
        assert time_alone(work, monitor, Machine(tmp_path)).images_per_second == {}


def test_without_lock_files_nothing_waits(tmp_path):
    turns = Machine(tmp_path / "missing")
    turns.begin()
    turns.give_way()
    with turns.alone(limit=5) as waited:
        assert waited is not None
    assert turns.siblings() is None


def test_what_other_processes_use_is_measured():
    watch = Watch()
    process = _FORK.Process(target=spin, args=(1.0,))
    process.start()
    process.join()
    own = watch.own()
    # A child that has ended counts as the run's own.
    assert own == pytest.approx(1.0, abs=0.35)
    found = watch.conditions(own=own, threads=1, siblings=0)
    # Of somebody else, the same second counts as other work.
    others = watch.conditions(own=0.0, threads=1, siblings=0)
    assert others.other_cores - found.other_cores == pytest.approx(own / found.seconds, abs=0.1)
    assert found.threads == 1
    assert found.cores == len(os.sched_getaffinity(0))


def test_seconds_of_a_process_and_its_children_are_read_from_proc(tmp_path):
    def stat(pid, parent, *times):
        folder = tmp_path / str(pid)
        folder.mkdir()
        fields = ["S", str(parent), *["0"] * 9, *map(str, times), "0"]
        (folder / "stat").write_text(f"{pid} (a) b (c) {' '.join(fields)}\n")

    tick = os.sysconf("SC_CLK_TCK")
    own = os.getpid()
    stat(own, 1, 100, 20, 3, 4)
    stat(own + 1, own, 1000, 0, 0, 0)
    stat(own + 2, own + 1, 0, 0, 0, 5000)
    stat(own + 3, 1, 70000, 0, 0, 0)
    (tmp_path / "self").mkdir()
    assert own_seconds(tmp_path) == (127 + 1000 + 5000) / tick
    core = min(os.sched_getaffinity(0))
    (tmp_path / "stat").write_text(
        f"cpu 9 9 9 9 9 9 9 9 0 0\ncpu{core} 1 2 4 800 900 8 16 32 64 64\ncpu4095 5 5 5 5 5 5 5 5\n"
    )
    assert busy_seconds(tmp_path) == (1 + 2 + 4 + 8 + 16 + 32) / tick
    assert busy_seconds(tmp_path / "missing") is None
    assert own_seconds(tmp_path / "missing") is None


@pytest.mark.parametrize(
    ("other", "siblings", "cores", "quiet"),
    [
        (0.0, 0, 2, True),
        (0.2, 0, 2, True),
        (0.3, 0, 2, False),
        (0.0, 1, 2, False),
        (1.0, 0, 64, True),
        (1.5, 0, 64, False),
        (None, 0, 2, None),
        (None, None, 2, None),
        (0.0, None, 2, True),
        (None, 2, 2, False),
    ],
)
def test_when_a_section_was_quiet(other, siblings, cores, quiet):
    found = Conditions(1.0, cores, other_cores=other, sibling_runs=siblings)
    assert found.quiet is quiet


def quiet_conditions(monkeypatch, answers):
    """Let the machine look as the answers say, one a try; the last goes on."""
    left = list(answers)

    def look(self, **known):
        quiet = left.pop(0) if len(left) > 1 else left[0]
        return Conditions(1.0, 2, other_cores=0.0 if quiet else 1.0)

    monkeypatch.setattr(conditions.Watch, "conditions", look)


def test_a_disturbed_timing_is_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr(alone, "_SECONDS", 0.01)
    calls = []
    work = {"rate": lambda: Rehearsal(lambda: calls.append(1), 1)}
    for answers, tries in (([True], 1), ([False, True], 2), ([False], 3)):
        quiet_conditions(monkeypatch, answers)
        before = []
        monkeypatch.setattr(alone, "_tried", counted(alone._tried, before))
        found = time_alone(work, SilentMonitor(), Machine(tmp_path)).conditions["rate"]
        assert len(before) == tries
        assert found.quiet is answers[-1]
        assert found.alone


def counted(function, calls):
    def call(*arguments):
        calls.append(1)
        return function(*arguments)

    return call


class Clock:
    """A clock that stands still but for the time that work is said to take."""

    def __init__(self, monkeypatch):
        self.now = self.computed = 0.0
        clock = SimpleNamespace(
            perf_counter=lambda: self.now,
            process_time=lambda: self.computed,
            monotonic=time.monotonic,
        )
        monkeypatch.setattr(alone, "time", clock)
        monkeypatch.setattr(alone.torch, "get_num_threads", lambda: 1)

    def pass_by(self, seconds, waiting=0.0):
        self.now += seconds
        self.computed += seconds - waiting


def test_the_fastest_repetition_counts(tmp_path, monkeypatch):
    quiet_conditions(monkeypatch, [True])
    clock, pauses = Clock(monkeypatch), iter([0.01, 0.5, 0.2, 0.02, *[0.2] * 100])
    work = {"rate": lambda: Rehearsal(lambda: clock.pass_by(next(pauses)), 10)}
    found = time_alone(work, SilentMonitor(), Machine(tmp_path)).images_per_second["rate"]
    # The first call of 0.01 s warms up only.
    assert found == pytest.approx(10 / 0.02)


def test_a_quiet_try_counts_more_than_a_faster_disturbed_one(tmp_path, monkeypatch):
    quiet_conditions(monkeypatch, [False, True])
    clock, pauses = Clock(monkeypatch), iter([0.01, *[0.4] * 3, *[0.5] * 100])
    work = {"rate": lambda: Rehearsal(lambda: clock.pass_by(next(pauses)), 10)}
    found = time_alone(work, SilentMonitor(), Machine(tmp_path))
    assert found.images_per_second["rate"] == pytest.approx(10 / 0.5)
    assert found.conditions["rate"].quiet is True


def test_time_without_a_core_is_left_out(tmp_path, monkeypatch):
    quiet_conditions(monkeypatch, [False])
    clock = Clock(monkeypatch)
    work = {"rate": lambda: Rehearsal(lambda: clock.pass_by(0.2, waiting=0.15), 10)}
    rates = time_alone(work, SilentMonitor(), Machine(tmp_path))
    assert rates.images_per_second["rate"] == pytest.approx(10 / 0.05)


def test_waits_around_a_repetition_do_not_make_it_faster(tmp_path, monkeypatch):
    # The process waits for a core at every look at a clock, as it may on a machine that is busy.
    clock = Clock(monkeypatch)

    def look(kind):
        clock.now += 0.03
        return getattr(clock, kind)

    alone.time.perf_counter = lambda: look("now")
    alone.time.process_time = lambda: look("computed")
    work = {"rate": lambda: Rehearsal(lambda: clock.pass_by(0.1), 10)}
    rates = time_alone(work, SilentMonitor(), Machine(tmp_path))
    assert rates.images_per_second["rate"] == pytest.approx(10 / 0.1)


def test_several_threads_count_the_length_of_a_repetition(tmp_path, monkeypatch):
    clock = Clock(monkeypatch)
    monkeypatch.setattr(alone.torch, "get_num_threads", lambda: 2)
    work = {"rate": lambda: Rehearsal(lambda: clock.pass_by(0.2, waiting=-0.2), 10)}
    rates = time_alone(work, SilentMonitor(), Machine(tmp_path))
    assert rates.images_per_second["rate"] == pytest.approx(10 / 0.2)


@pytest.mark.parametrize(
    ("seconds", "spread"),
    [
        ([0.1, 0.3, 0.2, 0.25, *[0.3] * 100], 0.5),
        ([0.1, 0.5, 0.2, 0.2, 0.2, *[0.3] * 100], 0.0),
        ([9.0, 9.0, 9.0, *[9.0] * 9], None),
    ],
)
def test_how_well_the_fastest_repetitions_agree_is_noted(tmp_path, monkeypatch, seconds, spread):
    monkeypatch.setattr(alone, "_TRIES", 1)
    clock, pauses = Clock(monkeypatch), iter(seconds)
    work = {"rate": lambda: Rehearsal(lambda: clock.pass_by(next(pauses)), 10)}
    found = time_alone(work, SilentMonitor(), Machine(tmp_path)).conditions["rate"]
    assert found.spread == (None if spread is None else pytest.approx(spread))
    if spread:
        assert found.quiet is False


def test_generators_are_as_they_were(tmp_path):
    def work():
        torch.manual_seed(7)
        torch.rand(3)
        random.random()

    torch.manual_seed(1)
    random.seed(1)
    before = torch.random.get_rng_state(), random.getstate()
    time_alone({"rate": lambda: Rehearsal(work, 1)}, SilentMonitor(), Machine(tmp_path))
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert random.getstate() == before[1]


def test_a_step_that_cannot_be_repeated_costs_the_speed_only(tmp_path):
    def fail():
        raise UserError("The loss is not finite.")

    said = []
    monitor = SilentMonitor()
    monitor.say = said.append
    rates = time_alone({"rate": lambda: Rehearsal(fail, 1)}, monitor, Machine(tmp_path))
    assert rates.images_per_second == {}
    assert said == ["speed: not timed: The loss is not finite."]
