"""Progress on the terminal: a living line for each run, or plain lines."""

import time
from collections import deque
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from benchmarks.output import clean, drop, outlasting
from benchmarks.store.heartbeat import Heartbeat

_PLAIN_EVERY_SECONDS = 15.0
_WINDOW_SECONDS = 30.0


class _Console(Console):
    def on_broken_pipe(self) -> None:
        # Rich would end the program, and with it the runs.
        drop(self.file)


class Screen:
    """Shows runs as they go, one living line for each that is at work.

    Args:
        stream: Standard output, or standard error where that is kept for results.
    """

    def __init__(self, stream: TextIO) -> None:
        self._console = _Console(file=stream, highlight=False, soft_wrap=True)
        self._live: Live | None = None
        self._lines: list[Line] = []

    def begin(self, title: str) -> "Line":
        """Start showing a run."""
        line = Line(self, clean(title))
        self._lines.append(line)
        if not self._console.is_terminal:
            self.say(line.text)
        elif self._live is None:
            self._live = Live(self._group(), console=self._console, transient=True,
                              auto_refresh=False)  # fmt: skip
            self._live.start(refresh=True)
        self.refresh()
        return line

    def say(self, text: str) -> None:
        """Print a line, above the living ones if there are any.

        Raises:
            PreflightError: The disk is full.
        """
        with outlasting(self._console.file):
            self._console.print(Text(clean(text)))

    @property
    def living(self) -> bool:
        """Whether lines are rewritten in place, as on a terminal."""
        return self._live is not None

    def refresh(self) -> None:
        """Draw the living lines anew."""
        if self._live is not None:
            self._live.update(self._group(), refresh=True)

    def drop(self, line: "Line") -> None:
        """Stop showing a line."""
        self._lines.remove(line)
        if self._live is not None and not self._lines:
            self._live.stop()
            self._live = None
        self.refresh()

    def _group(self) -> Group:
        return Group(*(Text(line.text, no_wrap=True, overflow="ellipsis") for line in self._lines))


class Line:
    """What a screen shows of one run.

    Args:
        screen: Screen that shows the line.
        title: Title of the run.
    """

    def __init__(self, screen: Screen, title: str) -> None:
        self._screen = screen
        self._title = title
        self._seen: deque[tuple[float, int]] = deque()
        self._phase = ""
        self._shown = 0.0
        self.text = f"{title}  starting"

    def show(self, beat: Heartbeat) -> None:
        """Show where the run stands, if there is news worth a line."""
        if beat.phase != self._phase:
            self._seen.clear()
        self.text = f"{self._title}  {describe(beat, self._seconds_left(beat))}"
        if self._screen.living:
            self._screen.refresh()
        elif self._plain_line_due(beat):
            self._screen.say(self.text)
        self._phase = beat.phase

    def say(self, text: str) -> None:
        """Print a line that says which run speaks."""
        self._screen.say(f"{self._title}: {text}")

    def end(self, text: str) -> None:
        """Replace the living line by a last one."""
        self._screen.drop(self)
        self._screen.say(f"{self._title}  {text}")

    def _plain_line_due(self, beat: Heartbeat) -> bool:
        now = time.monotonic()
        new_phase = beat.phase != self._phase and beat.num_steps > 0
        if not new_phase and now - self._shown < _PLAIN_EVERY_SECONDS:
            return False
        self._shown = now
        return beat.num_steps > 0

    def _seconds_left(self, beat: Heartbeat) -> float | None:
        """Return the time this phase still takes, from the steps of the last half minute."""
        self._seen.append((beat.time, beat.step))
        while len(self._seen) > 2 and beat.time - self._seen[0][0] > _WINDOW_SECONDS:
            self._seen.popleft()
        elapsed, steps = beat.time - self._seen[0][0], beat.step - self._seen[0][1]
        if steps <= 0 or elapsed <= 0:
            return None
        return (beat.num_steps - beat.step) * elapsed / steps


def describe(beat: Heartbeat, seconds_left: float | None = None) -> str:
    """Return a heartbeat as a short line: phase, step, loss, rate, time left."""
    parts = [clean(beat.phase)]
    if beat.num_steps:
        parts.append(f"{beat.step}/{beat.num_steps}")
    loss = beat.losses.get("loss", sum(beat.losses.values()) if beat.losses else None)
    if loss is not None:
        parts.append(f" loss {loss:.3f}")
    if beat.lr is not None:
        parts.append(f" lr {beat.lr:.1e}")
    if beat.images_per_second:
        parts.append(f" {beat.images_per_second:.1f} images/s")
    if seconds_left is not None:
        parts.append(f" {duration(seconds_left)} left")
    return " ".join(parts)


def duration(seconds: float) -> str:
    """Return a time for people: 42 s, 3 min 05 s, 7 h 12 min, 3.1 days."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02} s"
    if seconds < 48 * 3600:
        return f"{seconds // 3600} h {seconds % 3600 // 60:02} min"
    return f"{seconds / 86400:.1f} days"
