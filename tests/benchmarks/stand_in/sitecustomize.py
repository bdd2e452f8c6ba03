"""Puts the stand-in task in the COCO task's place, in any process that has this folder on its path.

The command line, its workers and the leaderboard then run for real, in fractions of a second and
without torch.
"""

import importlib.util
import sys
from pathlib import Path


class _StandIn:
    def find_spec(self, name, path=None, target=None):
        if name != "benchmarks.tasks.coco":
            return None
        return importlib.util.spec_from_file_location(
            name, Path(__file__).with_name("stand_in_task.py")
        )


sys.meta_path.insert(0, _StandIn())
