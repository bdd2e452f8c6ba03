"""What a forked process does before its run. Imports no code of a run."""

import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.work.contract import FOLLOW_PARENT


def run_worker(
    arguments: Sequence[str], environment: Mapping[str, str], stdout: Connection, log: Path
) -> None:
    """Make this process what one started by the launcher itself would be, then do the run.

    Args:
        arguments: Arguments of ``benchmarks.work.worker``, whose return value is the exit code.
        environment: All environment variables.
        stdout: Takes the place of standard output.
        log: File that standard error is appended to.
    """
    os.setsid()
    with Path(os.devnull).open() as nothing, log.open("a") as file:
        os.dup2(nothing.fileno(), 0)
        os.dup2(file.fileno(), 2)
    os.dup2(stdout.fileno(), 1)
    stdout.close()
    os.environ.clear()
    os.environ.update({**environment, FOLLOW_PARENT: str(os.getppid())})
    # Loaders start their processes the way they always do, not from the fork server.
    multiprocessing.set_start_method(None, force=True)
    # Imported only now: a run loads the code as it is when the run begins.
    from benchmarks.work import worker

    sys.exit(worker.main(list(arguments)))
