"""Runs as worker processes of this machine."""
