"""What a launcher and a worker process agree on: exit codes, arguments, environment variables.

This file imports nothing, because the process that forks workers (``benchmarks.local.preload``)
must not load code that a run loads for itself.
"""

# Exit codes of a worker. They are hints; the record is the result.
DONE = 0
FAILED = 3
NO_RECORD = 4
# A run that it needs is not done.
BLOCKED = 69
# Another process does the run.
BUSY = 75
# Another process of the run ended; it continues when it is started again.
LOST = 76
STOPPED = 130

# Argument after the folder: delete the contents of the folder first.
FRESH = "fresh"

# Environment variable: the process whose death ends the worker, which saves its state first.
FOLLOW_PARENT = "BACKBENCH_FOLLOW_PARENT"
# Environment variable: names one start of a run, the same for all of its processes.
TICKET = "BACKBENCH_TICKET"
