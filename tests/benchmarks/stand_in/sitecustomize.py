"""Puts stand-ins in the place of tasks, in any process that has this folder on its path.

The command line, its workers and the leaderboard then run for real, in fractions of a second and
without torch.
"""

import importlib.util
import os
import sys
from pathlib import Path

_FILES = {
    "benchmarks.tasks.coco.task": "stand_in_task.py",
    "benchmarks.tasks.pretrain.task": "stand_in_pretrain.py",
}


class _StandIn:
    def find_spec(self, name, path=None, target=None):
        if name not in _FILES:
            return None
        return importlib.util.spec_from_file_location(name, Path(__file__).with_name(_FILES[name]))


sys.meta_path.insert(0, _StandIn())


def _die_at(number):
    """End this process by SIGKILL at one of the calls that make writing durable.

    Before one, a file is there and empty; it is written, not flushed; it has its temporary name.
    """
    import os
    import signal
    import threading

    left = [number]

    def dying(call):
        def before(*arguments, **options):
            # The heartbeat's thread writes whenever it likes; nothing depends on it.
            if threading.current_thread() is threading.main_thread():
                left[0] -= 1
                if left[0] < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **options)

        return before

    for name in ("fdopen", "fsync", "replace", "rename"):
        setattr(os, name, dying(getattr(os, name)))


if "benchmarks.work.worker" in " ".join(sys.orig_argv) and "STAND_IN_DIE_AT" in os.environ:
    _die_at(int(os.environ["STAND_IN_DIE_AT"]))
