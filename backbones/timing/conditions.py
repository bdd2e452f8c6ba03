"""What else the machine did while something was timed.

Linux tells it in ``/proc`` (proc(5)); elsewhere the fields are None, which means unknown.
"""

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_PROC = Path("/proc")
# Up to this many busy cores, or this share of all, other processes are the machine's own upkeep.
_UPKEEP_CORES, _UPKEEP_SHARE = 0.2, 0.02
# Among undisturbed repetitions of a step, the three fastest lie within 2 %.
_STEADY_SHARE = 0.05
# Fields of a cpu line in /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal.
_BUSY_FIELDS = (0, 1, 2, 5, 6, 7)


@dataclass(frozen=True)
class Conditions:
    """What else happened on the machine during a timed section.

    Attributes:
        seconds: Length of the section.
        cores: Cores that the run may use.
        threads: Threads that the run computed with; None if unknown.
        other_cores: Mean number of these cores that processes outside the run kept busy; None if
            unknown.
        sibling_runs: Other runs of this program that were computing; None if unknown.
        load: Load average of the machine over the last minute; None if unknown.
        clock_mhz: Mean clock of the cores at the end of the section; None if unknown.
        alone: Whether the section was a timing of its own, see ``timing.alone``.
        waited: Seconds that a timing of its own waited for other runs to pause.
        spread: By how much, as a share, the third fastest repetition of a timing of its own was
            slower than the fastest; None where there were fewer.
    """

    seconds: float
    cores: int
    threads: int | None = None
    other_cores: float | None = None
    sibling_runs: int | None = None
    load: float | None = None
    clock_mhz: float | None = None
    alone: bool = False
    waited: float = 0.0
    spread: float | None = None

    @property
    def quiet(self) -> bool | None:
        """Whether nothing but the machine's upkeep ran next to the section; None if unknown.

        Repetitions that disagree were disturbed by something that ``/proc`` does not show: another
        virtual machine on the same cores, or a clock that changes.
        """
        if self.sibling_runs or (self.spread is not None and self.spread > _STEADY_SHARE):
            return False
        if self.other_cores is None:
            return None
        return self.other_cores <= max(_UPKEEP_CORES, _UPKEEP_SHARE * self.cores)


@dataclass(frozen=True)
class Rates:
    """Images per second, over all processes of a run.

    Attributes:
        images_per_second: By name; None where nothing could be timed.
        conditions: By the same names, what else the machine did.
    """

    images_per_second: Mapping[str, float | None] = field(default_factory=dict)
    conditions: Mapping[str, Conditions] = field(default_factory=dict)


class Watch:
    """Notes what the machine does from now on."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._busy, self._own = busy_seconds(), own_seconds()

    def own(self) -> float | None:
        """Return the seconds that this process and its children have computed so far."""
        now = own_seconds()
        return None if now is None or self._own is None else now - self._own

    def conditions(
        self,
        *,
        own: float | None,
        threads: int | None,
        siblings: int | None,
        spread: float | None = None,
    ) -> Conditions:
        """Return what happened since the watch was made.

        Args:
            own: Processor seconds of all processes of the run on this machine; None if unknown.
            threads: Threads that the run computes with.
            siblings: Other runs of this program that were computing.
            spread: As in ``Conditions``.
        """
        seconds = max(time.perf_counter() - self._start, 1e-9)
        busy, others = busy_seconds(), None
        if busy is not None and self._busy is not None and own is not None:
            others = round(max(0.0, busy - self._busy - own) / seconds, 3)
        return Conditions(
            seconds=round(seconds, 3),
            cores=len(_cores()),
            threads=threads,
            other_cores=others,
            sibling_runs=siblings,
            load=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
            clock_mhz=clock_mhz(),
            spread=None if spread is None else round(spread, 4),
        )


def busy_seconds(proc: Path = _PROC) -> float | None:
    """Return the seconds that the cores this process may use have been busy; None if unknown.

    Time that a hypervisor gave to other machines counts as busy.
    """
    names = {f"cpu{core}" for core in _cores()}
    try:
        lines = [line.split() for line in (proc / "stat").read_text("utf-8").splitlines()]
        ticks = sum(int(own[1 + i]) for own in lines if own[0] in names for i in _BUSY_FIELDS)
    except (OSError, ValueError, IndexError):
        return None
    return ticks / os.sysconf("SC_CLK_TCK")


def own_seconds(proc: Path = _PROC) -> float | None:
    """Return the processor seconds of this process and all that descend from it; None if unknown.

    Ended children count once their parent has waited for them.
    """
    spent: dict[int, int] = {}
    children: dict[int, list[int]] = {}
    for folder in _numbered(proc):
        try:
            # The name of the program, in brackets, may hold anything.
            fields = (folder / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
            pid, parent = int(folder.name), int(fields[1])
            # utime, stime, cutime, cstime
            spent[pid] = sum(int(field) for field in fields[11:15])
        except (OSError, ValueError, IndexError):
            continue
        children.setdefault(parent, []).append(pid)
    tree = [os.getpid()]
    if tree[0] not in spent:
        return None
    for pid in tree:
        tree += children.get(pid, [])
    return sum(spent[pid] for pid in tree) / os.sysconf("SC_CLK_TCK")


def clock_mhz() -> float | None:
    """Return the mean clock of the cores that this process may use, in MHz; None if unknown."""
    frequency = "/sys/devices/system/cpu/cpu{}/cpufreq/scaling_cur_freq"
    try:
        found = [int(Path(frequency.format(core)).read_text("utf-8")) / 1000 for core in _cores()]
    except (OSError, ValueError):
        found = _clocks_of_cpuinfo()
    return round(sum(found) / len(found), 1) if found else None


def _clocks_of_cpuinfo() -> list[float]:
    try:
        lines = (_PROC / "cpuinfo").read_text("utf-8").splitlines()
        return [float(line.partition(":")[2]) for line in lines if line.startswith("cpu MHz")]
    except (OSError, ValueError):
        return []


def _numbered(proc: Path) -> Iterable[Path]:
    try:
        return [folder for folder in proc.iterdir() if folder.name.isdecimal()]
    except OSError:
        return []


def _cores() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))
