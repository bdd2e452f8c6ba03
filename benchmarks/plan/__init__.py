"""Which runs a command needs, which are done, and what the rest costs."""
