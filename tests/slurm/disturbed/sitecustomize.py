"""Gives real trainings two loader processes on any machine, and a step to be disturbed in.

In the first start of a Slurm job, the second question whether to stop is not answered before
somebody has asked the run to.
"""

import importlib.abc
import importlib.machinery
import os
import sys
import time


def _two_loaders(module):
    module.loader_workers = lambda: 2


def _wait_to_be_asked(module):
    ask, asked = module.WorkerMonitor.should_stop, []

    def should_stop(self):
        asked.append(1)
        first = os.environ.get("SLURM_RESTART_COUNT", "0") == "0" and "SLURM_JOB_ID" in os.environ
        while first and len(asked) == 2 and not ask(self):
            time.sleep(0.02)
        return ask(self)

    module.WorkerMonitor.should_stop = should_stop


_CHANGES = {
    "backbones.base.cores": _two_loaders,
    "benchmarks.work.monitor": _wait_to_be_asked,
}


class _Changed(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name not in _CHANGES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            _CHANGES[name](module)

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, _Changed())
