"""Ctrl-C and SIGTERM as a wish: finish the step, save, leave. Imports no torch."""

import os
import signal
from collections.abc import Callable
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
EXIT_CODE = 130


class Interrupt:
    """Whether somebody asked to stop; a second request ends the process at once.

    Args:
        on_second: Called in the signal handler at every request but the first.
    """

    def __init__(self, on_second: Callable[[], None]) -> None:
        self._pid = os.getpid()
        self._on_second = on_second
        self.requested = False

    def install(self) -> None:
        """Take over the signals, then let those through that were held back until now."""
        for number in SIGNALS:
            signal.signal(number, self._handle)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def request(self) -> None:
        """Ask to stop, as a first signal does."""
        self.requested = True

    def _handle(self, number: int, frame: FrameType | None) -> None:
        # Loader workers are forked with these handlers; only the process that installed them
        # decides, and it ends its workers itself.
        if os.getpid() != self._pid:
            return
        if self.requested:
            self._on_second()
        self.request()
