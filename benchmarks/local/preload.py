"""Load libraries in the process that forks workers, when that process imports this module.

``multiprocessing``'s fork server imports it before the first fork. Only libraries are loaded here:
our own code is imported by every run, so that a record names the code that ran. Nothing is computed
either, because thread pools and devices do not survive a fork.
"""

import contextlib
import gc
import importlib
import os

# Environment variable of the fork server: names of the modules to load, separated by commas.
PRELOAD = "BACKBENCH_PRELOAD"

for _name in filter(None, os.environ.get(PRELOAD, "").split(",")):
    # A library that fails here fails again in the run, which has a log and a record to say so.
    with contextlib.suppress(Exception):
        importlib.import_module(_name)
if PRELOAD in os.environ:
    # Workers then neither visit these objects to collect garbage nor copy their memory pages.
    gc.collect()
    gc.freeze()
