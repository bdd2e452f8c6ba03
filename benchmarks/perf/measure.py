"""Fair timing: every side in a process of its own, steps taken in turn, one allocator setting.

A comparison on shared cores is only worth something when both sides see the same disturbance, the
same memory allocator and the same threads. ``alternate`` therefore starts one worker process a
side, lets them step one at a time in turn (the order reversed every other round), and measures a
4096^3 matrix product between the rounds, so that a figure can be read as a share of what the
machine gave at that moment.

A side is named by import path: a function that takes strings, builds everything, and returns the
step to be timed::

    def our_side(model: str) -> Callable[[], object]: ...


    sides = [Candidate("ours", "benchmarks.perf.my_bench:our_side", ("vit-s16",)), Candidate(...)]
    print_comparison(alternate(sides, rounds=5))
"""

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

# What glibc's allocator is told, the same for all sides, chosen by $BENCH_MALLOC. "tuned", as the
# program's own training processes: large blocks come from the heap, are kept after free and lie
# on huge pages, so that the kernel does not map and clear hundreds of MiB afresh in every step (up
# to 1.8 times slower without). "default": as a process that nobody told anything.
MALLOC_TUNABLES = {
    "tuned": (
        "glibc.malloc.hugetlb=1:"
        "glibc.malloc.mmap_threshold=4294967296:"
        "glibc.malloc.trim_threshold=8589934592"
    ),
    "default": "",
}
MATRIX_SIDE = 4096
QUIET_SHARE = 0.08  # of all cores: what other programs may use in a step that still counts
FEWEST_QUIET = 3  # rounds; with fewer of them, all rounds count and the report says so
_GIB = 2**30


@dataclass(frozen=True)
class Candidate:
    """A step that is timed against others.

    Attributes:
        name: In the report.
        factory: "module:function"; called with ``args`` it returns the step to be timed.
        args: Strings for the factory.
    """

    name: str
    factory: str
    args: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sample:
    """One timed step.

    Attributes:
        seconds: Wall time.
        cpu_seconds: Time on the cores, all threads: what counts when others hold the cores and
            one thread is used.
        others: Share of all cores' time that other programs took meanwhile, 0 to 1.
        peak_gib: Largest resident memory of the side's process so far, GiB.
        device_gib: Largest memory allocated on the GPU so far, GiB; 0 without one.
    """

    seconds: float
    cpu_seconds: float
    others: float
    peak_gib: float
    device_gib: float


@dataclass(frozen=True)
class Alternation:
    """What a run of ``alternate`` saw.

    Attributes:
        sides: In the order given.
        rounds: One per round: a sample per side, by name.
        matrix_gflops: Matrix-product rate measured in each round, GFLOP/s.
    """

    sides: tuple[Candidate, ...]
    rounds: list[dict[str, Sample]] = field(default_factory=list)
    matrix_gflops: list[float] = field(default_factory=list)

    @property
    def quiet_rounds(self) -> list[dict[str, Sample]]:
        """Return the rounds in which no side was disturbed, or all if those are too few."""
        quiet = [r for r in self.rounds if all(s.others < QUIET_SHARE for s in r.values())]
        return quiet if len(quiet) >= FEWEST_QUIET else self.rounds

    def seconds(self, name: str) -> float:
        """Return the median step time of a side."""
        return median(r[name].seconds for r in self.quiet_rounds)

    def ratio(self, slow: str, fast: str) -> float:
        """Return the median over rounds of ``slow``'s time divided by ``fast``'s."""
        return median(r[slow].seconds / r[fast].seconds for r in self.quiet_rounds)

    def cpu_ratio(self, slow: str, fast: str) -> float:
        """Return the same of the time on the cores."""
        return median(r[slow].cpu_seconds / r[fast].cpu_seconds for r in self.quiet_rounds)

    def peak_gib(self, name: str) -> float:
        """Return a side's peak memory: on the GPU if it used one, else resident."""
        last = self.rounds[-1][name]
        return last.device_gib or last.peak_gib


def alternate(
    sides: Sequence[Candidate], *, rounds: int, threads: int | None = None, dtype: str = "float32"
) -> Alternation:
    """Time the sides in turn, one step each a round, after one step each that does not count.

    Only one worker works at any moment.

    Args:
        sides: At least one; all processes live at once, so their memory must fit together.
        rounds: Counted steps of each side.
        threads: CPU threads of each worker; by default $BENCH_THREADS, and 2 without it.
        dtype: Of the matrix product, a torch dtype's name.
    """
    comparison = Alternation(tuple(sides))
    threads = threads or int(os.environ.get("BENCH_THREADS", "2"))
    matrix = Candidate("matrix product", f"{__name__}:matrix_product", (dtype,))
    workers = {side.name: _Worker(side, threads) for side in (*sides, matrix)}
    try:
        for worker in workers.values():
            worker.step()
        names = [side.name for side in sides]
        for i in range(rounds):
            order = names if i % 2 == 0 else names[::-1]
            comparison.rounds.append({name: workers[name].step() for name in order})
            seconds = workers[matrix.name].step().seconds
            comparison.matrix_gflops.append(2 * MATRIX_SIDE**3 / seconds / 1e9)
    finally:
        for worker in workers.values():
            worker.close()
    return comparison


