"""Our own speed against the reference implementations; run with ``make bench``."""
