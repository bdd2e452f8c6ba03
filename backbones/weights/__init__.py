"""Weights files: ours, and other projects' by the name of their format."""
