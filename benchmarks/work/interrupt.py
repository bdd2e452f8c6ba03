"""Ctrl-C and SIGTERM as a wish: finish the step, save, leave."""

import os
import signal
from collections.abc import Callable
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupt:
    """Whether somebody asked to stop; a second request ends the process at once.

    Args:
        on_second: Called in the signal handler at every request but the first.
        also: Further signals that ask to stop.

    Attributes:
        requested: Whether somebody asked.
        signal: The last signal that did; None while none came.
    """

    def __init__(
        self, on_second: Callable[[], None], also: tuple[signal.Signals, ...] = ()
    ) -> None:
        self._pid = os.getpid()
        self._on_second = on_second
        self._signals = (*SIGNALS, *also)
        self.requested = False
        self.signal: signal.Signals | None = None

    def install(self) -> None:
        """Take over the signals, then let those through that were held back until now."""
        for number in self._signals:
            signal.signal(number, self._handle)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._signals)

    def request(self) -> None:
        """Ask to stop, as a first signal does."""
        self.requested = True

    def _handle(self, number: int, frame: FrameType | None) -> None:
        # Loader workers are forked with these handlers; only the process that installed them
        # decides, and it ends its workers itself.
        if os.getpid() != self._pid:
            return
        self.signal = signal.Signals(number)
        if self.requested:
            self._on_second()
        self.request()
