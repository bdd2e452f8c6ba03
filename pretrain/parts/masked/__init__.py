"""Parts of masked image models."""
