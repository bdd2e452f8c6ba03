"""One run inside its folder: what a worker process does."""
