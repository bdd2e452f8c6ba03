"""Mistakes a person can fix, as one sentence and an exit code."""

from typing import Self


class UserError(Exception):
    """Wrong usage: an unknown name, a wrong value, a file that is not what it should be.

    The message is the whole report: what is wrong, where, and what to do. The command line prints
    it without a stack trace and ends with ``exit_code``.
    """

    exit_code = 2

    def reworded(self, text: str) -> Self:
        """Return the same error with another message, whatever its class is made from."""
        other = type(self).__new__(type(self), text)
        other.__dict__.update(self.__dict__)
        return other


class PreflightError(UserError):
    """The request is well formed, but data, disk, weights or devices cannot serve it."""

    exit_code = 4


class StoppedError(Exception):
    """A run stopped at a step boundary with its state saved; starting it again goes on."""


class DeviceFullError(PreflightError):
    """A GPU ran out of memory, and fewer images at once would change no result.

    Attributes:
        fewer: Number of images to go on with.
    """

    def __init__(self, held: int, fewer: int) -> None:
        """Say it.

        Args:
            held: Images that were held at once.
            fewer: Images to go on with.
        """
        super().__init__(
            f"The GPU ran out of memory with {held} images at once; {fewer} at once change no "
            f"result (--set schedule.micro_batch={fewer})."
        )
        self.fewer = fewer