def print_comparison(title: str, comparison: Alternation, gflops: float | None = None) -> None:
    """Print medians, the ratio of each side to the first, memory and the matrix-product share.

    Args:
        title: First line.
        comparison: What ``alternate`` returned; the first side is the one under test.
        gflops: Arithmetic of one step in GFLOP, the same for all sides; adds the achieved share
            of the matrix product.
    """
    counted, total = len(comparison.quiet_rounds), len(comparison.rounds)
    peak = median(comparison.matrix_gflops)
    print(
        f"{title}: {counted} of {total} rounds counted, {_allocator()} allocator, "
        f"matrix product {peak:.0f} GFLOP/s"
    )
    first = comparison.sides[0].name
    for side in comparison.sides:
        seconds = comparison.seconds(side.name)
        line = f"  {side.name:<28} {seconds:8.3f} s  {comparison.peak_gib(side.name):6.2f} GiB"
        if gflops is not None:
            line += f"  {gflops / seconds / peak:5.2f} of matrix product"
        if side.name != first:
            line += f"  {first} is {comparison.ratio(side.name, first):.2f} times as fast"
            line += f" ({comparison.cpu_ratio(side.name, first):.2f} by time on the cores)"
        print(line, flush=True)


def matrix_product(dtype: str) -> Callable[[], object]:
    """Return a 4096^3 matrix product as a step, on the GPU where there is one."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    a = torch.rand(MATRIX_SIDE, MATRIX_SIDE, device=device).to(getattr(torch, dtype))
    b = torch.rand(MATRIX_SIDE, MATRIX_SIDE, device=device).to(getattr(torch, dtype))
    return lambda: torch.mm(a, b)


class _Worker:
    """The parent's end of one worker process: a line in, a step, a JSON line out."""

    def __init__(self, side: Candidate, threads: int) -> None:
        root = Path(__file__).resolve().parents[2]
        environment = os.environ | {
            "GLIBC_TUNABLES": MALLOC_TUNABLES[_allocator()],
            "OMP_NUM_THREADS": str(threads),
            "MKL_NUM_THREADS": str(threads),
            "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")]),
        }
        self.side = side
        self.process = subprocess.Popen(
            [sys.executable, "-m", __name__, side.factory, *side.args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def step(self) -> Sample:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write("step\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise RuntimeError(
                f"benchmark side {self.side.name!r} ended with status {self.process.wait()}: its "
                "message is above, or the machine ran out of memory (status -9)"
            )
        return Sample(**json.loads(answer))

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def _allocator() -> str:
    return os.environ.get("BENCH_MALLOC", "tuned")


def _serve(factory: str, args: list[str]) -> None:
    """Run in the worker: build the side, then one step per line read."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no answer
    module, function = factory.split(":")
    step = getattr(importlib.import_module(module), function)(*args)
    for _ in sys.stdin:
        print(json.dumps(_timed(step)), file=answers, flush=True)


def _timed(step: Callable[[], object]) -> dict[str, float]:
    busy, own, start = _busy_seconds(), time.process_time(), time.perf_counter()
    step()
    cuda = _cuda()
    if cuda is not None:
        cuda.synchronize()
    seconds = time.perf_counter() - start
    own = time.process_time() - own
    others = _busy_seconds() - busy - own
    return {
        "seconds": seconds,
        "cpu_seconds": own,
        "others": max(0.0, others / (seconds * (os.cpu_count() or 1))),
        "peak_gib": _peak_resident_gib(),
        "device_gib": cuda.max_memory_allocated() / _GIB if cuda is not None else 0.0,
    }


def _cuda() -> Any:
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_available() else None


def _busy_seconds() -> float:
    """Return the time all cores have worked or were taken away since boot; 0 if unknown."""
    try:
        fields = Path("/proc/stat").read_text("utf-8").split("\n", 1)[0].split()
    except OSError:
        return 0.0
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _peak_resident_gib() -> float:
    # Not getrusage: its maximum survives exec and so may be the parent's.
    try:
        status = Path("/proc/self/status").read_text("utf-8")
    except OSError:
        return 0.0
    kib = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return int(kib) * 1024 / _GIB


if __name__ == "__main__":
    _serve(sys.argv[1], sys.argv[2:])
