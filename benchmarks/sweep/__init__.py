"""Plan, store, worker, launch: from a command to records."""
