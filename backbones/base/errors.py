"""Mistakes a person can mend, as one sentence and an exit code."""


class UserError(Exception):
    """Wrong usage: an unknown name, a wrong value, a file that is not what it should be.

    The message is the whole report: what is wrong, where, and what to do. The command line prints
    it without a stack trace and ends with ``exit_code``.
    """

    exit_code = 2


class PreflightError(UserError):
    """The request is well formed, but data, disk, weights or devices cannot serve it."""

    exit_code = 4


class StoppedError(Exception):
    """A run stopped at a step boundary with its state saved; starting it again goes on."""
